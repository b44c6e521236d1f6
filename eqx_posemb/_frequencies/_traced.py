"""Frequencies that a program computes."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from .._phase import as_float
from ._base import AbstractFrequencies, AbstractStaticFrequencies


class Traced(AbstractFrequencies):
    """Frequencies in radians, from a traced length or time."""

    frequencies: Float[Array, " half"]

    @property
    def pairs(self) -> int:
        return self.frequencies.shape[0]

    def turns(self) -> Float[Array, " half"]:
        return self.frequencies

    def __call__(self) -> Float[Array, " half"]:
        return self.frequencies


def traced_ntk(base: AbstractStaticFrequencies, factor: Float[Array, ""]) -> Traced:
    """`NTK` with a traced factor."""
    n = base.pairs
    steps = as_float(jnp.arange(n) / (n - 1))
    return Traced(as_float(jnp.asarray(base())) * factor**-steps)
