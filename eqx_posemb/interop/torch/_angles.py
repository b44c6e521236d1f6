"""Exact angles of positions, in PyTorch's integers.

Frequencies come from our schedules as turns per position, in fixed point, and the
product with a position wraps around in an int64: whole turns fall off by themselves,
on any device and under `torch.compile`. No floating point number is kept, so that
`.half()` has nothing to spoil.
"""

import math

import numpy as np
import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import nn, Tensor

from ..._phase import Turns
from ._fixed import Fixed


class Angles(nn.Module):
    """The cosine and sine of `position * frequency`, right at every int32 position."""

    def __init__(self, turns: Turns):
        """**Arguments:**

        - `turns`: the frequencies, [half], or [terms, half] for positions of several
            coordinates: what `turns()` of a static schedule gives.
        """
        super().__init__()
        self.words = Fixed(words(turns))

    def forward(
        self, positions: Num[Tensor, "..."], dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "*shape half"], Float[Tensor, "*shape half"]]:
        """**Arguments:**

        - `positions`: integers, or floats in the same unit; any shape. Where there are
            terms, [..., terms, half]: which coordinate drives which frequency. Floats
            beyond int32 give NaN.
        - `dtype`: of the result; computed in at least float32.

        **Returns:**

        The cosine and the sine, off by no more than 2e-7 in float32.
        """
        return cos_sin(positions, self.words.values, dtype)


def words(turns: Turns) -> Int[np.ndarray, "two *terms half"]:
    """The whole turns per position, and 2⁻⁶⁴ of a turn; bits of an unsigned number."""
    fraction = _uint64(turns.high) << np.uint64(32) | _uint64(turns.low)
    return np.stack([_uint64(turns.whole), fraction]).view(np.int64)


def cos_sin(
    positions: Num[Tensor, "..."],
    fixed: Int[Tensor, "two *terms half"],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "*shape half"], Float[Tensor, "*shape half"]]:
    """As `Angles`, of frequencies in `words`."""
    fraction = fixed[1]
    wide = computing_dtype(dtype)
    positions = as_positions(positions)
    each = positions if fixed.ndim == 3 else positions.unsqueeze(-1)
    rest = None
    if each.is_floating_point():
        nearest = each.detach().round()
        # Beyond int32 floats are no integers that a position may be: NaN says so.
        fits = (nearest >= -(2.0**31)) & (nearest < 2.0**31)
        # A small angle, which carries the derivative.
        rest = torch.where(fits, each - nearest, torch.nan).to(wide)
        rest = rest * radians(fixed).to(wide)
        each = nearest.to(torch.int64)
    phase = each * fraction
    if fixed.ndim == 3:
        phase = phase.sum(dim=-2)
        rest = None if rest is None else rest.sum(dim=-2)
    angle = _of_turn(phase, wide)
    if rest is not None:
        angle = angle + rest
    cos, sin = angle.cos(), angle.sin()
    return (cos, sin) if dtype == wide else (cos.to(dtype), sin.to(dtype))


def as_positions(
    positions: Shaped[Tensor, "*shape"],
    name: str = "positions",
    integers: bool = False,
) -> Num[Tensor, "*shape"]:
    """Positions as all parts compute with them: int64, or floats of 32 bits or more.

    **Raises:** a `ValueError` for another dtype, and for floats where `integers` are
    needed.
    """
    dtype = positions.dtype
    # A decoded token takes as long as the calls do: none that has nothing to do.
    if dtype == torch.int64:
        return positions
    if dtype in _INTEGERS:
        return positions.to(torch.int64)
    if dtype in (torch.float32, torch.float64) and not integers:
        return positions
    kinds, cure = "integers", "`torch.int32`"
    if not integers:
        kinds = "integers or floats of at least 32 bits"
        cure += ", or `torch.float32` for what is between integers"
    raise ValueError(f"`{name}` must be {kinds}, but got {dtype}. Use {cure}.")


def radians(fixed: Int[Tensor, "two *terms half"]) -> Float[Tensor, "*terms half"]:
    """The frequencies in radians per position, in float64 where the device has it."""
    whole, fraction = fixed
    # The fraction is unsigned, and what holds it is not.
    exact = exact_dtype(fixed.device)
    turns = torch.remainder(fraction.to(exact) * 2.0**-64, 1.0)
    return (whole.to(exact) + turns) * (2 * math.pi)


def exact_dtype(device: torch.device) -> torch.dtype:
    """The widest floating point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tensor of that dtype is computed in, before it is rounded back."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _of_turn(phase, dtype):
    """Radians of 2⁻⁶⁴ of a turn, between -π and π."""
    # One rounding and not two, where there is a float64 to do it in.
    exact = exact_dtype(phase.device)
    return (phase.to(exact) * (2 * math.pi / 2**64)).to(dtype)


def _uint64(words):
    return np.asarray(words).astype(np.uint64)


_INTEGERS = (
    torch.int8,
    torch.int16,
    torch.int32,
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
)
