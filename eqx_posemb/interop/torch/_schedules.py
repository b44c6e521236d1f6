"""Numbers for each pair, of settings that are known only when a module is called."""

import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..._frequencies import AbstractStaticFrequencies, Geometric, YaRNFrequencies
from ._angles import exact_dtype, words


@functools.lru_cache(maxsize=64)
def _rows(make: Callable[..., AbstractStaticFrequencies], *settings: float):
    # Half a millisecond for a frequency in exact decimals: too much for every call, and
    # the settings are all that it depends on.
    whole, fraction = words(make(*settings).turns()).tolist()
    return tuple(whole), tuple(fraction)


@torch.compiler.assume_constant_result
def geometric(dim: int, device: torch.device) -> Int[Tensor, "two half"]:
    """In `words`, those of [`eqx_posemb.Geometric`][] with the usual base."""
    return torch.tensor(_rows(Geometric, dim), device=device)


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
    settings = (dim, base, factor, original_length, slow, fast, extrapolation_factor)
    return torch.tensor(_rows(_yarn, *settings), device=device)


@torch.compiler.assume_constant_result
def xpos(dim: int, device: torch.device) -> Float[Tensor, " half"]:
    """The logarithm of each pair's ζ, as in [`eqx_posemb.XPosDecay`][]."""
    return torch.tensor(_rates(dim), dtype=exact_dtype(device), device=device)


@functools.lru_cache(maxsize=64)
def _rates(dim):
    return tuple(math.log((i + 0.4 * dim) / (1.4 * dim)) for i in range(0, dim, 2))


def _yarn(dim, base, *settings):
    return YaRNFrequencies(Geometric(dim, base), *settings)
