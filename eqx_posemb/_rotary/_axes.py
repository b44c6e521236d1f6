"""Axes: which coordinate of a position turns which pair of channels."""

import abc
from typing import Literal

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, Int, Num

from .._checks import as_tuple, check_choice, check_count, check_shape
from .._module import Module
from .._phase import Frequencies, Turns


class AbstractAxes(Module):
    r"""How positions of several coordinates become angles.

    An angle is a sum of terms, each the product of a coordinate and a frequency:

    $$a_i = \sum_t p_{\text{axis}(t, i)}\, \omega_{\text{frequency}(t, i)}$$

    for the coordinates $p$ of a token and the frequencies $\omega$ of the schedule. The
    choice is static, so axes compose with every schedule, pairing and width.
    """

    @property
    @abc.abstractmethod
    def coordinates(self) -> int:
        """The number of coordinates of a position."""

    @abc.abstractmethod
    def axis(self, frequencies: int) -> Int[np.ndarray, "terms angles"]:
        """For each term of each angle, which coordinate it reads."""

    @abc.abstractmethod
    def frequency(self, frequencies: int) -> Int[np.ndarray, "terms angles"]:
        """For each term of each angle, which frequency of the schedule it has.

        **Raises:** a `ValueError` if the schedule has a different number of
        frequencies.
        """


class Axial(AbstractAxes):
    r"""Axial coordinates: each coordinate has a block of pairs with the whole schedule.

    $$a_{km + i} = p_k\, \omega_i, \qquad k = 0, \dots, n - 1, \quad
      i = 0, \dots, m - 1$$

    for $n$ coordinates (`count`) and $m$ frequencies. In images, the first half of the
    pairs turns with the row, and the second half with the column. Each axis has all
    wavelengths, and a logit depends on the offset along each axis.

    [`eqx_posemb.axial_rope`][] supports axes of different widths, as videos need them.

    !!! Example

        ```python
        import eqx_posemb as pe

        rope = pe.Rotary(
            pe.frequencies.Geometric(dim=32), axes=pe.axes.Axial(2)
        )  # 64 channels
        rotation = rope(pe.positions.grid_positions((14, 14)))
        assert rope.dim == 64
        ```
    """

    count: int = eqx.field(static=True, default=2)
    interleaved: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        check_count("count", self.count, 1)

    @property
    def coordinates(self) -> int:
        """The number of coordinates of a position."""
        return self.count

    def axis(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """For each angle, which coordinate it reads."""
        return self._split(frequencies)[0][None]

    def frequency(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """For each angle, which frequency of the schedule it has."""
        return self._split(frequencies)[1][None]

    def _split(self, frequencies):
        # Indices are host arrays, so they are constants of the compiled program.
        angles = np.arange(self.count * frequencies)
        if self.interleaved:
            return angles % self.count, angles // self.count
        return angles // frequencies, angles % frequencies


Axial.__init__.__doc__ = """**Arguments:**

- `count`: The number of coordinates: 2 for images, 3 for video.
- `interleaved`: Whether the coordinates alternate, frequency by frequency, as in
    Kimi-K2.5, in place of one block each.

**Raises:** a `ValueError` if `count` is less than one.
"""


class Sections(AbstractAxes):
    r"""The sections of M-RoPE: the pairs of one schedule are assigned to coordinates.

    $$a_i = p_{\text{axis}(i)}\, \omega_i$$

    Every pair keeps its frequency from text. The coordinates of a text token are equal,
    so text is rotated as by an ordinary rotary embedding. A language model can thus
    learn images without losing text. M-RoPE has three orders:

    - `"chunked"`: `sizes[0]` pairs for the first coordinate, then `sizes[1]` for the
        second, and so on. Qwen2-VL, GLM-4V; XDRoPE. The first coordinate has the
        fastest frequencies.
    - `"interleaved"`: pair `i` reads coordinate `i mod n` while that coordinate has
        pairs left, and then the first coordinate. Every coordinate has high and low
        frequencies. Qwen3-VL uses it.
    - `"tail"`: the later coordinates take turns, and the first has the slow pairs that
        are left. Ernie 4.5-VL, VideoRoPE, where the first is time.

    !!! Example

        ```python
        import eqx_posemb as pe

        axes = pe.axes.Sections((2, 1, 1), order="interleaved")
        assert axes.axis(4)[0].tolist() == [0, 1, 2, 0]
        ```

    ??? cite "Reference"

        [Qwen2-VL: Enhancing Vision-Language Model's Perception of the World at Any
        Resolution](https://arxiv.org/abs/2409.12191), Section 2.1; the orders as in
        the released code.
    """

    # Sizes count pairs and not channels, as `mrope_section` does.
    sizes: tuple[int, ...] = eqx.field(static=True, converter=as_tuple)
    order: Literal["chunked", "interleaved", "tail"] = eqx.field(
        static=True, default="chunked"
    )

    def __check_init__(self):
        rule = "have one number of pairs, not negative, for each coordinate"
        check_shape("sizes", self.sizes, bound=0, rule=rule)
        check_choice("order", self.order, ("chunked", "interleaved", "tail"))

    @property
    def coordinates(self) -> int:
        """The number of coordinates of a position."""
        return len(self.sizes)

    def axis(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """For each pair, which coordinate it reads."""
        self._check(frequencies)
        if self.order == "chunked":
            return np.repeat(np.arange(self.coordinates), self.sizes)[None]
        pairs = np.arange(frequencies)
        if self.order == "interleaved":
            turn, lap = pairs % self.coordinates, pairs // self.coordinates
        else:
            others = max(self.coordinates - 1, 1)
            turn, lap = 1 + pairs % others, pairs // others
            # With a single coordinate there are no later coordinates, and the index
            # would be out of range.
            turn = np.minimum(turn, self.coordinates - 1)
        # Once a coordinate has all of its pairs, the first coordinate has the rest.
        left = lap < np.array(self.sizes)[turn]
        return np.where(left, turn, 0)[None]

    def frequency(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """Each pair has its own frequency."""
        self._check(frequencies)
        return np.arange(frequencies)[None]

    def _check(self, frequencies):
        if sum(self.sizes) != frequencies:
            raise ValueError(
                f"`sizes` must add up to the number of frequencies, {frequencies}, but "
                f"got {self.sizes}, which are {sum(self.sizes)}."
            )


Sections.__init__.__doc__ = """**Arguments:**

- `sizes`: How many pairs each coordinate turns: `mrope_section` in transformers. In
    the orders `"interleaved"` and `"tail"` the first coordinate has what the others
    leave.
- `order`: `"chunked"`, `"interleaved"` or `"tail"`.

**Raises:** a `ValueError` if a size is negative or `order` is unknown; and in a
[`eqx_posemb.Rotary`][] whose schedule has another number of frequencies than `sizes`
add up to.
"""


class Mixed(AbstractAxes):
    r"""Mixed coordinates: every pair turns with all coordinates.

    $$a_i = \sum_k p_k\, \omega_{k m + i}, \qquad k = 0, \dots, n - 1, \quad
      i = 0, \dots, m - 1$$

    for $n$ coordinates (`count`), each with its own frequency, and a schedule of $n m$
    frequencies, which are mostly learned:
    [`eqx_posemb.frequencies.LearnedFrequencies`][]. A pair then turns along a direction
    of the image, and not only along rows or columns. [`eqx_posemb.mixed_rope`][] builds
    it.

    !!! Example

        ```python
        import eqx_posemb as pe

        diagonal = pe.Rotary(pe.frequencies.Geometric(dim=8), axes=pe.axes.Mixed(2))
        assert diagonal.dim == 4  # Two frequencies for each of two angles.
        ```

    ??? cite "Reference"

        [Rotary Position Embedding for Vision
        Transformer](https://arxiv.org/abs/2403.13298), Section 3.3.
    """

    count: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        check_count("count", self.count, 1)

    @property
    def coordinates(self) -> int:
        """The number of coordinates of a position."""
        return self.count

    def axis(self, frequencies: int) -> Int[np.ndarray, "terms angles"]:
        """Every angle reads all coordinates."""
        angles = self._angles(frequencies)
        return np.repeat(np.arange(self.count)[:, None], angles, axis=1)

    def frequency(self, frequencies: int) -> Int[np.ndarray, "terms angles"]:
        """The frequencies of each coordinate are adjacent."""
        angles = self._angles(frequencies)
        return np.arange(frequencies).reshape(self.count, angles)

    def _angles(self, frequencies):
        if frequencies % self.count:
            raise ValueError(
                f"`axes` must divide the frequencies evenly among {self.count} "
                f"coordinates, but the schedule has {frequencies}."
            )
        return frequencies // self.count


Mixed.__init__.__doc__ = """**Arguments:**

- `count`: The number of coordinates.

**Raises:** a `ValueError` if `count` is less than one. A [`eqx_posemb.Rotary`][] raises
one if its schedule cannot be divided into `count` equal parts.
"""


class Assigned(AbstractAxes):
    r"""Assigned coordinates: a list of the coordinate and the frequency of each angle.

    $$a_i = p_{\text{axis}(i)}\, \omega_{\text{frequency}(i)}$$

    It covers cases beyond [`eqx_posemb.axes.Axial`][] and
    [`eqx_posemb.axes.Sections`][]. In Pixtral, even frequencies belong to rows and odd
    frequencies to columns. With a [`eqx_posemb.rotations.Pairing`][], each channel may
    have its own angle.

    !!! Example

        ```python
        import eqx_posemb as pe

        ladder = pe.axes.Assigned(axes=(0, 0, 1, 1), frequencies=(0, 2, 1, 3))
        rope = pe.Rotary(pe.frequencies.Geometric(dim=8), axes=ladder)
        ```
    """

    axes: tuple[int, ...] = eqx.field(static=True, converter=tuple)
    frequencies: tuple[int, ...] = eqx.field(static=True, converter=tuple)

    def __check_init__(self):
        if len(self.axes) != len(self.frequencies) or not self.axes:
            raise ValueError(
                "`axes` and `frequencies` must have one entry per angle each, but got "
                f"{len(self.axes)} and {len(self.frequencies)}."
            )
        if min(self.axes) < 0 or min(self.frequencies) < 0:
            raise ValueError(
                "`axes` and `frequencies` must not be negative, but got "
                f"{self.axes} and {self.frequencies}."
            )

    @property
    def coordinates(self) -> int:
        """The number of coordinates of a position."""
        return max(self.axes) + 1

    def axis(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """For each angle, which coordinate it reads."""
        del frequencies
        return np.array(self.axes)[None]

    def frequency(self, frequencies: int) -> Int[np.ndarray, "1 angles"]:
        """For each angle, which frequency of the schedule it has."""
        # JAX clamps an index out of range silently.
        if max(self.frequencies) >= frequencies:
            raise ValueError(
                f"`frequencies` must be indices of the schedule, from 0 to "
                f"{frequencies - 1}, but got {max(self.frequencies)}."
            )
        return np.array(self.frequencies)[None]


Assigned.__init__.__doc__ = """**Arguments:**

- `axes`: For each angle, the index of the coordinate.
- `frequencies`: For each angle, the index of the frequency.

**Raises:** a `ValueError` if the two have different lengths, are empty, or have a
negative entry; and in a [`eqx_posemb.Rotary`][] whose schedule has fewer frequencies.
"""


def spread(
    axes: AbstractAxes, positions: Num[Array, "seq axes"], frequencies: Frequencies
) -> tuple[Num[Array, "seq terms angles"], Turns | Float[Array, "*heads terms angles"]]:
    """The coordinate and the frequency of each term of each angle."""
    pairs = jax.tree.leaves(frequencies)[0].shape[-1]
    axis, frequency = axes.axis(pairs), axes.frequency(pairs)
    # The same indices serve float frequencies and the three words of exact frequencies.
    return positions[:, axis], jax.tree.map(lambda f: f[..., frequency], frequencies)
