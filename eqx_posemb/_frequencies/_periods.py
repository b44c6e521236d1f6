"""Schedules that change periods: slow ones that stop, and whole ones."""

import decimal
import math
from decimal import Decimal

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._checks import check_between, check_count, require
from .._phase import decimals, TWO_PI
from ._base import (
    AbstractDerivedFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
)


class Clipped(AbstractDerivedFrequencies):
    r"""Clipped RoPE, Li et al. 2026: lets the slowest frequencies fade to zero.

    $$\omega_{n - m + j} \mapsto \omega_{n - m + j}\,
      \frac{1 + \cos(\pi j / (m - 1))}{2}, \qquad j = 0, \dots, m - 1$$

    for $n$ frequencies and the slowest $m$ = `count` of them. Their periods are longer
    than the context in training, so that longer contexts reach angles that were never
    seen. [`eqx_posemb.frequencies.Truncated`][] sets them to zero at once. A smooth end
    avoids logits that ring at long distances.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.frequencies.Geometric(dim=8)
        schedule = pe.frequencies.Clipped(base, count=3)
        assert (schedule()[:2] == base()[:2]).all()
        assert schedule()[2] == base()[2] / 2 and schedule()[3] == 0
        ```

    ??? cite "Reference"

        [CoPE: Clipped RoPE as A Scalable Free Lunch for Long Context
        LLMs](https://arxiv.org/abs/2602.05258); the formula is from the authors' code.
    """

    base: AbstractStaticFrequencies
    count: int = eqx.field(static=True)

    def __check_init__(self):
        check_schedule("base", self.base)
        check_count("count", self.count, 2)
        check_between("count", self.count, 2, self.pairs, "the number of frequencies")

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        # A raised cosine avoids the ringing of a sharp cut, which would
        # spread over positions.
        turn = math.pi / (self.count - 1)
        fading = [(1 + math.cos(turn * j)) / 2 for j in range(self.count)]
        kept = [1.0] * (self.pairs - self.count)
        return self.base.exact() * decimals(kept + fading)


Clipped.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to clip.
- `count`: How many of the slowest frequencies fade, the last of them to zero: 20 of 64
    in the authors' code.

**Raises:** a `ValueError` unless `count` is between 2 and the number of frequencies.
"""


class Resonance(AbstractDerivedFrequencies):
    r"""Resonance RoPE, Wang et al. 2024: rounds wavelengths to whole positions.

    $$\omega_i \mapsto \frac{2 \pi}{\lambda_i}, \qquad
      \lambda_i = \Big\lfloor \frac{2 \pi}{\omega_i} \Big\rceil$$

    A pair whose wavelength is below the context of training then meets the same angles
    in any longer context, and none between them. Longer wavelengths still meet new
    angles, so it goes with another extension: wrap
    [`eqx_posemb.frequencies.YaRNFrequencies`][], as the paper does. Frequencies of zero
    stay zero.

    !!! Example

        ```python
        import math
        import eqx_posemb as pe

        schedule = pe.frequencies.Resonance(pe.frequencies.Geometric(dim=4))
        wavelengths = 2 * math.pi / schedule()
        assert wavelengths.round(9).tolist() == [6.0, 628.0]
        ```

    ??? cite "Reference"

        [Resonance RoPE: Improving Context Length Generalization of Large Language
        Models](https://arxiv.org/abs/2403.00071), Section 4.1.
    """

    base: AbstractStaticFrequencies

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return np.array([self._rounded(each) for each in self.base.exact()])

    def _rounded(self, frequency):
        # A pair that does not rotate has no wavelength.
        if not frequency:
            return frequency
        # The authors round half to even, as PyTorch does.
        wavelength = (TWO_PI / frequency).quantize(Decimal(1), decimal.ROUND_HALF_EVEN)
        rule = "have wavelengths of at least half a position"
        cure = "Count positions in a smaller unit."
        words = f"a frequency of {float(frequency)} radians"
        require(wavelength, "base", rule, cure=cure, words=words)
        return TWO_PI / wavelength


Resonance.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies whose wavelengths are rounded.

**Raises:** a `ValueError` when it is evaluated, if a wavelength is below a half.
"""
