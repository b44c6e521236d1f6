"""From rope settings to frequencies."""

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
from .._configuration import require, Settings
from ._rope import Rope


def schedule(
    rope: Rope, head: int, width: int, settings: Settings
) -> AbstractFrequencies:
    """The frequencies of `width` rotated channels in a head of `head`."""
    if rope.kind == "proportional":
        made = Linear(Geometric(width, rope.theta), rope.factor)
        made = Truncated(made, keep=int(rope.partial * width // 2))
    else:
        base = _base(rope, head, width, settings.quirks)
        made = _SCHEDULES[rope.kind](rope, base, settings)
    return LogShifted(made) if settings.row.get("learned") else made


def _base(rope, head, width, quirks) -> Geometric:
    if width % 2 == 0:
        return Geometric(width, rope.theta)
    rule = "be even, to be rotated in pairs"
    require(width != head or quirks, "head_dim", rule, head)
    rule = (
        "leave an even number of channels to rotate for the rope type "
        f"{rope.kind!r}, of {head}"
    )
    require(rope.kind == "default", "partial_rotary_factor", rule, width)
    # One channel more is rotated, at the spacing of the odd number.
    return Geometric(width + 1, rope.theta ** ((width + 1) / width))


def _dynamic(rope, base, settings):
    rule = "leave at least 4 channels to rotate for the rope type 'dynamic'"
    require(base.dim >= 4, "head_dim", rule, base.dim)
    if rope.kind == "ntk_alpha":
        return NTK(base, rope.factor)
    rule = "be given for the rope type 'dynamic', which scales longer contexts"
    require(rope.length, "max_position_embeddings", rule, None)
    return DynamicNTK(base, rope.factor, rope.length)


def _by_parts(rope, base, settings):
    ramp = base, rope.factor, rope.original_length, rope.slow, rope.fast
    if rope.kind == "llama3":
        return NTKByParts(*ramp)
    return YaRNFrequencies(*ramp, truncate=rope.truncate)


def _longrope(rope, base, settings):
    pairs = base.dim // 2
    rule = f"have a number for each of the {pairs} pairs of channels that rotate"
    for key, values in ("short_factor", rope.short), ("long_factor", rope.long):
        require(len(values) == pairs, key, rule, len(values))
    short = Divided(base, rope.short)
    # PhiMoE in transformers never switches to the long divisors.
    if settings.quirks and settings.row.get("never_long"):
        return short
    return LongRoPEFrequencies(short, Divided(base, rope.long), rope.original_length)


_SCHEDULES = {
    "default": lambda rope, base, settings: base,
    "linear": lambda rope, base, settings: Linear(base, rope.factor),
    "dynamic": _dynamic,
    "ntk_alpha": _dynamic,
    "llama3": _by_parts,
    "yarn": _by_parts,
    "longrope": _longrope,
}
