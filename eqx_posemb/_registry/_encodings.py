"""Encodings: added to tokens."""

import math

from .._encoding import (
    AxialLearned,
    Fourier,
    GaussianFourier,
    Learned,
    LearnedBox,
    LearnedFourier,
    LearnedGrid,
    ScaledSinusoidal,
    Sinusoidal,
    SinusoidalGrid,
)
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
        oracle="transformers, fairseq",
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
    ),
    Variant(
        name="scaled_sinusoidal",
        summary="sines and cosines times a learned number added to tokens",
        place="encoding",
        of=ScaledSinusoidal,
        oracle="x-transformers",
        settings=lambda sizes: dict(dim=sizes.dim),
        parameters=("scale",),
        relative=False,
    ),
    Variant(
        name="learned",
        summary="a learned vector for each position added to tokens",
        place="encoding",
        of=Learned,
        oracle="transformers (OPT, RoBERTa)",
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
        oracle="MAE, MoCo v3, timm, DETR",
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="sinusoidal_video",
        summary="sines and cosines of frames, rows and columns added to tubelets",
        place="encoding",
        of=SinusoidalGrid,
        oracle="V-JEPA, positional-encodings",
        settings=lambda sizes: dict(dim=sizes.dim, axes=3, layout="v_jepa"),
        relative=False,
        axes=lambda sizes: 3,
    ),
    Variant(
        name="learned_grid",
        summary="a learned vector for each cell of a grid added to patches",
        place="encoding",
        of=LearnedGrid,
        oracle="transformers (ViT, DINOv2), torch",
        settings=lambda sizes: dict(shape=square(sizes), dim=sizes.dim, prefix=1),
        parameters=("weight", "prefix"),
        relative=False,
        bounded=True,
        axes=lambda sizes: 2,
        prefix=1,
    ),
    Variant(
        name="axial",
        summary="learned vectors of the row and the column, concatenated",
        place="encoding",
        of=AxialLearned,
        oracle="transformers (Reformer)",
        settings=lambda sizes: dict(
            shape=square(sizes),
            dim=sizes.dim,
            dims=(sizes.dim // 2, sizes.dim - sizes.dim // 2),
        ),
        parameters=("weights[0]", "weights[1]"),
        relative=False,
        bounded=True,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="learned_box",
        summary="learned vectors of the edges and the size of a box on a page",
        place="encoding",
        of=LearnedBox,
        oracle="transformers (LayoutLM)",
        settings=lambda sizes: dict(dim=sizes.dim),
        parameters=("x", "y", "height", "width"),
        relative=False,
        axes=lambda sizes: 4,
    ),
    Variant(
        name="fourier",
        summary="sines and cosines at every scale of a box (Perceiver)",
        place="encoding",
        of=Fourier,
        oracle="transformers (Perceiver)",
        settings=lambda sizes: dict(
            bands=sizes.dim // 4,
            resolution=square(sizes),
            include_positions=False,
        ),
        relative=False,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="gaussian_fourier",
        summary="waves of fixed random directions (SAM)",
        place="encoding",
        of=GaussianFourier,
        oracle="transformers (SAM)",
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="learned_fourier",
        summary="a small network over waves of learned directions",
        place="encoding",
        of=LearnedFourier,
        oracle="learnable_fourier_positional_encoding",
        settings=lambda sizes: dict(dim=sizes.dim),
        parameters=("waves", "hidden_weight", "hidden_bias", "weight", "bias"),
        relative=False,
        axes=lambda sizes: 2,
    ),
)
