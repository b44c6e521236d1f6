"""What a schedule does to the frequencies that it began with."""

from typing import NamedTuple

import numpy as np

from .._frequencies import (
    AbstractFrequencies,
    Divided,
    DynamicNTK,
    Linear,
    LongRoPEFrequencies,
    NTK,
    NTKByParts,
    NTKMixed,
    Truncated,
    YaRNFrequencies,
)


Host = np.ndarray
"""Frequencies in float64, in radians per unit of position."""
_STRETCHES = (
    Divided | DynamicNTK | Linear | NTK | NTKByParts | NTKMixed | YaRNFrequencies
)


class Fates(NamedTuple):
    """Which frequencies, by index, a stretch leaves, divides, or does neither to."""

    kept: Host
    blended: Host
    interpolated: Host
    still: Host


def frequencies_at(schedule: AbstractFrequencies, length: int | None) -> Host:
    """The frequencies in a context of that length; without one, of a short text."""
    if isinstance(schedule, LongRoPEFrequencies):
        beyond = length is not None and length > schedule.original_length
        # Not the schedule itself, which selects in float32.
        return (schedule.long if beyond else schedule.short)()
    return np.asarray(schedule(length), np.float64)


def before(schedule: AbstractFrequencies) -> AbstractFrequencies:
    """The schedule without its stretches: what the model was first trained with."""
    if isinstance(schedule, LongRoPEFrequencies):
        return before(schedule.short)
    if isinstance(schedule, Truncated):
        return Truncated(before(schedule.base), schedule.keep)  # pyright: ignore
    if isinstance(schedule, _STRETCHES):
        return before(schedule.base)
    return schedule


def factor_of(schedule: AbstractFrequencies, length: int | None) -> float:
    """What the schedule divides by where it divides in full; one if it does not."""
    if isinstance(schedule, LongRoPEFrequencies):
        return max((length or 0) / schedule.original_length, 1.0)
    if isinstance(schedule, DynamicNTK):
        beyond = max((length or 0) / schedule.original_length - 1, 0.0)
        return 1 + schedule.factor * beyond
    if isinstance(schedule, Truncated):
        return factor_of(schedule.base, length)
    return getattr(schedule, "factor", 1.0) if isinstance(schedule, _STRETCHES) else 1.0


def fates(schedule: AbstractFrequencies, length: int | None) -> Fates:
    """What has become of each frequency in a context of that length."""
    after = frequencies_at(schedule, length)
    first = frequencies_at(before(schedule), length)
    moves = after > 0
    ratio = np.divide(first, after, out=np.ones_like(after), where=moves)
    # Products of float64 are off by their last digits, and divisors of LongRoPE have
    # few digits.
    kept = moves & (ratio < 1 + 1e-9)
    divided = moves & ~kept & (ratio > factor_of(schedule, length) * (1 - 1e-9))
    return Fates(
        *map(np.flatnonzero, (kept, moves & ~kept & ~divided, divided, ~moves))
    )


def float32_error(frequencies: Host, length: int) -> float:
    """By how much angles are off at the end of a context, in radians, where position
    times frequency is a product of float32: the most of the last 256 positions."""
    positions = np.arange(max(length - 256, 0), length)[:, None]
    rounded = positions.astype(np.float32) * frequencies.astype(np.float32)
    return float(np.abs(rounded - positions * frequencies).max())


def float32_limit(frequencies: Host, error: float) -> int:
    """The first power of two that is a context whose end is off by more than that."""
    powers = (2**power for power in range(8, 31))
    return next(n for n in powers if float32_error(frequencies, n) > error)
