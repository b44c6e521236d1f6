"""What a schedule of frequencies is, and the one that all others start from."""

import abc
import decimal
import itertools
from decimal import Decimal
from operator import mul

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, Shaped

from .._checks import check_even, check_positive
from .._phase import Frequencies, HOST_PRECISION, in_common, Turns


Length = int | Num[Array, ""] | None
"""One more than the largest position in use, for schedules that depend on it."""


def context_length(*positions: Num[Array, "..."]) -> Num[Array, ""]:
    """One more than the largest position of all, and one if there is none."""
    last = jnp.stack(in_common(*[jnp.max(p, initial=0) for p in positions])).max()
    if not jnp.issubdtype(last.dtype, jnp.integer):
        return last + 1
    # At the very end of the integers one more would be the least of them. Unsigned
    # positions beyond it have wrapped already, and come out as the end, too.
    end = jnp.iinfo(last.dtype).max
    return jnp.where((last < 0) | (last == end), end, last + 1)


class AbstractFrequencies(eqx.Module):
    """A schedule: how fast each pair of channels turns, given the context length."""

    @abc.abstractmethod
    def turns(self, length: Length = None) -> Frequencies:
        """What [`eqx_posemb.Rotary`][] reads: exact [`eqx_posemb.Turns`][] where the
        schedule is static, and radians in floating point where it is learned or
        traced."""

    @abc.abstractmethod
    def __call__(
        self, length: Length = None
    ) -> Float[Array, " half"] | Float[np.ndarray, " half"]:
        """**Arguments:**

        - `length`: one more than the largest position in use. Static schedules ignore
            it.

        **Returns:**

        The frequencies, in radians per unit of position.
        """


class AbstractStaticFrequencies(AbstractFrequencies):
    """A schedule fixed by its settings alone, computed on the host in exact decimals.

    Subclasses write their formula in `exact`, over NumPy arrays of `decimal.Decimal`:
    the frequencies then stay good for every position up to 2³¹, which those of float64
    are not. Such schedules wrap each other without losing digits.
    """

    @abc.abstractmethod
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""

    def turns(self, length: Length = None) -> Turns:
        """The frequencies in turns per unit of position, as 64-bit fixed point."""
        del length
        with decimal.localcontext(HOST_PRECISION):
            return Turns.from_radians(self.exact())

    def __call__(self, length: Length = None) -> Float[np.ndarray, " half"]:
        """**Arguments:**

        - `length`: ignored.

        **Returns:**

        The frequencies, in radians per unit of position, in float64.
        """
        del length
        with decimal.localcontext(HOST_PRECISION):
            return self.exact().astype(np.float64)


class Geometric(AbstractStaticFrequencies):
    r"""Spaces the frequencies evenly in their logarithm, from 1 to almost `1 / theta`.

    $$\omega_i = \theta^{-2i/d}, \qquad i = 0, \dots, d/2 - 1$$

    for $d$ rotated channels (`dim`), in radians per unit of position. The fastest pair
    turns once in $2\pi$ positions and tells neighbours apart; the slowest turns once
    in almost $2\pi\theta$ and hardly moves within a context. A larger `theta` slows
    all but the first, which is how models for long contexts are trained.

    Not to be confused with the spacing of tensor2tensor and fairseq, whose last
    frequency is exactly `1 / theta`: that is `endpoint=True`.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert list(pe.Geometric(dim=4, theta=10_000.0)()) == [1.0, 0.01]
        assert list(pe.Geometric(dim=4, endpoint=True)()) == [1.0, 0.0001]
        ```

    ??? cite "Reference"

        [RoFormer: Enhanced Transformer with Rotary Position
        Embedding](https://arxiv.org/abs/2104.09864), Section 3.2.2, after Vaswani et
        al. (2017), Section 3.5.

        ```bibtex
        @article{su2024roformer,
            author={Su, Jianlin and Ahmed, Murtadha and Lu, Yu and Pan, Shengfeng and
                    Bo, Wen and Liu, Yunfeng},
            title={{RoFormer}: Enhanced Transformer with Rotary Position Embedding},
            journal={Neurocomputing},
            volume={568},
            year={2024},
        }
        ```
    """

    dim: int = eqx.field(static=True)
    theta: float = eqx.field(static=True, default=10_000.0, converter=float)
    endpoint: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_even("dim", self.dim, "to be rotated in pairs")
        check_positive("theta", self.theta)
        if self.endpoint and self.dim < 4:
            raise ValueError(
                "`dim` must be at least 4 for `endpoint=True`, to have a first and a "
                f"last frequency, but got {self.dim}."
            )

    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        half = self.dim // 2
        steps = half - 1 if self.endpoint else half
        return powers(self.theta, half, steps)


Geometric.__init__.__doc__ = """**Arguments:**

- `dim`: The number of channels to rotate; half as many frequencies.
- `theta`: The base: the ratio of the fastest frequency to the (virtual) next after the
    slowest.
- `endpoint`: Whether the slowest frequency is exactly `1 / theta`.

**Raises:** a `ValueError` if `dim` is odd or not positive, if `theta` is not positive,
or if `endpoint` has fewer than two frequencies to space.
"""


def powers(
    base: float | Decimal, count: int, steps: int
) -> Shaped[np.ndarray, " half"]:
    """`base ** (-i / steps)` for `i < count`, in exact decimals."""
    with decimal.localcontext() as context:
        # A product takes a hundredth of the time of a power. These digits more cover
        # the rounding errors of all products.
        context.prec += len(str(count)) + 2
        ratio = Decimal(base) ** (Decimal(-1) / Decimal(steps))
        found = itertools.accumulate([ratio] * (count - 1), mul, initial=Decimal(1))
        found = list(found)
    return np.array([+value for value in found], dtype=object)
