"""A schedule that follows the time steps of diffusion."""

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Real

from .._checks import (
    as_number,
    check_at_least,
    check_choice,
    check_positive,
    require,
)
from .._phase import as_float, Frequencies
from ._base import AbstractFrequencies, Geometric
from ._listed import Listed
from ._scaling import NTK
from ._traced import Traced, traced_ntk


# Turns in the original grid between which two blends fall, from the authors' code.
_BLENDS = ((0.75, 1.25), (2.0, 16.0))


class DyPE(AbstractFrequencies):
    r"""DyPE, Issachar et al. 2025: scales less from step to step of diffusion.

    Early steps of sampling draw the whole image, and late steps its details. A larger
    image therefore needs scaled frequencies at first, and the trained frequencies at
    last. With the time $t$ from 1, pure noise, to 0:

    $$\text{ntk:}\quad \omega_i \mapsto \omega_i\, s^{-2 t^2 i / (n - 1)}$$

    for $n$ frequencies and the scaling factor $s$ = `factor`, the size of the image
    over the size in training. This is [`eqx_posemb.frequencies.NTK`][] with the factor
    $s^{2 t^2}$. The other method, `"yarn"`, keeps the factor and lowers thresholds:

    $$\text{yarn:}\quad \omega_i \mapsto (1 - \gamma_i)
      \big((1 - \beta_i)\, \omega_i / s + \beta_i\, \omega_i s^{-i / (n - 1)}\big)
      + \gamma_i\, \omega_i$$

    where $\beta$ blends between $0.75\,t^2$ and $1.25\,t^2$ turns in the original grid,
    and $\gamma$ between $2\,t^2$ and $16\,t^2$, along the index as in
    [`eqx_posemb.frequencies.YaRNFrequencies`][].

    `for_time` has the schedule at a time. The time may be traced, so that one compiled
    program serves all steps. Without a time it is 1.

    The authors' code reverses the blends below $t = 0.02$, where thresholds pass the
    last pair. Here the schedule becomes the trained schedule. With `"yarn"` it also
    multiplies the rotated channels of a scaled axis by $0.1 \ln s + 1$, which a
    schedule cannot do.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        schedule = pe.frequencies.DyPE(pe.frequencies.Geometric(56), factor=4.0)


        @jax.jit
        def step(time):
            return schedule.for_time(time)()


        assert jnp.allclose(step(0.0), schedule.base())
        assert step(1.0)[-1] < schedule.base()[-1]
        ```

    ??? cite "Reference"

        [DyPE: Dynamic Position Extrapolation for Ultra High Resolution
        Diffusion](https://arxiv.org/abs/2510.20766), Section 3.2, as in the authors'
        code.
    """

    base: Geometric
    factor: float = eqx.field(static=True, converter=as_number)
    method: Literal["ntk", "yarn"] = eqx.field(static=True, default="ntk")
    original_length: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        rule = "be geometric, for an index to have a number of turns"
        cure = "Give `eqx_posemb.frequencies.Geometric(dim=...)`."
        require(isinstance(self.base, Geometric), "base", rule, self.base, cure)
        check_at_least("factor", self.factor, 1)
        check_choice("method", self.method, ("ntk", "yarn"))
        if self.original_length is not None:
            check_positive("original_length", self.original_length)
        elif self.method == "yarn":
            raise ValueError(
                "`original_length` must be given for `method='yarn'`, to count turns, "
                "but got None."
            )
        NTK(self.base, self.factor)  # Two frequencies at least.

    @property
    def pairs(self) -> int:
        """The number of frequencies, which equals the number of `base`."""
        return self.base.pairs

    @property
    def unscaled(self) -> AbstractFrequencies:
        """The schedule `base`."""
        return self.base

    @property
    def scaling_factor(self) -> float:
        """What the slowest frequency is divided by at time 1."""
        return self.factor**2 if self.method == "ntk" else self.factor

    def for_time(self, time: float | Real[Array, ""]) -> AbstractFrequencies:
        """The schedule at a time of diffusion: exact for a Python number, and float32
        for a traced time.

        **Arguments:**

        - `time`: the time step as a number from 1, pure noise, to 0.
        """
        if isinstance(time, int | float):
            # A known time has exact angles, as a schedule of decimals.
            if self.method == "ntk":
                return NTK(self.base, self.factor ** (2 * time**2))
            return Listed(tuple(self._by_parts(np, time**2)))
        # A traced time keeps one program for all steps of a sampler.
        kappa = as_float(jnp.asarray(time)) ** 2
        if self.method == "ntk":
            return traced_ntk(self.base, jnp.power(self.factor, 2 * kappa))
        return Traced(as_float(self._by_parts(jnp, kappa)))

    def _by_parts(self, xp, kappa):
        base = xp.asarray(self.base())
        index = xp.arange(self.pairs, dtype=base.dtype)
        (beta, gamma) = (self._blend(xp, index, kappa, ends) for ends in _BLENDS)
        # The highest frequency stays, and the lowest is divided by the
        # factor.
        even = base * self.factor ** (-index / (self.pairs - 1))
        scaled = (1 - beta) * base / self.factor + beta * even
        return (1 - gamma) * scaled + gamma * base

    def _blend(self, xp, index, kappa, ends):
        """One up to the index of more turns, and zero from the index of fewer."""
        slow, fast = ends
        per_turn = self.base.dim / (2 * math.log(self.base.theta))
        # At time zero every threshold is beyond the last pair.
        at = lambda turns: (
            per_turn
            * xp.log(
                self.original_length / (2 * math.pi * turns * xp.maximum(kappa, 1e-30))
            )
        )
        # The authors round outwards to whole pairs, as YaRN does.
        first = xp.clip(xp.floor(at(fast)), 0, self.pairs)
        last = xp.clip(xp.ceil(at(slow)), 0, self.pairs)
        # The authors add a thousandth against a division by zero.
        width = xp.where(first == last, 0.001, last - first)
        return 1 - xp.clip((index - first) / width, 0, 1)

    def turns(self) -> Frequencies:
        """The frequencies at time 1."""
        # Without a time, the schedule is the first step of sampling, which is
        # pure noise.
        return self.for_time(1.0).turns()

    def __call__(self) -> Float[Array, " half"] | Float[np.ndarray, " half"]:
        """The frequencies at time 1, in radians per unit of position."""
        return self.for_time(1.0)()


DyPE.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies of an axis in training: at least two.
- `factor`: The size of the image along the axis, over the size in training. One changes
    nothing.
- `method`: `"ntk"` or `"yarn"`.
- `original_length`: The number of positions along the axis in training, for `"yarn"`:
    64 in Flux.

**Raises:** a `ValueError` if `base` is not geometric or has a single frequency, if
`factor` is less than one, if `method` is unknown, if `"yarn"` has no `original_length`,
or if that is not positive.
"""
