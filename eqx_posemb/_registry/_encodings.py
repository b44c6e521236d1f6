"""Encodings: added to tokens."""

from .._encoding import Learned, Sinusoidal
from ._variant import Variant


ENCODINGS: tuple[Variant, ...] = (
    Variant(
        name="sinusoidal",
        summary="sines and cosines added to tokens",
        place="encoding",
        of=Sinusoidal,
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
    ),
    Variant(
        name="learned",
        summary="a learned vector for each position added to tokens",
        place="encoding",
        of=Learned,
        settings=lambda sizes: dict(length=sizes.length, dim=sizes.dim),
        parameters=("weight",),
        relative=False,
        bounded=True,
    ),
)
