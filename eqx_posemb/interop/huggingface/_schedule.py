"""From rope settings to frequencies."""

from typing import Any

from ..._frequencies import (
    AbstractFrequencies,
    Divided,
    DynamicNTK,
    Geometric,
    Linear,
    LongRoPEFrequencies,
    NTK,
    NTKByParts,
    Truncated,
    YaRNFrequencies,
)
from ..._frequencies._shifted import LogShifted
from ._rope import Rope


def schedule(
    rope: Rope, head: int, width: int, row: dict[str, Any], quirks: bool
) -> AbstractFrequencies:
    """The frequencies of `width` rotated channels in a head of `head`."""
    made = _static_or_dynamic(rope, head, width, row, quirks)
    return LogShifted(made) if row.get("learned") else made


def _static_or_dynamic(rope, head, width, row, quirks):
    if rope.kind == "proportional":
        return _proportional(rope, width)
    base = _base(rope, head, width, quirks)
    if rope.kind == "linear":
        return Linear(base, rope.factor)
    if rope.kind in ("dynamic", "ntk_alpha") and width < 4:
        raise ValueError(
            "`head_dim` must leave at least 4 channels to rotate for the rope type "
            f"'dynamic', but got {width}."
        )
    if rope.kind == "dynamic":
        if not rope.length:
            raise ValueError(
                "`max_position_embeddings` must be given for the rope type 'dynamic', "
                "which scales longer contexts, but got none."
            )
        return DynamicNTK(base, rope.factor, rope.length)
    if rope.kind == "ntk_alpha":
        return NTK(base, rope.factor)
    if rope.kind == "llama3":
        length, slow, fast = rope.original_length, rope.slow, rope.fast
        return NTKByParts(base, rope.factor, length, slow, fast)
    if rope.kind == "yarn":
        return YaRNFrequencies(
            base,
            rope.factor,
            rope.original_length,
            rope.slow,
            rope.fast,
            truncate=rope.truncate,
        )
    if rope.kind == "longrope":
        return _longrope(rope, base, row, quirks)
    return base


def _base(rope, head, width, quirks) -> Geometric:
    if width % 2 == 0:
        return Geometric(width, rope.theta)
    if width == head and not quirks:
        raise ValueError(
            f"`head_dim` must be even, to be rotated in pairs, but got {head}."
        )
    if rope.kind != "default":
        raise ValueError(
            "`partial_rotary_factor` must leave an even number of channels to rotate "
            f"for the rope type {rope.kind!r}, but got {width} of {head}."
        )
    # One channel more is rotated, at the spacing of the odd number.
    return Geometric(width + 1, rope.theta ** ((width + 1) / width))


def _proportional(rope, width) -> AbstractFrequencies:
    base = Linear(Geometric(width, rope.theta), rope.factor)
    return Truncated(base, keep=int(rope.partial * width // 2))


def _longrope(rope, base, row, quirks) -> AbstractFrequencies:
    pairs = base.dim // 2
    for key, values in ("short_factor", rope.short), ("long_factor", rope.long):
        if len(values) != pairs:
            raise ValueError(
                f"`{key}` must have a number for each of the {pairs} pairs of channels "
                f"that rotate, but got {len(values)}."
            )
    short = Divided(base, rope.short)
    # PhiMoE in transformers never switches to the long divisors.
    if quirks and row.get("never_long"):
        return short
    return LongRoPEFrequencies(short, Divided(base, rope.long), rope.original_length)
