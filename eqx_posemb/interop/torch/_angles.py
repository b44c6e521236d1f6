"""Exact angles of positions in PyTorch's integers, and rotations by them.

Frequencies come from our schedules as turns per position, in fixed point. Their product
with a position wraps around in an int64, which drops whole turns. This works on any
device and under `torch.compile`, and no float exists that `.half()` could round.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor

from ..._checks import described
from ..._frequencies import Geometric, YaRNFrequencies
from ..._phase import Turns


# A layout is "halves", "adjacent", or the rows of a `Pairing`: source, partner, pair
# and sign.
Layout = Any


class Fixed(nn.Module):
    """Numbers on the device of a module, neither parameters nor state. They keep their
    dtype under `.half()`, and their values under `to_empty`."""

    values: Tensor

    def __init__(self, values: np.ndarray):
        super().__init__()
        self._host = values
        # A buffer moves with the module, and this one stays out of the state dict.
        self.register_buffer("values", torch.tensor(values), persistent=False)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        # `.half()` has rounded the values and `to_empty` has lost them, so they are
        # copied from the host again.
        self.values = torch.tensor(self._host, device=self.values.device)
        return self


class Angles(Fixed):
    """The cosine and sine of positions times the frequencies of a schedule."""

    def __init__(self, turns: Turns):
        super().__init__(_words(turns))

    def forward(
        self, positions: Tensor, dtype: torch.dtype = torch.float32
    ) -> tuple[Tensor, Tensor]:
        return cos_sin(positions, self.values, dtype)


def cos_sin(
    positions: Tensor, words: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The cosine and sine, [*shape, half], at positions [*shape], or at positions
    [*shape, terms, half] for words of terms. They are off by at most 2e-7 in float32,
    at every int32 position. Floats beyond int32 give NaN."""
    at = as_positions(positions)
    if words.ndim == 2:
        # One coordinate is a sum of one term.
        at, words = at[..., None, None], words[:, None]
    # The integer part is piecewise constant, so it carries no gradient.
    nearest = at.detach().round()
    # The product wraps around, which drops whole turns.
    phase = (nearest.to(torch.int64) * words[1]).sum(dim=-2)
    # A float64 rounds the angle once, where the device has float64.
    angle = phase.to(exact_dtype(phase.device)) * (2 * math.pi / 2**64)
    if at.is_floating_point():
        # Beyond int32 a float stands for many integers, so its angle is NaN.
        fits = (nearest >= -(2.0**31)) & (nearest < 2.0**31)
        # The remainder is a small angle, and it carries the derivative.
        rest = torch.where(fits, at - nearest, torch.nan) * radians(words)
        angle = angle + rest.sum(dim=-2)
    angle = angle.to(computing_dtype(dtype))
    return angle.cos().to(dtype), angle.sin().to(dtype)


# `torch.compile` cannot trace decimals, and the result depends on settings alone.
@torch.compiler.assume_constant_result
def words_of(
    device: torch.device, dim: int, base: float = 10_000, *scaling: Any
) -> Tensor:
    """The words of geometric frequencies, or of YaRN's with `scaling`, where a call
    decides on the settings."""
    plain = Geometric(dim, base)
    schedule = YaRNFrequencies(plain, *scaling) if scaling else plain
    return torch.tensor(_words(schedule.turns()), device=device)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """Rotates the first channels of `x`, [*shape, dim], or the channels of a `Pairing`,
    by tables [*ones, seq, half]. It computes in at least float32, and returns the dtype
    of `x`."""
    half, wide = cos.shape[-1], computing_dtype(x.dtype)
    cos, sin = cos.to(wide), sin.to(wide)
    if isinstance(layout, tuple):
        rows = (torch.tensor(row, device=x.device) for row in layout)
        source, partner, pair, sign = rows
        a, b = x[..., source].to(wide), x[..., partner].to(wide)
        turned = a * cos[..., pair] + sign * b * sin[..., pair]
        # A select passes channels on unchanged. Adding a zero sine would lose the sign
        # of a negative zero.
        return torch.where(sign == 0, a, turned).to(x.dtype)
    first, rest = x[..., : 2 * half], x[..., 2 * half :]
    axis, sizes = (-2, (2, half)) if layout == "halves" else (-1, (half, 2))
    a, b = first.to(wide).unflatten(-1, sizes).unbind(axis)
    # `addcmul` computes a cos - b sin and b cos + a sin with one temporary fewer each.
    pair = torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)
    turned = torch.stack([each.to(x.dtype) for each in pair], axis).flatten(-2)
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned


def radians(words: Tensor) -> Tensor:
    """The frequencies in radians per position, in float64 where the device has it."""
    whole, fraction = words.to(exact_dtype(words.device))
    # The fraction is unsigned, and its int64 is not.
    return (whole + torch.remainder(fraction * 2.0**-64, 1.0)) * (2 * math.pi)


def as_positions(
    positions: Tensor, name: str = "positions", integers: bool = False
) -> Tensor:
    """Positions in int64, or floats of at least 32 bits if `integers` is false."""
    check_tensor(name, positions)
    dtype = positions.dtype
    if not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool):
        return positions.to(torch.int64)
    if dtype in (torch.float32, torch.float64) and not integers:
        return positions
    kinds, cure = "integers", "`torch.int32`"
    if not integers:
        kinds = "integers or floats of at least 32 bits"
        cure += ", or `torch.float32` for positions between integers"
    raise ValueError(f"`{name}` must be {kinds}, but got {dtype}. Use {cure}.")


def check_tensor(name: str, x: Any) -> None:
    if not isinstance(x, Tensor):
        raise ValueError(
            f"`{name}` must be a tensor of PyTorch, but got {described(x)}. "
            "`torch.from_numpy(numpy.array(x))` makes a tensor."
        )


def exact_dtype(device: torch.device) -> torch.dtype:
    """The widest floating point type of a device."""
    # Apple's GPUs have no float64.
    return torch.float32 if device.type == "mps" else torch.float64


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tensor of that dtype is computed in, before it is rounded back."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _words(turns):
    """The whole turns per position, and 2⁻⁶⁴ of a turn; bits of an unsigned number,
    [2, *terms, half]."""
    words = (turns.whole, turns.high, turns.low)
    whole, high, low = (np.asarray(word).astype(np.uint64) for word in words)
    return np.stack([whole, high << np.uint64(32) | low]).view(np.int64)
