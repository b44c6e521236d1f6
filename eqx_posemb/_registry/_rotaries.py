"""Rotary embeddings: multiplied into queries and keys."""

from .._rotary import (
    dynamic_ntk_rope,
    linear_rope,
    llama3_rope,
    longrope,
    NoPE,
    ntk_rope,
    proportional_rope,
    rope,
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
        settings=lambda sizes: {},
    ),
    Variant(
        name="rope",
        summary="rotation by angles proportional to the position",
        place="rotary",
        of=rope,
        settings=lambda sizes: dict(dim=sizes.head_dim),
    ),
    Variant(
        name="proportional_rope",
        summary="rotation of the fastest pairs only (p-RoPE, Gemma 4)",
        place="rotary",
        of=proportional_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, fraction=0.5),
    ),
    Variant(
        name="xpos",
        summary="rotation, with logits that fade towards the past",
        place="rotary",
        of=xpos,
        settings=lambda sizes: dict(dim=sizes.head_dim),
        causal=True,
    ),
    Variant(
        name="linear_rope",
        summary="rotation stretched by interpolating positions",
        place="rotary",
        of=linear_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="ntk_rope",
        summary="rotation stretched by a larger base",
        place="rotary",
        of=ntk_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="dynamic_ntk_rope",
        summary="rotation stretched as much as the length in use needs",
        place="rotary",
        of=dynamic_ntk_rope,
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
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=4.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="llama3_rope",
        summary="rotation stretched pair by pair as in Llama 3.1",
        place="rotary",
        of=llama3_rope,
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=8.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="longrope",
        summary="rotation stretched by searched numbers beyond a length (Phi-3)",
        place="rotary",
        of=longrope,
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
)
