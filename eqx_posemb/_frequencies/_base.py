"""The base classes of frequency schedules, and the geometric schedule."""

import abc
import dataclasses
import decimal
import functools
import itertools
from decimal import Decimal
from operator import mul

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Num, Shaped

from .._checks import as_number, check_even, check_kind, check_positive, require
from .._module import Module
from .._phase import Frequencies, HOST_PRECISION, Turns
from ._length import Length


def evaluated_once(method):
    """Evaluates a method of a static schedule once for each value of the schedule, in
    exact decimals."""

    def evaluate(schedule):
        with decimal.localcontext(HOST_PRECISION):
            found = method(schedule)
        for array in jax.tree.leaves(found):
            # The cache returns the same arrays to every caller.
            array.setflags(write=False)
        return found

    @functools.lru_cache(maxsize=1024)
    def of_value(structure):
        return evaluate(jax.tree.unflatten(structure, ()))

    @functools.wraps(method)
    def evaluated(schedule):
        # A static schedule has no arrays, so its tree structure holds all settings.
        arrays, structure = jax.tree.flatten(schedule)
        return evaluate(schedule) if arrays else of_value(structure)

    return evaluated


class AbstractFrequencies(Module):
    """A schedule: the frequency of each pair of channels.

    Subclasses define `turns` and `__call__`, which returns readable numbers. A subclass
    also defines `pairs` if the number is known without an evaluation.
    """

    @property
    def pairs(self) -> int:
        """The number of frequencies, one for each pair of channels."""
        return np.shape(self())[-1]

    @property
    def dynamic(self) -> bool:
        """Whether the frequencies depend on the context length."""
        return False

    @property
    def unscaled(self) -> "AbstractFrequencies":
        """The schedule before any scaling, with which the model was first trained."""
        return self

    @property
    def scaling_factor(self) -> float:
        """The number that divides the fully scaled frequencies of `unscaled`; one
        without scaling."""
        return 1.0

    def for_length(self, length: int | Num[Array, ""]) -> "AbstractFrequencies":
        """The schedule in a context of `length` positions: itself, unless it is
        `dynamic`."""
        del length
        return self

    @abc.abstractmethod
    def turns(self) -> Frequencies:
        """What [`eqx_posemb.Rotary`][] reads: exact
        [`eqx_posemb.frequencies.Turns`][] where the schedule is static, and radians in
        floating point where it is learned or traced."""

    @abc.abstractmethod
    def __call__(self) -> Float[Array, "*heads half"] | Float[np.ndarray, " half"]:
        """The frequencies, in radians per unit of position."""


class AbstractStaticFrequencies(AbstractFrequencies):
    """A schedule fixed by its settings alone, computed on the host in exact decimals.

    Subclasses write their formula in `exact`, over NumPy arrays of `decimal.Decimal`.
    The frequencies are then exact enough for every position up to 2³¹, unlike float64.
    Such schedules wrap each other without losing digits. Equal schedules are evaluated
    once.

    A schedule that slows another one down for longer contexts is an
    [`eqx_posemb.frequencies.AbstractScaledFrequencies`][].

    !!! Example

        ```python
        from decimal import Decimal

        import equinox as eqx
        import numpy as np
        import eqx_posemb as pe

        class Harmonic(pe.frequencies.AbstractStaticFrequencies):
            count: int = eqx.field(static=True)

            @property
            def pairs(self):
                return self.count

            def exact(self):
                return np.array([1 / Decimal(i + 1) for i in range(self.count)])

        rope = pe.Rotary(Harmonic(32))
        assert rope.dim == 64
        ```
    """

    @property
    def unscaled(self) -> "AbstractStaticFrequencies":
        """The schedule before any scaling, with which the model was first trained."""
        return self

    @abc.abstractmethod
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""

    @evaluated_once
    def turns(self) -> Turns:
        """The frequencies in turns per unit of position, as 64-bit fixed point."""
        return Turns.from_radians(self._evaluated())

    def __call__(self) -> Float[np.ndarray, " half"]:
        """The frequencies, in radians per unit of position, in float64."""
        return self._evaluated().astype(np.float64)

    @evaluated_once
    def _evaluated(self):
        # A subclass defines `exact` without `evaluated_once`.
        return self.exact()


def check_schedule(
    name: str, value: object, kind: type = AbstractStaticFrequencies
) -> None:
    check_kind(
        name,
        value,
        kind,
        "Give a schedule, such as `eqx_posemb.frequencies.Geometric(dim=64)`. "
        "`eqx_posemb.frequencies.Listed` makes one of numbers.",
    )


class AbstractDerivedFrequencies(AbstractStaticFrequencies):
    """A static schedule that changes each frequency of another schedule, `base`."""

    # The base is static, so decimals pass through all wrappers without rounding.
    base: eqx.AbstractVar[AbstractStaticFrequencies]

    def __check_init__(self):
        check_schedule("base", self.base)

    @property
    def pairs(self) -> int:
        """The number of frequencies, which equals the number of `base`."""
        return self.base.pairs

    @property
    def unscaled(self) -> AbstractStaticFrequencies:
        """The schedule `base` before any scaling."""
        return dataclasses.replace(self, base=self.base.unscaled)

    @property
    def scaling_factor(self) -> float:
        """The scaling factor of `base`."""
        return self.base.scaling_factor


class AbstractScaledFrequencies(AbstractDerivedFrequencies):
    """A static schedule that extends another schedule, `base`, by up to `factor`.

    Such schedules extend the context. Subclasses have `base` and `factor` as fields,
    and define `exact`, as in [`eqx_posemb.frequencies.AbstractStaticFrequencies`][].
    The figures [`eqx_posemb.plot.schedule`][] and [`eqx_posemb.plot.wavelengths`][]
    then show which frequencies are kept, and which are divided in full or in part.

    !!! Example

        ```python
        from decimal import Decimal

        import equinox as eqx
        import numpy as np
        import eqx_posemb as pe

        class Slowest(pe.frequencies.AbstractScaledFrequencies):
            base: pe.frequencies.AbstractStaticFrequencies
            factor: float = eqx.field(static=True)

            def exact(self):
                kept, last = np.split(self.base.exact(), [-1])
                return np.concatenate([kept, last / Decimal(self.factor)])

        schedule = Slowest(pe.frequencies.Geometric(dim=4), factor=2.0)
        assert list(schedule()) == [1.0, 0.005]
        assert schedule.unscaled == pe.frequencies.Geometric(dim=4)
        ```
    """

    # A factor above one makes wavelengths longer.
    factor: eqx.AbstractVar[float | Decimal]

    @property
    def unscaled(self) -> AbstractStaticFrequencies:
        """The schedule `base` before any scaling."""
        return self.base.unscaled

    @property
    def scaling_factor(self) -> float:
        """`factor`, times the scaling factor of `base`."""
        return float(self.factor) * self.base.scaling_factor


class AbstractDynamicFrequencies(AbstractFrequencies):
    """A schedule that depends on the context length.

    Subclasses define `for_length`: the schedule in a context of a given length. It is
    exact for a Python number, and has arrays for a traced length. Without a length it
    is the schedule of a short text.
    """

    @property
    def dynamic(self) -> bool:
        """True: the frequencies depend on the context length."""
        return True

    @property
    def pairs(self) -> int:
        """The number of frequencies, the same for every length."""
        return self._for(None).pairs

    @property
    def unscaled(self) -> AbstractFrequencies:
        """The schedule before any scaling, the same for every length."""
        return self._for(None).unscaled

    @property
    def scaling_factor(self) -> float:
        """The scaling factor for a short text."""
        return self._for(None).scaling_factor

    @abc.abstractmethod
    def for_length(self, length: int | Num[Array, ""]) -> AbstractFrequencies:
        """The schedule in a context of `length` positions."""

    def turns(self, length: Length = None) -> Frequencies:
        """The frequencies, exact for a `length` that is a Python number."""
        return self._for(length).turns()

    def __call__(
        self, length: Length = None
    ) -> Float[Array, " half"] | Float[np.ndarray, " half"]:
        """**Arguments:**

        - `length`: one more than the largest position in use. None stands for a short
            text.

        **Returns:**

        The frequencies, in radians per unit of position.
        """
        return self._for(length)()

    def _for(self, length):
        # A context of one position is within every trained length, so it needs no
        # scaling.
        return self.for_length(1 if length is None else length)


class Geometric(AbstractStaticFrequencies):
    r"""Geometric frequencies from 1 to almost `1 / theta`, Su et al. 2021.

    $$\omega_i = \theta^{-2i/d}, \qquad i = 0, \dots, d/2 - 1$$

    for $d$ rotated channels (`dim`), in radians per unit of position. The fastest pair
    has a wavelength of $2\pi$ positions, and distinguishes neighbors. The slowest pair
    has a wavelength of almost $2\pi\theta$, and hardly turns within a context. A larger
    `theta` lowers all frequencies except the first. Models for long contexts are
    trained with a larger `theta`.

    Not to be confused with the spacing of tensor2tensor and fairseq, whose last
    frequency is exactly `1 / theta`: that is `endpoint=True`.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert list(pe.frequencies.Geometric(dim=4, theta=10_000.0)()) == [1.0, 0.01]
        assert list(pe.frequencies.Geometric(dim=4, endpoint=True)()) == [1.0, 0.0001]
        ```

    ??? cite "Reference"

        [RoFormer: Enhanced Transformer with Rotary Position
        Embedding](https://arxiv.org/abs/2104.09864), Section 3.2.2, after Vaswani et
        al. (2017), Section 3.5.
    """

    # Settings are static: an array here would be a leaf, and weight decay would change
    # it.
    dim: int = eqx.field(static=True)
    theta: float = eqx.field(static=True, default=10_000.0, converter=as_number)
    endpoint: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_even("dim", self.dim, "to be rotated in pairs")
        check_positive("theta", self.theta)
        rule = "be at least 4 for `endpoint=True`, to have a first and a last frequency"
        require(not self.endpoint or self.dim >= 4, "dim", rule, self.dim)

    @property
    def pairs(self) -> int:
        """The number of frequencies: half of `dim`."""
        return self.dim // 2

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        half = self.pairs
        steps = half - 1 if self.endpoint else half
        return powers(self.theta, half, steps)


Geometric.__init__.__doc__ = """**Arguments:**

- `dim`: The number of channels to rotate, which is twice the number of frequencies.
- `theta`: The base. It is the ratio of the highest frequency to the next frequency
    after the lowest.
- `endpoint`: Whether the slowest frequency is exactly `1 / theta`.

**Raises:** a `ValueError` if `dim` is odd or not positive, if `theta` is not positive,
or if `endpoint` has fewer than two frequencies to space.
"""


def powers(
    base: float | Decimal, count: int, steps: int
) -> Shaped[np.ndarray, " half"]:
    """`base ** (-i / steps)` for `i < count`, in exact decimals."""
    with decimal.localcontext() as context:
        # A product takes a hundredth of the time of a power. The additional digits
        # cover the rounding errors of all products.
        context.prec += len(str(count)) + 2
        ratio = Decimal(base) ** (Decimal(-1) / Decimal(steps))
        found = itertools.accumulate([ratio] * (count - 1), mul, initial=Decimal(1))
        found = list(found)
    # The unary plus rounds the additional digits away, to the precision of the caller.
    return np.array([+value for value in found], dtype=object)
