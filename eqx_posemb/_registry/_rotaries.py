"""Rotary embeddings: multiplied into queries and keys."""

from .._rotary import (
    axial_rope,
    DualChunk,
    dynamic_ntk_rope,
    FoPE,
    LieRE,
    linear_rope,
    llama3_rope,
    longrope,
    mixed_rope,
    mrope,
    NoPE,
    ntk_rope,
    PoPE,
    proportional_rope,
    ReRoPE,
    rope,
    ScalableSoftmax,
    SelfExtend,
    string_rope,
    Temperature,
    xpos,
    yarn,
)
from ._variant import Variant


ROTARIES: tuple[Variant, ...] = (
    Variant(
        name="nope",
        summary="no positional embedding; order from the causal mask alone",
        place="rotary",
        of=NoPE,
        oracle="none needed",
        settings=lambda sizes: {},
    ),
    Variant(
        name="rope",
        summary="rotation by angles proportional to the position",
        place="rotary",
        of=rope,
        oracle="transformers, Equinox",
        settings=lambda sizes: dict(dim=sizes.head_dim),
    ),
    Variant(
        name="proportional_rope",
        summary="rotation of the fastest pairs only (p-RoPE, Gemma 4)",
        place="rotary",
        of=proportional_rope,
        oracle="transformers",
        settings=lambda sizes: dict(dim=sizes.head_dim, fraction=0.5),
    ),
    Variant(
        name="xpos",
        summary="rotation, with logits that fade towards the past",
        place="rotary",
        of=xpos,
        oracle="torchscale",
        settings=lambda sizes: dict(dim=sizes.head_dim),
        causal=True,
    ),
    Variant(
        name="linear_rope",
        summary="rotation stretched by interpolating positions",
        place="rotary",
        of=linear_rope,
        oracle="transformers",
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="ntk_rope",
        summary="rotation stretched by a larger base",
        place="rotary",
        of=ntk_rope,
        oracle="transformers (Hunyuan)",
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="dynamic_ntk_rope",
        summary="rotation stretched as much as the length in use needs",
        place="rotary",
        of=dynamic_ntk_rope,
        oracle="transformers",
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=1.0, original_length=sizes.length
        ),
        dynamic=True,
    ),
    Variant(
        name="yarn",
        summary="rotation stretched pair by pair, with sharper attention",
        place="rotary",
        of=yarn,
        oracle="authors' code, transformers",
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=4.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="llama3_rope",
        summary="rotation stretched pair by pair as in Llama 3.1",
        place="rotary",
        of=llama3_rope,
        oracle="transformers",
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=8.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="longrope",
        summary="rotation stretched by searched numbers beyond a length (Phi-3)",
        place="rotary",
        of=longrope,
        oracle="transformers",
        # The published numbers belong to a checkpoint. Without one: no change up to
        # the length, interpolation by 4 beyond it.
        settings=lambda sizes: dict(
            dim=sizes.head_dim,
            short_factor=(1.0,) * (sizes.head_dim // 2),
            long_factor=(4.0,) * (sizes.head_dim // 2),
            original_length=sizes.length,
            factor=4.0,
        ),
        dynamic=True,
    ),
    Variant(
        name="rerope",
        summary="rotation that shows far keys at the distance of a window",
        place="rotary",
        of=ReRoPE,
        oracle="formula",
        settings=lambda sizes: dict(
            rotary=rope(sizes.head_dim), window=_eighth(sizes.length)
        ),
        causal=True,
    ),
    Variant(
        name="self_extend",
        summary="rotation that shows far keys in groups",
        place="rotary",
        of=SelfExtend,
        oracle="formula",
        settings=lambda sizes: dict(
            rotary=rope(sizes.head_dim), group=4, window=_eighth(sizes.length)
        ),
        relative=False,
        causal=True,
    ),
    Variant(
        name="dual_chunk",
        summary="rotation that shows far chunks at one distance (Qwen2.5-1M)",
        place="rotary",
        of=DualChunk,
        oracle="formula",
        settings=lambda sizes: dict(
            rotary=rope(sizes.head_dim),
            chunk=2 * _eighth(sizes.length),
            window=_eighth(sizes.length),
        ),
        relative=False,
        causal=True,
    ),
    Variant(
        name="axial_rope",
        summary="rotation by the row for some channels, by the column for others",
        place="rotary",
        of=axial_rope,
        oracle="transformers",
        settings=lambda sizes: dict(dim=sizes.head_dim),
        axes=lambda sizes: 2,
    ),
    Variant(
        name="mixed_rope",
        summary="rotation along learned directions of an image",
        place="rotary",
        of=mixed_rope,
        oracle="formula",
        settings=lambda sizes: dict(dim=sizes.head_dim, heads=sizes.heads),
        parameters=("frequencies.weight",),
        axes=lambda sizes: 2,
    ),
    Variant(
        name="mrope",
        summary="rotation by time, height and width; of text as by rope (Qwen-VL)",
        place="rotary",
        of=mrope,
        oracle="transformers",
        settings=lambda sizes: dict(
            dim=sizes.head_dim, sizes=_quarter_time(sizes.head_dim // 2)
        ),
        axes=lambda sizes: 3,
    ),
    Variant(
        name="string_rope",
        summary="axial rotation in a learned orthogonal basis (STRING)",
        place="rotary",
        of=string_rope,
        oracle="formula",
        settings=lambda sizes: dict(dim=sizes.head_dim),
        parameters=("parts[0].generator",),
        axes=lambda sizes: 2,
    ),
    Variant(
        name="liere",
        summary="rotation of whole blocks of channels by learned generators",
        place="rotary",
        of=LieRE,
        oracle="formula",
        settings=lambda sizes: dict(dim=sizes.head_dim, block=4, scale=0.2),
        parameters=("generators",),
        relative=False,
        axes=lambda sizes: 2,
    ),
    Variant(
        name="pope",
        summary="lengths for content and angles for position (polar coordinates)",
        place="rotary",
        of=PoPE,
        oracle="formula",
        settings=lambda sizes: dict(dim=sizes.head_dim, heads=sizes.heads),
        parameters=("phase",),
    ),
    Variant(
        name="fope",
        summary="rotation at learned mixtures of frequencies",
        place="rotary",
        of=FoPE,
        oracle="formula",
        settings=lambda sizes: dict(
            dim=sizes.head_dim, heads=sizes.heads, length=sizes.length
        ),
        parameters=("cosines", "sines"),
        relative=False,
    ),
    Variant(
        name="temperature",
        summary="queries that grow with their position (Llama 4)",
        place="rotary",
        of=Temperature,
        oracle="transformers",
        settings=lambda sizes: dict(beta=0.1, length=sizes.length / 8),
        relative=False,
    ),
    Variant(
        name="scalable_softmax",
        summary="queries that grow with the number of keys they see, learned",
        place="rotary",
        of=ScalableSoftmax,
        oracle="transformers (Mistral Large 4)",
        settings=lambda sizes: dict(heads=sizes.heads),
        parameters=("weight", "bias"),
        relative=False,
        causal=True,
    ),
)


def _eighth(length):
    return max(length // 8, 1)


def _quarter_time(pairs):
    # As Qwen2-VL has it: 16, 24 and 24 of 64 pairs.
    space = 3 * pairs // 8
    return (pairs - 2 * space, space, space)
