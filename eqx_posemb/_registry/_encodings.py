"""Encodings: added to tokens."""

from ._variant import square, Variant


def _half_and_rest(dim):
    return dim // 2, dim - dim // 2


ENCODINGS = (
    Variant(
        "sinusoidal",
        "_encoding._sinusoidal.Sinusoidal",
        "sines and cosines added to tokens",
        "transformers, fairseq",
    ),
    Variant(
        "scaled_sinusoidal",
        "_encoding._scaled_sinusoidal.ScaledSinusoidal",
        "sines and cosines times a learned number added to tokens",
        "x-transformers",
    ),
    Variant(
        "learned",
        "_encoding._learned.Learned",
        "a learned vector for each position added to tokens",
        "transformers (OPT, RoBERTa)",
    ),
    Variant(
        "sinusoidal_grid",
        "_encoding._sinusoidal_grid.SinusoidalGrid",
        "sines and cosines of rows and columns added to patches",
        "MAE, MoCo v3, timm, DETR",
        axes=2,
    ),
    Variant(
        "sinusoidal_video",
        "_encoding._sinusoidal_grid.SinusoidalGrid",
        "sines and cosines of frames, rows and columns added to tubelets",
        "V-JEPA, positional-encodings",
        dict(axes=3, layout="v_jepa"),
        axes=3,
    ),
    Variant(
        "learned_grid",
        "_encoding._learned_grid.LearnedGrid",
        "a learned vector for each cell of a grid added to patches",
        "transformers (ViT, DINOv2), torch",
        dict(shape=square, prefix=1),
        axes=2,
        prefix=1,
    ),
    Variant(
        "axial",
        "_encoding._axial.AxialLearned",
        "learned vectors of the row and the column, concatenated",
        "transformers (Reformer)",
        dict(shape=square, dims=_half_and_rest),
        axes=2,
    ),
    Variant(
        "learned_box",
        "_encoding._box.LearnedBox",
        "learned vectors of the edges and the size of a box on a page",
        "transformers (LayoutLM)",
        axes=4,
    ),
    Variant(
        "fourier",
        "_encoding._fourier.Fourier",
        "sines and cosines at every scale of a box (Perceiver)",
        "transformers (Perceiver)",
        dict(bands=lambda dim: dim // 4, resolution=square, include_positions=False),
        axes=2,
    ),
    Variant(
        "gaussian_fourier",
        "_encoding._fourier.GaussianFourier",
        "waves of fixed random directions (SAM)",
        "transformers (SAM)",
        axes=2,
    ),
    Variant(
        "learned_fourier",
        "_encoding._learned_fourier.LearnedFourier",
        "a small network over waves of learned directions",
        "learnable_fourier_positional_encoding",
        axes=2,
    ),
)
