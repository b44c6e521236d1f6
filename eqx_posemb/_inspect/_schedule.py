"""What a schedule does to the frequencies that it began with."""

import numpy as np

from .._frequencies import AbstractFrequencies


Host = np.ndarray
"""Frequencies in float64, in radians per unit of position."""


def numbers(schedule: AbstractFrequencies) -> Host:
    """The frequencies, whatever holds them."""
    return np.asarray(schedule(), np.float64)


def fates(schedule: AbstractFrequencies) -> dict[str, Host]:
    """The indices of frequencies that scaling keeps, blends or divides in full, and the
    indices of zeros."""
    after, first = numbers(schedule), numbers(schedule.unscaled)
    moves = after > 0
    # A frequency of zero has no ratio, and its division would warn.
    ratio = np.divide(first, after, out=np.ones_like(after), where=moves)
    # Products of float64 are off by their last digits, and divisors of LongRoPE have
    # few digits.
    kept = moves & (ratio < 1 + 1e-9)
    divided = moves & ~kept & (ratio > schedule.scaling_factor * (1 - 1e-9))
    blended = moves & ~kept & ~divided
    found = dict(kept=kept, blended=blended, interpolated=divided, still=~moves)
    return {fate: np.flatnonzero(which) for fate, which in found.items()}


def float32_error(frequencies: Host, length: int) -> float:
    """The largest error of float32 angles at the end of a context, in radians, among
    the last 256 positions."""
    positions = np.arange(max(length - 256, 0), length)[:, None]
    rounded = positions.astype(np.float32) * frequencies.astype(np.float32)
    return float(np.abs(rounded - positions * frequencies).max())


def float32_limit(frequencies: Host, error: float) -> int:
    """The first power of two that is a context whose end is off by more than that."""
    # Positions are int32, so the search ends with them.
    powers = (2**power for power in range(8, 31))
    return next(n for n in powers if float32_error(frequencies, n) > error)
