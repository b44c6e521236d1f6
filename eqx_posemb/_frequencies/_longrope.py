"""LongRoPE: a divisor for each frequency, found by search."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Num, Shaped

from .._checks import check_positive, require
from .._phase import as_float, decimals, Turns
from ._base import (
    AbstractDerivedFrequencies,
    AbstractDynamicFrequencies,
    AbstractFrequencies,
    AbstractScaledFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
)


class Divided(AbstractDerivedFrequencies):
    r"""The divisors of LongRoPE, Ding et al. 2024: each frequency has its own divisor.

    $$\omega_i \mapsto \omega_i / \lambda_i$$

    for the $\lambda$ given by `divisors`.
    [`eqx_posemb.frequencies.LongRoPEFrequencies`][] has two such schedules.

    !!! Example

        ```python
        import eqx_posemb as pe

        schedule = pe.frequencies.Divided(
            pe.frequencies.Geometric(dim=4), divisors=(1.0, 4.0)
        )
        assert list(schedule()) == [1.0, 0.0025]
        ```
    """

    base: AbstractStaticFrequencies
    # Divisors become decimals without rounding, so the schedule stays exact.
    divisors: tuple[float, ...] = eqx.field(
        static=True, converter=lambda values: tuple(float(value) for value in values)
    )

    def __check_init__(self):
        check_schedule("base", self.base)
        # A single divisor would broadcast to all frequencies silently.
        rule, count = f"have one number per frequency, {self.pairs}", len(self.divisors)
        require(count == self.pairs, "divisors", rule, count)
        if not all(0 < value < math.inf for value in self.divisors):
            raise ValueError(
                f"`divisors` must be positive and finite, but got {self.divisors}."
            )

    @property
    def unscaled(self) -> AbstractStaticFrequencies:
        """What `base` is before any scaling."""
        return self.base.unscaled

    @property
    def scaling_factor(self) -> float:
        """The largest of the divisors, times the scaling factor of `base`."""
        return max(self.divisors) * self.base.scaling_factor

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return self.base.exact() / decimals(self.divisors)


Divided.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to divide.
- `divisors`: A positive number for each.

**Raises:** a `ValueError` if the numbers of divisors and frequencies differ, or if a
divisor is not positive.
"""


class LongRoPEFrequencies(AbstractDynamicFrequencies):
    r"""The frequencies of LongRoPE, Ding et al. 2024.

    One schedule holds up to the original length, and another beyond:

    $$\omega_i(L) = \begin{cases} \omega_i^\text{short} & L \le L_0 \\
                                  \omega_i^\text{long}  & L > L_0 \end{cases}$$

    for a context of $L$ positions now (`length`) and $L_0$ in training
    (`original_length`). Both are exact. The switch is a select, so `length` may be
    traced. Keys rotated before the switch do not match queries rotated after it. If a
    key-value cache may cross $L_0$, fix `length` ahead, or use `long` throughout.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.frequencies.Geometric(dim=4)
        schedule = pe.frequencies.LongRoPEFrequencies(
            base, pe.frequencies.Linear(base, 4.0), original_length=8
        )
        assert float(schedule(length=8)[0]) == 1.0
        assert float(schedule(length=9)[0]) == 0.25
        ```

    ??? cite "Reference"

        [LongRoPE: Extending LLM Context Window Beyond 2 Million
        Tokens](https://arxiv.org/abs/2402.13753), Section 3, as released with Phi-3.
        The paper leaves the first positions unscaled, but no released model does.
    """

    short: AbstractStaticFrequencies
    long: AbstractStaticFrequencies
    original_length: int = eqx.field(static=True)

    def __check_init__(self):
        check_positive("original_length", self.original_length)
        check_schedule("short", self.short)
        check_schedule("long", self.long)
        counts = self.short.pairs, self.long.pairs
        if counts[0] != counts[1]:
            raise ValueError(
                "`short` and `long` must have the same number of frequencies, but got "
                f"{counts[0]} and {counts[1]}."
            )

    def for_length(self, length: int | Num[Array, ""]) -> AbstractFrequencies:
        """The schedule for `length`. It is exact for every length: a traced length
        selects one of two exact schedules."""
        if not isinstance(length, int):
            return _Selected(self.short, self.long, length > self.original_length)
        chosen = self.long if length > self.original_length else self.short
        # Divisors found by search have no common factor, so the length gives the
        # scaling factor.
        return _Chosen(chosen, max(length / self.original_length, 1.0))


class _Chosen(AbstractScaledFrequencies):
    """The schedule for a length that is a Python number, with the scaling factor of the
    context."""

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True)

    @property
    def scaling_factor(self) -> float:
        return self.factor

    def exact(self) -> Shaped[np.ndarray, " half"]:
        return self.base.exact()


class _Selected(AbstractFrequencies):
    """One of two schedules, selected at run time."""

    short: AbstractStaticFrequencies
    long: AbstractStaticFrequencies
    # The choice is a leaf, so one compiled program serves both sides of the switch.
    is_long: Bool[Array, ""]

    @property
    def pairs(self) -> int:
        return self.short.pairs

    def turns(self) -> Turns:
        # A select of integer words keeps both schedules exact at a traced length.
        return self._select(self.short.turns(), self.long.turns())

    def __call__(self) -> Float[Array, " half"]:
        return self._select(
            as_float(jnp.asarray(self.short())), as_float(jnp.asarray(self.long()))
        )

    def _select(self, short, long):
        choose = lambda short, long: jnp.where(self.is_long, long, short)
        return jax.tree.map(choose, short, long)


LongRoPEFrequencies.__init__.__doc__ = """**Arguments:**

- `short`: The frequencies for lengths up to `original_length`.
- `long`: The frequencies beyond.
- `original_length`: The context length, in positions, of training.

**Raises:** a `ValueError` if `original_length` is not positive, or if `short` and
`long` have different numbers of frequencies.
"""
