"""Numbers for each pair, of settings that are known only when a module is called."""

import functools
import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..._frequencies import AbstractStaticFrequencies, Geometric, YaRNFrequencies
from ._angles import exact_dtype, words


@torch.compiler.assume_constant_result
def geometric(dim: int, device: torch.device) -> Int[Tensor, "two half"]:
    """In `words`, those of [`eqx_posemb.Geometric`][] with the usual base."""
    return _words(Geometric(dim), device)


@torch.compiler.assume_constant_result
def yarn(
    dim: int,
    base: float,
    factor: float,
    original_length: int,
    slow: float,
    fast: float,
    extrapolation_factor: float,
    device: torch.device,
) -> Int[Tensor, "two half"]:
    """In `words`, those of [`eqx_posemb.YaRNFrequencies`][]."""
    settings = (factor, original_length, slow, fast, extrapolation_factor)
    return _words(YaRNFrequencies(Geometric(dim, base), *settings), device)


@torch.compiler.assume_constant_result
def xpos(dim: int, device: torch.device) -> Float[Tensor, " half"]:
    """The logarithm of each pair's ζ, as in [`eqx_posemb.XPosDecay`][]."""
    return torch.tensor(_rates(dim), dtype=exact_dtype(device), device=device)


@functools.lru_cache(maxsize=64)
def _rates(dim):
    return tuple(math.log((i + 0.4 * dim) / (1.4 * dim)) for i in range(0, dim, 2))


def _words(schedule: AbstractStaticFrequencies, device):
    return torch.tensor(words(schedule.turns()), device=device)
