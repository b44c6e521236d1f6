"""`eqx_posemb.compare`, which imports the experiment in a call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .._catalogue import Refused
from ._comparison import Comparison


def compare(
    embeddings: Mapping[str, Any] | Sequence[str] | str | None = None,
    *,
    text: bytes | str | Path | Sequence[str | Path] | None = None,
    tasks: Sequence[str] | None = None,
    length: int | None = None,
    multiples: Sequence[int] | None = None,
    steps: int | None = None,
    batch: int | None = None,
    dim: int | None = None,
    heads: int | None = None,
    depth: int | None = None,
    learning_rate: float | None = None,
    position_rate: float | None = None,
    seed: int | None = None,
    seeds: int | None = None,
    passages: int | None = None,
    quick: bool = False,
    out: str | Path | None = None,
    progress: bool = True,
) -> Comparison:
    """Trains a small model with each embedding, and tests it beyond its length.

    The models differ in the embedding alone. All start from the same weights, and have
    the same data in the same order and the same optimizer. `eqx-posemb compare` calls
    this function. It uses all devices of all hosts, computes in float32 on a CPU and in
    bfloat16 on accelerators, and trains all seeds together. It needs the extra
    `compare`.

    !!! Example

        ```python
        import eqx_posemb as pe

        def window(sizes, key):  # A custom embedding, from the sizes of the model.
            return pe.ClippedBias(heads=sizes.heads, max_distance=4, key=key)

        found = pe.compare(
            {"window": window},  # Beside others, such as "rope+yarn": "rope+yarn".
            text=b"to be or not to be " * 100,
            tasks=["text"], length=8, multiples=[1], steps=1,
            batch=2, dim=8, heads=2, depth=1, passages=2, progress=False,
        )
        print(found.table().splitlines()[2])
        ```

        ```output
        | embedding   |       1× (8) |
        ```

    **Arguments:**

    - `embeddings`: Names of [`eqx_posemb.variants`][], or a dictionary from the names
        in the table to one of four values. A value is a name, an embedding, a pair
        `(name, extension)`, or a function `f(sizes, key)`. The function builds an
        embedding from `sizes.heads`, `sizes.head_dim`, `sizes.dim` and `sizes.length`.
        The extension is a function `f(embedding, factor)` from a trained embedding to
        the embedding for a context that is `factor` times longer. A name such as
        `"rope+yarn"` is the pair `("rope", "yarn")`. The extensions with a name are
        `linear`, `ntk`, `dynamic`, `yarn`, `llama3`, `longrope`, `rerope`,
        `self_extend` and `dual_chunk`. The default are eleven well-known names.
    - `text`: Files, or bytes, whose last tenth is held out. By default it is the source
        code of Python's standard library, with every tenth file held out.
    - `tasks`: Some of `"text"`, `"recall"`, `"copy"` and `"passkey"`. By default the
        first two. All but `"text"` are generated, and measure what a model retrieves.
    - `length`: The training length, in tokens.
    - `multiples`: The lengths of the tests, as multiples of `length`.
    - `steps`, `batch`: The number of training steps, and of examples in a step.
    - `dim`, `heads`, `depth`: The size of the model.
    - `learning_rate`: The largest learning rate.
    - `position_rate`: How much faster the parameters of an embedding learn. With 1 all
        parameters learn equally fast.
    - `seed`, `seeds`: The first seed and the number of seeds. Tables have the mean and
        the standard deviation over seeds.
    - `passages`: The number of passages of the longest length in a test.
    - `quick`: Whether all other settings are smaller, for a first look within a minute.
    - `out`: A folder for `results.json`, tables, figures and checkpoints. A run into
        the same folder continues from them.
    - `progress`: Whether to print the current step, the time left and finished rows.

    **Returns:** a [`eqx_posemb.Comparison`][].

    **Raises:** a `ValueError` for unknown names, for settings that do not fit, and for
    a text that is too short. The same for a folder with results of other settings.
    """
    from ._run import run

    try:
        return run(
            embeddings, text, quick=quick, out=out, progress=progress,
            tasks=tasks, length=length, multiples=multiples, steps=steps, batch=batch,
            dim=dim, heads=heads, depth=depth, learning_rate=learning_rate,
            position_rate=position_rate, seed=seed, seeds=seeds, passages=passages,
        )  # fmt: skip
    except Refused as refused:
        raise ValueError(str(refused)) from refused
