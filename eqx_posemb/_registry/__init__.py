"""The registry: a row for each published variant. No file here imports JAX."""

from .._checks import described
from ._rows import VARIANTS as VARIANTS
from ._variant import (
    did_you_mean as did_you_mean,
    resolved as resolved,
    SIZES as SIZES,
    Variant as Variant,
)


EXAMPLE = dict(heads=8, head_dim=64, dim=512, length=2048)
"""The sizes of a model that the command line shows variants for."""


def variants() -> tuple[str, ...]:
    """The names that [`eqx_posemb.make`][] knows.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert "rope" in pe.variants()
        ```

    **Returns:** the names of all variants, in the order of the registry.
    """
    return tuple(row.name for row in VARIANTS)


def variant(name: str) -> Variant:
    """Returns the row of that name, or raises an error with the similar names."""
    for row in VARIANTS:
        if row.name == name:
            return row
    meant = did_you_mean(name, variants())
    # A list of all names would hide the suggestion.
    known = "the names of variants" if meant else ", ".join(variants())
    raise ValueError(
        f"`name` must be one of {known}, but got {described(name)}.{meant} "
        "`eqx_posemb.variants()` lists the names."
    )
