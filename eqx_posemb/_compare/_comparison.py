"""`eqx_posemb.compare`, and what it returns. The experiment is imported in a call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TYPE_CHECKING

import jax

from .._catalogue import Refused


if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._model import Decoder


class Comparison:
    """The result of a comparison: numbers, tables, a figure and the trained models.

    [`eqx_posemb.compare`][] returns it.

    !!! Example

        ```python
        import eqx_posemb as pe

        found = pe.compare(
            ["nope"],
            text=b"to be or not to be " * 100,
            tasks=["text"], length=8, multiples=[1], steps=1,
            batch=2, dim=8, heads=2, depth=1, passages=2, progress=False,
        )
        bits = found.results["results"]["nope"]["scores"]["text"]
        assert list(bits) == ["1"]
        print(found.to_csv().splitlines()[0])
        ```

        ```output
        task,measure,embedding,multiple,length,seed,value
        ```
    """

    results: dict[str, Any]
    """All numbers and all settings, as `results.json` has them."""

    def __init__(
        self, results: dict[str, Any], models: Mapping[str, Mapping[str, Any]]
    ):
        self.results = results
        self._models = models

    def model(self, name: str, task: str = "text", seed: int = 0) -> "Decoder":
        """A trained model, whose field `embedding` is the trained embedding.

        **Arguments:**

        - `name`: the name of its embedding.
        - `task`: the task of its training.
        - `seed`: which of the seeds, counted from 0.

        **Returns:** a model that takes tokens, [batch, seq], and returns logits.

        **Raises:** a `ValueError` if there is no such model.
        """
        trained = {
            f"{n} ({t})": m for t, of in self._models.items() for n, m in of.items()
        }
        if f"{name} ({task})" not in trained:
            raise ValueError(
                f"`name` and `task` must be of a trained model, {', '.join(trained)}, "
                f"but got {name} ({task})."
            )
        import equinox as eqx

        # The models of all seeds are stacked along a first axis.
        of_seed = lambda x: x[seed] if eqx.is_array(x) else x
        return jax.tree.map(of_seed, trained[f"{name} ({task})"])

    def table(self) -> str:
        """A table for each task and all settings under it, as Markdown."""
        from ._report import table

        return table(self.results)

    __repr__ = __str__ = table
    _repr_markdown_ = table

    def to_csv(self, path: str | Path | None = None) -> str:
        """The numbers, a line for each embedding, length and seed.

        **Arguments:**

        - `path`: a file to write, if any.

        **Returns:** the text of the file.
        """
        from ._report import as_csv

        return _written(path, as_csv(self.results))

    def to_json(self, path: str | Path | None = None) -> str:
        """All numbers and all settings, as `results.json` has them.

        **Arguments:**

        - `path`: a file to write, if any.

        **Returns:** the text of the file.
        """
        from ._report import as_json

        return _written(path, as_json(self.results))

    def plot(
        self, path: str | Path | BinaryIO | None = None, kind: str | None = None
    ) -> "Figure":
        """The figure of [`eqx_posemb.plot.extrapolation`][], with a panel for each
        task. It needs Matplotlib.

        **Arguments:**

        - `path`: a file to write, if any.
        - `kind`: the format, by default the suffix of `path`.

        **Returns:** a Matplotlib figure.
        """
        import matplotlib

        from ..plot import extrapolation

        # A vector file keeps text as text, and not as outlines.
        with matplotlib.rc_context({"svg.fonttype": "none", "font.size": 8}):
            figure = extrapolation(self.results)
            if path is not None:
                if kind is None and isinstance(path, str | Path):
                    kind = Path(path).suffix.removeprefix(".")
                # Without a date, equal results give equal files.
                dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
                metadata = dates.get(kind or "")
                figure.savefig(path, format=kind, dpi=300, metadata=metadata)
        return figure


def _written(path, text):
    if path is not None:
        Path(path).write_text(text, "utf-8")
    return text


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
    given: dict[str, Any] = dict(
        tasks=tasks, length=length, multiples=multiples, steps=steps, batch=batch,
        dim=dim, heads=heads, depth=depth, learning_rate=learning_rate,
        position_rate=position_rate, seed=seed, seeds=seeds, passages=passages,
    )  # fmt: skip
    from ._run import run

    try:
        return run(embeddings, text, quick=quick, out=out, progress=progress, **given)
    except Refused as refused:
        raise ValueError(str(refused)) from refused
