"""Exact angles of positions, in PyTorch's integers.

Frequencies come from our schedules as turns per position, in fixed point. Their product
with a position wraps around in an int64, which drops whole turns. This works on any
device and under `torch.compile`, and no float exists that `.half()` could round.
"""

import functools
import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import nn, Tensor

from ..._frequencies import Geometric, YaRNFrequencies
from ..._phase import Turns


class Fixed(nn.Module):
    """Holds numbers on the device of a module, and out of its parameters and state.

    They keep their dtype under `.half()`, and their values under `to_empty`.
    """

    values: Shaped[Tensor, "..."]

    def __init__(self, values: Shaped[np.ndarray, "..."]):
        super().__init__()
        self._host = values
        self.register_buffer("values", torch.tensor(values), persistent=False)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.values = torch.tensor(self._host, device=self.values.device)
        return self

    def forward(self) -> Shaped[Tensor, "..."]:
        return self.values

    def extra_repr(self) -> str:
        """The shape of the numbers."""
        return f"shape={tuple(self.values.shape)}"


class Angles(nn.Module):
    """The cosine and sine of `position * frequency`, right at every int32 position."""

    def __init__(self, turns: Turns):
        """**Arguments:**

        - `turns`: what `turns()` of a static schedule gives: [half], or [terms, half]
            for positions of several coordinates.
        """
        super().__init__()
        self.words = Fixed(_words(turns))

    def forward(
        self, positions: Num[Tensor, "..."], dtype: torch.dtype = torch.float32
    ) -> tuple[Float[Tensor, "*shape half"], Float[Tensor, "*shape half"]]:
        """The cosine and sine of integers or floats, [*shape], or [*shape, terms, half]
        where there are terms; off by no more than 2e-7 in float32. Floats beyond int32
        give NaN."""
        return cos_sin(positions, self.words.values, dtype)


def cos_sin(
    positions: Num[Tensor, "..."],
    words: Int[Tensor, "two *terms half"],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "*shape half"], Float[Tensor, "*shape half"]]:
    """As `Angles`; computed in at least float32."""
    positions, wide = as_positions(positions), computing_dtype(dtype)
    each = positions if words.ndim == 3 else positions.unsqueeze(-1)
    rest = None
    if each.is_floating_point():
        nearest = each.detach().round()
        # Beyond int32 a float stands for many integers: NaN says so.
        fits = (nearest >= -(2.0**31)) & (nearest < 2.0**31)
        # A small angle, which carries the derivative.
        rest = torch.where(fits, each - nearest, torch.nan).to(wide)
        rest = rest * radians(words).to(wide)
        each = nearest.to(torch.int64)
    phase = each * words[1]
    if words.ndim == 3:
        phase = phase.sum(dim=-2)
        rest = None if rest is None else rest.sum(dim=-2)
    # One rounding and not two, where there is a float64 to do it in.
    exact = exact_dtype(phase.device)
    angle = (phase.to(exact) * (2 * math.pi / 2**64)).to(wide)
    angle = angle if rest is None else angle + rest
    return angle.cos().to(dtype), angle.sin().to(dtype)


@torch.compiler.assume_constant_result
def words_of(
    dim: int, base: float, device: torch.device, *scaling: Any
) -> Int[Tensor, "two half"]:
    """The frequencies of [`eqx_posemb.frequencies.Geometric`][], or the frequencies of
    [`eqx_posemb.frequencies.YaRNFrequencies`][], where a call decides on the
    settings."""
    schedule: Any = Geometric(dim, base)
    if scaling:
        schedule = YaRNFrequencies(schedule, *scaling)
    return torch.tensor(_words(schedule.turns()), device=device)


def radians(words: Int[Tensor, "two *terms half"]) -> Float[Tensor, "*terms half"]:
    """The frequencies in radians per position, in float64 where the device has it."""
    whole, fraction = words.to(exact_dtype(words.device))
    # The fraction is unsigned, and its int64 is not.
    return (whole + torch.remainder(fraction * 2.0**-64, 1.0)) * (2 * math.pi)


def as_positions(
    positions: Shaped[Tensor, "*shape"], name: str = "positions", integers: bool = False
) -> Num[Tensor, "*shape"]:
    """Positions in int64, or floats of 32 bits or more.

    **Raises:** a `ValueError` for another dtype, and for floats where `integers` are
    needed.
    """
    dtype = positions.dtype
    if not (dtype.is_floating_point or dtype.is_complex or dtype == torch.bool):
        return positions.to(torch.int64)
    if dtype in (torch.float32, torch.float64) and not integers:
        return positions
    kinds, cure = "integers", "`torch.int32`"
    if not integers:
        kinds = "integers or floats of at least 32 bits"
        cure += ", or `torch.float32` for what is between integers"
    raise ValueError(f"`{name}` must be {kinds}, but got {dtype}. Use {cure}.")


def exact_dtype(device: torch.device) -> torch.dtype:
    """The widest floating point type of a device."""
    return torch.float32 if device.type == "mps" else torch.float64


def computing_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tensor of that dtype is computed in, before it is rounded back."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def ignore(module: nn.Module, *names: str) -> None:
    """Lets a module load state dicts of the library whose name it has, with buffers
    that follow from settings here."""
    module.register_load_state_dict_pre_hook(functools.partial(_drop, names))


# Of the module, so that hooks can be pickled.
def _drop(names, module, state, prefix, *rest):
    for name in names:
        state.pop(prefix + name, None)


def _words(turns: Turns) -> Int[np.ndarray, "two *terms half"]:
    """The whole turns per position, and 2⁻⁶⁴ of a turn; bits of an unsigned number."""
    whole, high, low = (
        np.asarray(word).astype(np.uint64)
        for word in (turns.whole, turns.high, turns.low)
    )
    return np.stack([whole, high << np.uint64(32) | low]).view(np.int64)
