"""Frequencies in another unit of position."""

from decimal import Decimal

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._checks import as_number, check_positive
from ._base import (
    AbstractDerivedFrequencies,
    AbstractStaticFrequencies,
    evaluated_once,
)


class Scaled(AbstractDerivedFrequencies):
    r"""A change of the unit of position: every frequency is multiplied by a number.

    $$\omega \mapsto c\, \omega$$

    for a `factor` $c$. Use it for coordinates in seconds, pixels, or shares of an
    image. DINOv3 has patch centers between -1 and 1 and `factor=2 * math.pi`, so the
    fastest pair turns twice over the image.

    [`eqx_posemb.frequencies.Linear`][] divides frequencies for a longer context.

    !!! Example

        ```python
        import math
        import eqx_posemb as pe

        turns = pe.frequencies.Scaled(
            pe.frequencies.Geometric(dim=4), factor=2 * math.pi
        )
        assert turns()[0] == 2 * math.pi
        ```
    """

    base: AbstractStaticFrequencies
    factor: float = eqx.field(static=True, converter=as_number)

    def __check_init__(self):
        check_positive("factor", self.factor)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        # A change of unit is no scaling of the context, so `scaling_factor` stays
        # unchanged.
        return self.base.exact() * Decimal(self.factor)


Scaled.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to multiply.
- `factor`: The frequencies are multiplied by it.

**Raises:** a `ValueError` if `factor` is not positive.
"""
