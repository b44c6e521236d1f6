"""Schedules that divide low frequencies and keep high frequencies."""

import math
from decimal import Decimal

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._checks import as_number, check_at_least, check_between, check_positive, require
from .._phase import decimals, TWO_PI
from ._base import (
    AbstractScaledFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
    Geometric,
)


class NTKByParts(AbstractScaledFrequencies):
    r"""NTK-by-parts scaling, Peng et al. 2024.

    It divides low frequencies by `factor`, keeps high frequencies, and blends the
    others.

    A frequency with many turns within the trained context has covered every angle, and
    extrapolates. A frequency without a full turn would reach new angles, so its
    positions are interpolated.

    Let $r = L_0\, \omega / 2 \pi$ be the number of turns that a frequency $\omega$
    makes over the original context of $L_0$ positions. Then

    $$\omega \mapsto (1 - \gamma) \frac{\omega}{s} + \gamma\, \omega, \qquad
      \gamma = \mathrm{clip}\Big(\frac{r - r_\text{slow}}
                                 {r_\text{fast} - r_\text{slow}}, 0, 1\Big)$$

    for the scaling factor $s$ = `factor`. Llama 3.1 is `slow=1, fast=4`. With `slow`
    equal to `fast` there is no blend, only the cut.

    This ramps over turns, as the paper does. Its released code ramps over the *index*
    of the frequency: that is [`eqx_posemb.frequencies.YaRNFrequencies`][], and the two
    differ.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.frequencies.Geometric(dim=128, theta=500_000.0)
        schedule = pe.frequencies.NTKByParts(
            base, factor=8.0, original_length=8192, fast=4.0
        )
        assert schedule()[0] == base()[0]
        assert schedule()[-1] == base()[-1] / 8
        ```

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.2.
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)
    # The length counts the positions of the context before the extension.
    original_length: int = eqx.field(static=True)
    slow: float = eqx.field(static=True, default=1.0, converter=as_number)
    fast: float = eqx.field(static=True, default=32.0, converter=as_number)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)
        check_positive("original_length", self.original_length)
        check_at_least("slow", self.slow, 0)
        check_at_least("fast", self.fast, 0)
        if not self.slow <= self.fast:
            raise ValueError(
                "`slow` and `fast` are numbers of turns with `0 <= slow <= fast`, but "
                f"got slow={self.slow} and fast={self.fast}."
            )

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        frequencies = self.base.exact()
        # The ramp follows the turns of each frequency, so `base` need not be geometric.
        turns = self.original_length * frequencies / TWO_PI
        return blend(frequencies, self.factor, self._kept(turns))

    def _kept(self, turns):
        slow, fast = Decimal(self.slow), Decimal(self.fast)
        # Without a ramp, the formula would divide by zero.
        if slow == fast:
            return decimals((turns >= slow).astype(int).tolist())
        return _between_0_and_1((turns - slow) / (fast - slow))


NTKByParts.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to scale.
- `factor`: How many times longer than `original_length` the context is to be. At least
    one; exactly one changes nothing.
- `original_length`: The context length, in positions, that `base` was trained on.
- `slow`: Frequencies making fewer turns than this are divided by `factor`.
- `fast`: Frequencies making more turns than this are kept.

**Raises:** a `ValueError` if `factor` is less than one, if `original_length` is not
positive, or unless `0 <= slow <= fast`.
"""


class YaRNFrequencies(AbstractScaledFrequencies):
    r"""The frequencies of YaRN, Peng et al. 2024, as in the authors' code.

    The ramp between kept and divided frequencies is over their index.

    [`eqx_posemb.frequencies.NTKByParts`][] has the ramp over the turns. The authors'
    code has it over the index, and so do the models that it trained. A frequency of a
    geometric schedule with base $\theta$ over $d$ channels makes $\beta$ turns within
    the original context of $L_0$ positions at the index

    $$i(\beta) = \frac{d \ln (L_0 / 2 \pi \beta)}{2 \ln \theta}$$

    and the ramp falls linearly from one at $\lfloor i(\beta_\text{fast}) \rfloor$ to
    zero at $\lceil i(\beta_\text{slow}) \rceil$:

    $$\omega_i \mapsto (1 - \gamma_i) \frac{\omega_i}{s} + \gamma_i\, \omega_i, \qquad
      \gamma_i = e \cdot \Big(1 - \mathrm{clip}\Big(
        \frac{i - i_\text{fast}}{i_\text{slow} - i_\text{fast}}, 0, 1\Big)\Big)$$

    for the scaling factor $s$ = `factor` and $e$ = `extrapolation_factor`. YaRN also
    raises the attention temperature: that is [`eqx_posemb.yarn`][], the whole method.

    As in the authors' code, $i_\text{fast}$ is at least 0, $i_\text{slow}$ is at most
    $d - 1$ (not $d / 2 - 1$), and an empty ramp gets a width of 0.001.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.frequencies.Geometric(dim=128)
        schedule = pe.frequencies.YaRNFrequencies(
            base, factor=4.0, original_length=4096
        )
        assert (schedule()[:20] == base()[:20]).all()
        assert (schedule()[46:] == base()[46:] / 4).all()
        ```

    ??? cite "Reference"

        [YaRN: Efficient Context Window Extension of Large Language
        Models](https://arxiv.org/abs/2309.00071), Section 3.2, as in the authors' code.
    """

    # The index of a number of turns has a closed form for geometric schedules only.
    base: Geometric
    factor: float = eqx.field(static=True, converter=as_number)
    original_length: int = eqx.field(static=True)
    slow: float = eqx.field(static=True, default=1.0, converter=as_number)
    fast: float = eqx.field(static=True, default=32.0, converter=as_number)
    extrapolation_factor: float = eqx.field(
        static=True, default=1.0, converter=as_number
    )
    # Some models, such as gpt-oss, were trained without rounded ends of the ramp.
    truncate: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_at_least("factor", self.factor, 1)
        check_positive("original_length", self.original_length)
        check_at_least("slow", self.slow, 0)
        check_at_least("fast", self.fast, 0)
        if not 0 < self.slow <= self.fast:
            raise ValueError(
                "`slow` and `fast` are numbers of turns with `0 < slow <= fast`, but "
                f"got slow={self.slow} and fast={self.fast}."
            )
        check_between("extrapolation_factor", self.extrapolation_factor, 0, 1)
        check_schedule("base", self.base, Geometric)
        rule = "have a `theta` above 1, for its frequencies to fall with the index"
        require(self.base.theta > 1, "base", rule, self.base.theta)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return blend(self.base.exact(), self.factor, self._kept())

    def _kept(self):
        first, last = (
            index_of_turns(turns, self.base.dim, self.base.theta, self.original_length)
            for turns in (self.fast, self.slow)
        )
        if self.truncate:
            first, last = Decimal(math.floor(first)), Decimal(math.ceil(last))
        # The authors' code clips to `dim - 1` and widens an empty ramp, and checkpoints
        # depend on both.
        first, last = max(first, Decimal(0)), min(last, Decimal(self.base.dim - 1))
        width = Decimal("0.001") if first == last else last - first
        index = decimals(range(self.pairs))
        fallen = _between_0_and_1((index - first) / width)
        return (1 - fallen) * Decimal(self.extrapolation_factor)


YaRNFrequencies.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to scale. They must be geometric, as the formula of the ramp
    needs their base.
- `factor`: How many times longer than `original_length` the context is to be. At least
    one; exactly one changes nothing.
- `original_length`: The context length, in positions, that `base` was trained on.
- `slow`: The number of turns below which frequencies are divided by `factor`.
- `fast`: The number of turns above which frequencies are kept.
- `extrapolation_factor`: How much of the kept part is kept: 0 is plain interpolation.
- `truncate`: Whether the ends of the ramp are rounded outwards to whole indices, as the
    authors' code has it. gpt-oss does not.

**Raises:** a `ValueError` if `factor` is less than one, if `original_length` is not
positive, unless `0 < slow <= fast`, unless `extrapolation_factor` is between 0 and 1,
or if the base of `base` is not above one.
"""


def index_of_turns(
    turns: float, dim: int, theta: float, original_length: float
) -> Decimal:
    """The fractional index of the frequency of a geometric schedule that makes `turns`
    turns within the original context."""
    log_turns = (Decimal(original_length) / (TWO_PI * Decimal(turns))).ln()
    return dim * log_turns / (2 * Decimal(theta).ln())


def blend(frequencies, factor, kept) -> Shaped[np.ndarray, " half"]:
    """Keeps the share `kept` of each frequency, and divides the rest by `factor`."""
    # The shorter form ω(γ + (1 - γ)/s) rounds at the ends of the ramp. This form keeps
    # high frequencies bit for bit.
    return (1 - kept) * (frequencies / Decimal(factor)) + kept * frequencies


def _between_0_and_1(ramp):
    return np.array([min(max(share, Decimal(0)), Decimal(1)) for share in ramp])
