"""Rotary embeddings: multiplied into queries and keys."""

from ._variant import SIZES, Variant


_LENGTH = SIZES["length"]


def _eighth(length):
    return max(length // 8, 1)


def _quarter_time(head_dim):
    # As Qwen2-VL has it: 16, 24 and 24 of 64 pairs.
    pairs = head_dim // 2
    space = 3 * pairs // 8
    return (pairs - 2 * space, space, space)


_ROPE = Variant(
    "rope",
    "_rotary._recipes._rope.rope",
    "rotation by angles proportional to the position",
    "transformers, Equinox",
)
ROTARIES = (
    Variant(
        "nope",
        "_rotary._nope.NoPE",
        "no positional embedding; order from the causal mask alone",
        "none needed",
    ),
    _ROPE,
    Variant(
        "proportional_rope",
        "_rotary._recipes._rope.proportional_rope",
        "rotation of the fastest pairs only (p-RoPE, Gemma 4)",
        "transformers",
        dict(fraction=0.5),
    ),
    Variant(
        "xpos",
        "_rotary._recipes._rope.xpos",
        "rotation, with logits that fade towards the past",
        "torchscale",
        traits=("causal",),
    ),
    Variant(
        "linear_rope",
        "_rotary._recipes._stretch.linear_rope",
        "rotation stretched by interpolating positions",
        "transformers",
        dict(factor=4.0),
    ),
    Variant(
        "ntk_rope",
        "_rotary._recipes._stretch.ntk_rope",
        "rotation stretched by a larger base",
        "transformers (Hunyuan)",
        dict(factor=4.0),
    ),
    Variant(
        "dynamic_ntk_rope",
        "_rotary._recipes._stretch.dynamic_ntk_rope",
        "rotation stretched as much as the length in use needs",
        "transformers",
        dict(factor=1.0, original_length=_LENGTH),
    ),
    Variant(
        "yarn",
        "_rotary._recipes._by_parts.yarn",
        "rotation stretched pair by pair, with sharper attention",
        "authors' code, transformers",
        dict(factor=4.0, original_length=_LENGTH),
    ),
    Variant(
        "llama3_rope",
        "_rotary._recipes._by_parts.llama3_rope",
        "rotation stretched pair by pair as in Llama 3.1",
        "transformers",
        dict(factor=8.0, original_length=_LENGTH),
    ),
    Variant(
        "longrope",
        "_rotary._recipes._by_parts.longrope",
        "rotation stretched by searched numbers beyond a length (Phi-3)",
        "transformers",
        # The published numbers belong to a checkpoint. Without one: no change up to
        # the length, interpolation by 4 beyond it.
        dict(
            short_factor=lambda head_dim: (1.0,) * (head_dim // 2),
            long_factor=lambda head_dim: (4.0,) * (head_dim // 2),
            original_length=_LENGTH,
            factor=4.0,
        ),
    ),
    Variant(
        "rerope",
        "_rotary._extension.ReRoPE",
        "rotation that shows far keys at the distance of a window",
        settings=dict(rotary=_ROPE, window=_eighth),
    ),
    Variant(
        "self_extend",
        "_rotary._extension.SelfExtend",
        "rotation that shows far keys in groups",
        settings=dict(rotary=_ROPE, group=4, window=_eighth),
    ),
    Variant(
        "dual_chunk",
        "_rotary._extension.DualChunk",
        "rotation that shows far chunks at one distance (Qwen2.5-1M)",
        settings=dict(
            rotary=_ROPE, chunk=lambda length: 2 * _eighth(length), window=_eighth
        ),
    ),
    Variant(
        "axial_rope",
        "_rotary._recipes._axes.axial_rope",
        "rotation by the row for some channels, by the column for others",
        "transformers",
        axes=2,
    ),
    Variant(
        "mixed_rope",
        "_rotary._recipes._axes.mixed_rope",
        "rotation along learned directions of an image",
        trained=True,
        axes=2,
    ),
    Variant(
        "mrope",
        "_rotary._recipes._axes.mrope",
        "rotation by time, height and width; of text as by rope (Qwen-VL)",
        "transformers",
        dict(sizes=_quarter_time),
        axes=3,
    ),
    Variant(
        "string_rope",
        "_rotary._recipes._axes.string_rope",
        "axial rotation in a learned orthogonal basis (STRING)",
        trained=True,
        axes=2,
    ),
    Variant(
        "liere",
        "_rotary._lie.LieRE",
        "rotation of whole blocks of channels by learned generators",
        settings=dict(block=4, scale=0.2),
        axes=2,
    ),
    Variant(
        "pope",
        "_rotary._pope.PoPE",
        "lengths for content and angles for position (polar coordinates)",
    ),
    Variant(
        "fope",
        "_rotary._fope.FoPE",
        "rotation at learned mixtures of frequencies",
    ),
    Variant(
        "temperature",
        "_rotary._temperature.Temperature",
        "queries that grow with their position (Llama 4)",
        "transformers",
        dict(beta=0.1, length=lambda length: length / 8),
    ),
    Variant(
        "scalable_softmax",
        "_rotary._temperature.ScalableSoftmax",
        "queries that grow with the number of keys they see, learned",
        "transformers (Mistral Large 4)",
    ),
)
