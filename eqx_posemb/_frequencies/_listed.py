"""Frequencies given as a list of numbers."""

import math

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._phase import decimals
from ._base import AbstractStaticFrequencies, evaluated_once


class Listed(AbstractStaticFrequencies):
    r"""Frequencies from a list of numbers.

    $$\omega_i = f_i$$

    Use it for numbers without a formula, which a search has found or a checkpoint
    contains. [`eqx_posemb.frequencies.LearnedFrequencies`][] trains the frequencies.

    !!! Example

        ```python
        import eqx_posemb as pe

        rope = pe.Rotary(pe.frequencies.Listed((1.0, 0.1, 0.01)))
        assert rope.dim == 6
        ```
    """

    # Floats are hashable, and their conversion to decimals is exact.
    frequencies: tuple[float, ...] = eqx.field(
        static=True, converter=lambda values: tuple(map(float, values))
    )

    def __check_init__(self):
        if not self.frequencies or not all(
            # Fixed-point words are unsigned, so a negative frequency cannot be exact.
            math.isfinite(f) and f >= 0
            for f in self.frequencies
        ):
            raise ValueError(
                "`frequencies` must be finite and not negative, and at least one, but "
                f"got {self.frequencies}. To rotate the other way, flip the signs of "
                "the pairing."
            )

    @property
    def pairs(self) -> int:
        """The number of frequencies."""
        return len(self.frequencies)

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return decimals(self.frequencies)


Listed.__init__.__doc__ = """**Arguments:**

- `frequencies`: Radians per unit of position, one for each pair of channels.

**Raises:** a `ValueError` if there is none, or one is negative or not finite.
"""
