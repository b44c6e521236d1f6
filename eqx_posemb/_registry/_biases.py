"""Biases: added to logits, blind to the content."""

from .._bias import ALiBi, KERPLE, T5Bias
from ._variant import Variant


BIASES: tuple[Variant, ...] = (
    Variant(
        name="alibi",
        summary="a fixed penalty linear in the distance",
        place="bias",
        of=ALiBi,
        settings=lambda sizes: dict(heads=sizes.heads),
        causal=True,
    ),
    Variant(
        name="t5",
        summary="a learned number for each bucket of distances",
        place="bias",
        of=T5Bias,
        settings=lambda sizes: dict(heads=sizes.heads, std=sizes.dim**-0.5),
        parameters=("weight",),
        scale=lambda sizes: 1.0,
    ),
    Variant(
        name="kerple",
        summary="a learned penalty logarithmic in the distance",
        place="bias",
        of=KERPLE,
        settings=lambda sizes: dict(heads=sizes.heads, kind="log"),
        parameters=("raw_a", "raw_r"),
    ),
    Variant(
        name="kerple_power",
        summary="a learned penalty that is a power of the distance",
        place="bias",
        of=KERPLE,
        settings=lambda sizes: dict(heads=sizes.heads, kind="power"),
        parameters=("raw_a", "raw_r"),
    ),
)
