"""Biases: added to logits, blind to the content."""

from ._variant import SIZES, square, Variant


_HEADS = SIZES["heads"]


def _tupe_scale(head_dim):
    return (2 * head_dim) ** -0.5


BIASES = (
    Variant(
        "alibi",
        "_bias._alibi.ALiBi",
        "a fixed penalty linear in the distance",
        "transformers (Bloom, MPT)",
        dict(heads=_HEADS),
        traits=("causal",),
    ),
    Variant(
        "alibi_symmetric",
        "_bias._alibi.ALiBi",
        "a fixed penalty linear in the distance, to either side",
        settings=dict(heads=_HEADS, form="symmetric"),
    ),
    Variant(
        "alibi_one_sided",
        "_bias._alibi.ALiBi",
        "a fixed linear penalty; half of the heads look back, half ahead",
        settings=dict(heads=_HEADS, form="one_sided"),
    ),
    Variant(
        "alibi_asymmetric",
        "_bias._alibi.ALiBi",
        "a fixed linear penalty, half a step less for the past (DeepMind)",
        settings=dict(heads=_HEADS, form="asymmetric"),
    ),
    Variant(
        "learned_alibi",
        "_bias._learned_alibi.LearnedALiBi",
        "a penalty linear in the distance with learned slopes",
        traits=("causal",),
    ),
    Variant(
        "t5",
        "_bias._t5.T5Bias",
        "a learned number for each bucket of distances",
        "transformers",
        dict(std=lambda dim: dim**-0.5),
        scale=1.0,
    ),
    Variant(
        "kerple",
        "_bias._kerple.KERPLE",
        "a learned penalty logarithmic in the distance",
        settings=dict(kind="log"),
    ),
    Variant(
        "kerple_power",
        "_bias._kerple.KERPLE",
        "a learned penalty that is a power of the distance",
        settings=dict(kind="power"),
    ),
    Variant(
        "sandwich",
        "_bias._sandwich.Sandwich",
        "a fixed penalty, the product of sinusoidal encodings",
    ),
    Variant(
        "fire",
        "_bias._fire.FIRE",
        "a learned function of the distance relative to the position",
        settings=dict(threshold=lambda length: max(1.0, length / 4)),
    ),
    Variant("tisa", "_bias._tisa.TISA", "a learned sum of bumps over the distance"),
    Variant(
        "dynamic_bias",
        "_bias._dynamic.DynamicBias",
        "a small network of the distance",
        settings=dict(width=lambda dim: max(1, dim // 4)),
    ),
    Variant(
        "clipped",
        "_bias._clipped.ClippedBias",
        "a learned number for each distance up to one (AlphaFold)",
    ),
    Variant(
        "forgetting",
        "_bias._forgetting.Forgetting",
        "a penalty of what tokens forget, from positions they make",
        axes=_HEADS,
    ),
    Variant(
        "tupe_absolute",
        "_bias._tupe.TUPE",
        "products of positions projected apart from the content",
        "authors' code",
        scale=_tupe_scale,
    ),
    Variant(
        "tupe",
        "_bias._tupe.tupe",
        "untied absolute positions, T5's bias, and [CLS] apart",
        "authors' code",
        scale=_tupe_scale,
        traits=("absolute", "bounded"),
        trained=True,
    ),
    Variant(
        "grid_alibi",
        "_bias._grid_alibi.GridALiBi",
        "a fixed penalty linear in the distance on a grid",
        axes=2,
    ),
    Variant(
        "t5_grid",
        "_bias._t5_grid.T5GridBias",
        "a learned number for each bucket of distances along each axis",
        "transformers (LayoutLMv3, UDOP)",
        axes=2,
        trained=True,
    ),
    Variant(
        "swin",
        "_bias._swin.SwinBias",
        "a learned number for each difference of rows and columns",
        "transformers",
        dict(window=square),
        axes=2,
    ),
    Variant(
        "log_cpb",
        "_bias._log_cpb.LogCPB",
        "a small network over differences of rows and columns (SwinV2)",
        "transformers",
        dict(window=square),
        axes=2,
    ),
    Variant(
        "beit",
        "_bias._beit.BEiTBias",
        "a table of differences of patches, and three numbers for [CLS]",
        "transformers",
        dict(window=square),
        axes=2,
        prefix=1,
    ),
    Variant(
        "levit",
        "_bias._levit.LeViTBias",
        "a learned number for distances in rows and columns, signs aside",
        "transformers",
        dict(window=square),
        axes=2,
    ),
)
