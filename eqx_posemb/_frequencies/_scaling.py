"""Schedules that scale all frequencies by one rule, for contexts beyond training."""

import decimal
from decimal import Decimal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num, Shaped

from .._checks import as_number, check_at_least, check_count, check_positive, require
from .._phase import as_float, HOST_PRECISION
from ._base import (
    AbstractDynamicFrequencies,
    AbstractFrequencies,
    AbstractScaledFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
    powers,
)
from ._traced import traced_ntk


class Linear(AbstractScaledFrequencies):
    r"""Position interpolation, Chen et al. 2023.

    It divides every frequency by `factor`:

    $$\omega \mapsto \omega / s$$

    for the scaling factor $s$ = `factor`. It equals a division of the positions, so a
    context that is $s$ times longer has the trained angles. Neighbors become similar,
    and the model needs some further training. Without further training,
    [`eqx_posemb.frequencies.NTK`][] and [`eqx_posemb.frequencies.YaRNFrequencies`][]
    are better.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert list(
            pe.frequencies.Linear(pe.frequencies.Geometric(dim=4), factor=2.0)()
        ) == [0.5, 0.005]
        ```

    ??? cite "Reference"

        [Extending Context Window of Large Language Models via Positional
        Interpolation](https://arxiv.org/abs/2306.15595), Section 2.3.
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return self.base.exact() / Decimal(self.factor)


Linear.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to slow down.
- `factor`: How many times longer than in training the context is to be.

**Raises:** a `ValueError` if `factor` is less than one.
"""


class NTK(AbstractScaledFrequencies):
    r"""Keeps the fastest frequency, divides the slowest by `factor`, in between evenly.

    $$\omega_i \mapsto \omega_i\, s^{-i / (n - 1)}, \qquad i = 0, \dots, n - 1$$

    for $n$ frequencies and the scaling factor $s$ = `factor`. On a geometric schedule
    of $d = 2n$ channels this is the larger base $\theta\, s^{d / (d - 2)}$, by which it
    is usually given. It needs no further training to go somewhat beyond the trained
    length; YaRN, its successor, goes further.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert list(
            pe.frequencies.NTK(pe.frequencies.Geometric(dim=4), factor=2.0)()
        ) == [1.0, 0.005]
        ```

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.1, where the method, first
        posted by bloc97 in a forum, is written down.
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)
        _check_two(self.base)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return slowed_evenly(self.base.exact(), Decimal(self.factor))


NTK.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to slow down: at least two.
- `factor`: What the slowest frequency is divided by.

**Raises:** a `ValueError` if `factor` is less than one, or if `base` has a single
frequency.
"""


class NTKMixed(AbstractScaledFrequencies):
    r"""Slows every frequency down, the slower the more, the last by `factor`.

    $$\omega_i \mapsto \omega_i \exp\!\Big(-\ln s\,
      \Big(\frac{i + 1}{n}\Big)^{b}\Big), \qquad i = 0, \dots, n - 1$$

    for $n$ frequencies, the scaling factor $s$ = `factor` and an `exponent` $b$. Where
    [`eqx_posemb.frequencies.NTK`][] leaves the fastest pair alone, this slows it, too,
    a little. With $b = 1$ it is known as NTK-RoPE-fixed, `"ntk"` in some inference
    servers, and with $b = 0.625$ as NTK-RoPE-mixed.

    Not to be confused with NTK-alpha of Hunyuan, which is
    [`eqx_posemb.frequencies.NTK`][] with `factor=alpha`.

    !!! Example

        ```python
        import eqx_posemb as pe

        slowed = pe.frequencies.NTKMixed(
            pe.frequencies.Geometric(dim=4), factor=4.0, exponent=1.0
        )()
        assert list(slowed) == [0.5, 0.0025]
        ```

    ??? cite "Reference"

        The formulas come from a note by Su Jianlin (2023), "Transformer Upgrade Path:
        10, RoPE is a β-ary encoding", and from the next note of its series.

        ```bibtex
        @misc{su2023rope,
            author={Su, Jianlin},
            title={Transformer Upgrade Path: 10, {RoPE} is a $\beta$-ary Encoding},
            howpublished={kexue.fm/archives/9706},
            year={2023},
        }
        ```
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)
    exponent: float = eqx.field(static=True, default=0.625, converter=as_number)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)
        check_positive("exponent", self.exponent)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        frequencies = self.base.exact()
        n, log = Decimal(len(frequencies)), Decimal(self.factor).ln()
        shares = [(Decimal(i + 1) / n) ** Decimal(self.exponent) for i in range(int(n))]
        return frequencies * np.array([(-log * share).exp() for share in shares])


NTKMixed.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to slow down.
- `factor`: What the slowest frequency is divided by.
- `exponent`: How late the slowing sets in: 1 is even, less is early.

**Raises:** a `ValueError` if `factor` is less than one or `exponent` not positive.
"""


class DynamicNTK(AbstractDynamicFrequencies):
    r"""[`eqx_posemb.frequencies.NTK`][] whose scaling grows with the context length.

    $$s(L) = s\,\frac{\max(L, L_0)}{L_0} - (s - 1)$$

    for a context of $L$ positions now (`length`), $L_0$ in training
    (`original_length`), and a `factor` $s$. Up to $L_0$ nothing changes, so that short
    texts lose nothing. The drawback: keys rotated at one length do not match queries
    rotated at another. A key-value cache must hold keys before their rotation, or
    `length` must be fixed ahead.

    **Precision.** With `length` a Python number the schedule is exact. With a traced
    `length` the frequencies are float32. Angles are then off by about `6e-8 * position`
    radians, and by more if `length` exceeds `original_length`. transformers has the
    same error.

    !!! Example

        ```python
        import eqx_posemb as pe

        schedule = pe.frequencies.DynamicNTK(
            pe.frequencies.Geometric(dim=4), factor=2.0, original_length=8
        )
        assert list(schedule(length=8)) == [1.0, 0.01]
        assert list(schedule(length=12)) == [1.0, 0.005]
        ```

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.3, which describes a method
        that emozilla first posted in a forum. The formula follows `dynamic` in
        transformers. The paper has `factor` 1.
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)
    original_length: int = eqx.field(static=True)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)
        check_count("original_length", self.original_length, 1)
        _check_two(self.base)

    def for_length(self, length: int | Num[Array, ""]) -> AbstractFrequencies:
        """The schedule for `length`: exact for a Python number, and float radians for a
        traced length."""
        if not isinstance(length, int):
            beyond = as_float(length) / self.original_length - 1
            return traced_ntk(self.base, 1 + self.factor * jnp.maximum(beyond, 0))
        with decimal.localcontext(HOST_PRECISION):
            # The equal form `factor * length / original_length - (factor - 1)` may
            # round below one at the original length. This form is exactly one there.
            beyond = Decimal(max(length, self.original_length)) / self.original_length
            return _ExactNTK(self.base, 1 + Decimal(self.factor) * (beyond - 1))


class _ExactNTK(AbstractScaledFrequencies):
    """Dynamic NTK at a fixed length. `NTK` would round its factor to float64."""

    base: AbstractStaticFrequencies
    # A float64 would round the factor, and far positions multiply its error.
    factor: Decimal = eqx.field(static=True)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        return slowed_evenly(self.base.exact(), self.factor)


DynamicNTK.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to slow down: at least two.
- `factor`: How strongly the scaling grows with the length. With 1, it is the length
    over `original_length`.
- `original_length`: The context length, in positions, that `base` was trained on.

**Raises:** a `ValueError` if `factor` is less than one, if `original_length` is not
positive, or if `base` has a single frequency.
"""


def slowed_evenly(frequencies, factor: Decimal) -> Shaped[np.ndarray, " half"]:
    """Keeps the first frequency, divides the last by `factor`, and interpolates the
    divisors geometrically."""
    n = len(frequencies)
    return frequencies * powers(factor, n, n - 1)


def _check_two(base: AbstractStaticFrequencies) -> None:
    check_schedule("base", base)
    rule = "have at least 2 frequencies, the fastest to keep and the slowest to divide"
    require(base.pairs >= 2, "base", rule, base.pairs, "Rotate at least 4 channels.")
