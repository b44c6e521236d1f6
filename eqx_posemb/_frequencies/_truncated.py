"""Schedules whose lowest frequencies are zero."""

from decimal import Decimal

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._checks import check_between, check_count
from ._base import (
    AbstractDerivedFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
)


class Truncated(AbstractDerivedFrequencies):
    r"""The frequencies of p-RoPE, Barbero et al. 2025.

    It keeps the highest `keep` frequencies, and sets the others to zero:

    $$\omega_i \mapsto \begin{cases} \omega_i & i < m \\ 0 & i \ge m \end{cases}$$

    for $m$ given by `keep`. The channels of a zero frequency pass through unchanged.
    They can carry content at any distance, which a slow rotation would disturb in a
    long context.

    Not to be confused with rotating fewer channels (`rotary_dim`): that spaces the
    frequencies anew over the channels rotated, and this keeps the spacing of all.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert list(
            pe.frequencies.Truncated(pe.frequencies.Geometric(dim=4), keep=1)()
        ) == [1.0, 0.0]
        ```

    ??? cite "Reference"

        [Round and Round We Go! What makes Rotary Positional Encodings
        useful?](https://arxiv.org/abs/2410.06205), Section 6.
    """

    base: AbstractStaticFrequencies
    keep: int = eqx.field(static=True)

    def __check_init__(self):
        check_schedule("base", self.base)
        check_count("keep", self.keep, 0)
        check_between("keep", self.keep, 0, self.pairs, "the number of frequencies")

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        # The cached array of `base` is read-only and shared.
        frequencies = self.base.exact().copy()
        frequencies[self.keep :] = Decimal(0)
        return frequencies


Truncated.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to choose from.
- `keep`: How many of them to keep, from the first on.

**Raises:** a `ValueError` unless `keep` is between 0 and the number of frequencies.
"""
