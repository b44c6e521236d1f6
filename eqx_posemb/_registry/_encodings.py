"""Encodings: added to tokens."""

import math

from .._encoding import Learned, LearnedGrid, Sinusoidal, SinusoidalGrid
from ._variant import Sizes, Variant


def square(sizes: Sizes) -> tuple[int, int]:
    """The shape of the smallest square grid that has a cell for every position."""
    side = math.isqrt(sizes.length - 1) + 1
    return side, side


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
    Variant(
        name="sinusoidal_grid",
        summary="sines and cosines of rows and columns added to patches",
        place="encoding",
        of=SinusoidalGrid,
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="sinusoidal_video",
        summary="sines and cosines of frames, rows and columns added to tubelets",
        place="encoding",
        of=SinusoidalGrid,
        settings=lambda sizes: dict(dim=sizes.dim, axes=3, layout="v_jepa"),
        relative=False,
        axes=lambda sizes: 3,
    ),
    Variant(
        name="learned_grid",
        summary="a learned vector for each cell of a grid added to patches",
        place="encoding",
        of=LearnedGrid,
        settings=lambda sizes: dict(shape=square(sizes), dim=sizes.dim, prefix=1),
        parameters=("weight", "prefix"),
        relative=False,
        bounded=True,
        axes=lambda sizes: 2,
        prefix=1,
    ),
)
