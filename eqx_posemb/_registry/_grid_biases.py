"""Biases of grids: added to logits, by rows and columns."""

from .._bias import BEiTBias, GridALiBi, LeViTBias, LogCPB, SwinBias, T5GridBias
from ._encodings import square
from ._variant import Variant


GRID_BIASES: tuple[Variant, ...] = (
    Variant(
        name="grid_alibi",
        summary="a fixed penalty linear in the distance on a grid",
        place="bias",
        of=GridALiBi,
        oracle="formula",
        settings=lambda sizes: dict(heads=sizes.heads),
        axes=lambda sizes: 2,
    ),
    Variant(
        name="t5_grid",
        summary="a learned number for each bucket of distances along each axis",
        place="bias",
        of=T5GridBias,
        oracle="transformers (LayoutLMv3, UDOP)",
        settings=lambda sizes: dict(heads=sizes.heads),
        parameters=("biases[0].weight", "biases[1].weight"),
        axes=lambda sizes: 2,
    ),
    Variant(
        name="swin",
        summary="a learned number for each difference of rows and columns",
        place="bias",
        of=SwinBias,
        oracle="transformers",
        settings=lambda sizes: dict(window=square(sizes), heads=sizes.heads),
        parameters=("weight",),
        bounded=True,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="log_cpb",
        summary="a small network over differences of rows and columns (SwinV2)",
        place="bias",
        of=LogCPB,
        oracle="transformers",
        settings=lambda sizes: dict(window=square(sizes), heads=sizes.heads),
        parameters=("hidden_weight", "hidden_bias", "weight"),
        bounded=True,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="beit",
        summary="a table of differences of patches, and three numbers for [CLS]",
        place="bias",
        of=BEiTBias,
        oracle="transformers",
        settings=lambda sizes: dict(window=square(sizes), heads=sizes.heads),
        parameters=("weight", "cls"),
        relative=False,
        bounded=True,
        axes=lambda sizes: 2,
        prefix=1,
    ),
    Variant(
        name="levit",
        summary="a learned number for distances in rows and columns, signs aside",
        place="bias",
        of=LeViTBias,
        oracle="transformers",
        settings=lambda sizes: dict(window=square(sizes), heads=sizes.heads),
        parameters=("weight",),
        bounded=True,
        axes=lambda sizes: 2,
    ),
)
