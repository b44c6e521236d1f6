"""Every published variant, and how to build it by name."""

import difflib
import inspect
from collections.abc import Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from .._bundle import PositionalEmbedding
from .._checks import check_at_least
from ._biases import BIASES
from ._encodings import ENCODINGS
from ._grid_biases import GRID_BIASES
from ._rotaries import ROTARIES
from ._scores import SCORES
from ._variant import Sizes, Variant


VARIANTS = (*ENCODINGS, *ROTARIES, *BIASES, *GRID_BIASES, *SCORES)


def variants() -> tuple[str, ...]:
    """The names that [`eqx_posemb.make`][] knows.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert "rope" in pe.variants()
        ```

    **Returns:** the names of all variants, in the order of the registry.
    """
    return tuple(variant.name for variant in VARIANTS)


def variant(name: str) -> Variant:
    """The row of that name. If there is none, the error names what is close."""
    for row in VARIANTS:
        if row.name == name:
            return row
    raise ValueError(
        f"`name` must be one of {', '.join(variants())}, but got {name!r}."
        + did_you_mean(name, variants())
    )


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A question that names what is close to `name`; nothing if nothing is."""
    close = difflib.get_close_matches(name.lower(), names, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def make(
    name: str,
    *,
    heads: int,
    head_dim: int,
    dim: int,
    length: int,
    key: PRNGKeyArray,
    **settings: Any,
) -> PositionalEmbedding:
    """Builds any embedding of the registry by its name.

    So that a model can have its embedding chosen by a string, and an experiment can
    loop over all of them. What a variant does not need it does not look at: rotary
    embeddings read `head_dim`, encodings `dim`, biases `heads`. Settings that a paper
    leaves to the user, such as the factor of a stretch, have an example value here;
    `eqx-posemb show NAME` prints them.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        embedding = pe.make(
            "yarn",
            heads=8,
            head_dim=64,
            dim=512,
            length=2048,
            key=jax.random.key(0),
            factor=8.0,
        )
        assert embedding.rotary is not None
        ```

    **Arguments:**

    - `name`: A name from [`eqx_posemb.variants`][].
    - `heads`: The number of heads of queries.
    - `head_dim`: The number of channels of a head.
    - `dim`: The number of channels of a token.
    - `length`: The context length, in positions, that the model is trained on.
    - `key`: A `jax.random` key, for the variants that have parameters.
    - `settings`: Settings of the class or recipe behind the name.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][].

    **Raises:** a `ValueError` if `name` or a setting is unknown, if a size is not
    positive, or as the class or recipe does.
    """
    row = variant(name)
    sizes = Sizes(heads, head_dim, dim, length)
    for field, value in sizes._asdict().items():
        check_at_least(field, value, 1)
    unknown = sorted(settings.keys() - set(row.accepts()))
    if unknown:
        raise ValueError(
            f"`{name}` has the settings {', '.join(row.accepts())}, but got "
            f"{', '.join(unknown)}."
        )
    given = {**row.settings(sizes), **settings}
    if "key" in inspect.signature(row.of).parameters:
        given["key"] = key
    scale = None if row.scale is None else row.scale(sizes)
    return PositionalEmbedding(**{row.place: row.of(**given)}, scale=scale)
