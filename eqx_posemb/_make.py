"""Builds embeddings by their names in the registry."""

import inspect
from collections.abc import Mapping
from typing import Any

from jaxtyping import PRNGKeyArray

from ._bundle import PositionalEmbedding
from ._checks import check_count, check_key
from ._registry import resolved, SIZES, Variant, variant


def make(
    name: str,
    *,
    heads: int | None = None,
    head_dim: int | None = None,
    dim: int | None = None,
    length: int | None = None,
    key: PRNGKeyArray | None = None,
    **settings: Any,
) -> PositionalEmbedding:
    """Builds any embedding of the registry by its name.

    A model can choose its embedding by a string, and an experiment can loop over all
    names. Give the sizes that the embedding needs, or all sizes of the model. Rotary
    embeddings read `head_dim`, encodings read `dim`, and biases read `heads`. An error
    lists the missing sizes. Settings that a paper leaves to the user, such as a scaling
    factor, have an example value, and `eqx-posemb show NAME` prints the values.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        embedding = pe.make("rope", head_dim=64)
        assert embedding.rotary == pe.rope(64)

        sizes = dict(heads=8, head_dim=64, dim=512, length=2048)
        embedding = pe.make("yarn", key=jax.random.key(0), factor=8.0, **sizes)
        assert embedding.rotary == pe.yarn(64, factor=8.0, original_length=2048)
        ```

    **Arguments:**

    - `name`: One of the names that [`eqx_posemb.variants`][] lists.
    - `heads`: The number of heads of queries.
    - `head_dim`: The number of channels of a head.
    - `dim`: The number of channels of a token.
    - `length`: The context length, in positions, that the model is trained on.
    - `key`: A `jax.random` key, for the variants that have parameters.
    - `settings`: Settings of the class or recipe behind the name.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][].

    **Raises:** a `ValueError` if `name` or a setting is unknown, or if a size is
    missing or not positive. The class or recipe raises errors of its own.
    """
    row = variant(name)
    if key is not None:
        check_key(key)
    sizes = dict(heads=heads, head_dim=head_dim, dim=dim, length=length)
    sizes = {size: value for size, value in sizes.items() if value is not None}
    for size, value in sizes.items():
        check_count(size, value, 1)
    accepts = [parameter for parameter in _parameters(row) if parameter != "key"]
    unknown = sorted(settings.keys() - set(accepts))
    if unknown:
        raise ValueError(
            f"`{name}` has the settings {', '.join(accepts)}, but got "
            f"{', '.join(unknown)}."
        )
    given = sizes if key is None else {**sizes, "key": key}
    needed = row.needed(_parameters, settings)
    # All missing sizes are named in one error.
    if not needed <= given.keys():
        order = [f"`{size}`" for size in SIZES if size in needed]
        missing = [f"`{size}`" for size in SIZES if size in needed - given.keys()]
        raise ValueError(
            f"`make({name!r})` must have {', '.join(order)}, but got no "
            f"{' and no '.join(missing)}."
        )
    part = _part(row, given, settings)
    # Some papers change the scale of the logits together with the embedding, as T5
    # does.
    return PositionalEmbedding(**{row.place: part}, scale=resolved(row.scale, given))


def _parameters(row: Variant) -> dict[str, bool]:
    """The arguments of the class or recipe, and which of them are required."""
    parameters = inspect.signature(row.of).parameters
    empty = inspect.Parameter.empty
    return {name: value.default is empty for name, value in parameters.items()}


def _part(row: Variant, given: Mapping[str, Any], settings: Mapping[str, Any]) -> Any:
    made = {
        name: _part(value, given, {})
        if isinstance(value, Variant)
        else resolved(value, given)
        for name, value in row.given(_parameters(row)).items()
        if name not in settings
    }
    return row.of(**made, **settings)
