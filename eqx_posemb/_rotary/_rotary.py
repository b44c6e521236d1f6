"""The rotary embedding: a schedule, axes and a pairing."""

import dataclasses
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from .._checks import check_choice, check_count, check_kind, check_positive, require
from .._frequencies import AbstractFrequencies, check_schedule, in_context, Length
from .._given import as_positions, cure_for_axes, Positions
from .._phase import cos_sin, Turns
from ._abstract import AbstractRotary, FIRST_POSITIONS
from ._axes import AbstractAxes, spread
from ._decay import XPosDecay
from ._pairing import check_layout, Layout, Pairing
from ._rotation import once, Rotation


class Rotary(AbstractRotary):
    r"""Rotary embedding from a schedule, axes and a pairing, after Su et al. 2021.

    It rotates queries and keys by angles proportional to their positions.

    Queries and keys are rotated by their own positions $p$ and $p'$, and their product
    depends on $p - p'$ alone. It costs one pass over queries and keys, and has no
    parameters.

    $$\alpha_i = p\, \omega_i, \qquad
      \langle R(p)\, q, R(p')\, k \rangle = \langle R(p - p')\, q, k \rangle$$

    for the frequencies $\omega$ of a schedule, in radians per unit of position. This
    class covers every rotary embedding. The schedule sets the frequency of each pair,
    `axes` its coordinate, and `pairing` its channels. `scale` multiplies the result,
    and `decay` adds xPos. The names of papers are recipes for this class:
    [`eqx_posemb.rope`][], [`eqx_posemb.yarn`][], [`eqx_posemb.xpos`][] and so on.

    Angles are exact to 1e-7 at every int32 position and every length. Nothing is cached
    between calls.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.Rotary(pe.frequencies.Geometric(dim=64, theta=500_000.0))
        positions = jnp.arange(1000, 1010)
        rotated = rope(positions).queries(jnp.ones((10, 64)))
        ```

    ??? cite "Reference"

        [RoFormer: Enhanced Transformer with Rotary Position
        Embedding](https://arxiv.org/abs/2104.09864), Section 3.2.
    """

    frequencies: AbstractFrequencies
    axes: AbstractAxes | None
    decay: XPosDecay | None
    dim: int = eqx.field(static=True)
    # The scale multiplies both tables, so it costs no further pass over queries and
    # keys.
    scale: float = eqx.field(static=True)
    pairing: Layout | Pairing = eqx.field(static=True)
    arithmetic: Literal["exact", "float32"] = eqx.field(static=True)

    def __init__(
        self,
        frequencies: AbstractFrequencies,
        *,
        axes: AbstractAxes | None = None,
        decay: XPosDecay | None = None,
        dim: int | None = None,
        scale: float = 1.0,
        pairing: Layout | Pairing = "halves",
        arithmetic: Literal["exact", "float32"] = "exact",
    ):
        """**Arguments:**

        - `frequencies`: The schedule: one frequency for each pair of channels.
        - `axes`: Which coordinate turns which pair, for positions of shape [seq, axes]
            on a grid or in a video. By default a position is a number.
        - `decay`: The growth of xPos; `None` keeps lengths.
        - `dim`: The number of channels of a head, if some of them are to pass through.
            By default all are rotated.
        - `scale`: The factor of rotated queries and of rotated keys.
        - `pairing`: `"halves"` pairs channel `i` with `i + pairs`, as GPT-NeoX and
            transformers' Llama do; `"adjacent"` pairs `2i` with `2i + 1`, as the paper,
            GPT-J and Meta's Llama do; a [`eqx_posemb.rotations.Pairing`][] does
            anything else. Weights trained with one do not work with another.
        - `arithmetic`: `"exact"` angles, or `"float32"` products of position and
            frequency, to compare with other libraries. At position 131,072 the products
            have cosines that are off by up to 0.007.

        **Raises:** a `ValueError` if `frequencies` is no schedule, if `dim` is less
        than the rotated channels, or if `scale` is not positive. The same if `pairing`
        or `arithmetic` is unknown or does not fit.
        """
        check_schedule("frequencies", frequencies, AbstractFrequencies)
        angles: int = frequencies.pairs
        if decay is not None:
            check_kind("decay", decay, XPosDecay, "Give an XPosDecay.")
        if axes is not None:
            check_kind("axes", axes, AbstractAxes, "Give axes of `rotations`.")
            angles = axes.frequency(angles).shape[-1]
        rotated = 2 * angles
        if dim is None:
            dim = pairing.dim if isinstance(pairing, Pairing) else rotated
        check_count("dim", dim, 2)
        rule = f"be at least the number of rotated channels, {rotated}"
        require(dim >= rotated or isinstance(pairing, Pairing), "dim", rule, dim)
        check_positive("scale", scale)
        check_layout(pairing, dim)
        if isinstance(pairing, Pairing) and max(pairing.pair) + 1 != angles:
            raise ValueError(
                f"`pairing` must use each angle of the schedule, {angles}, but got a "
                f"pairing of {max(pairing.pair) + 1}. Give a frequency for each "
                "pair."
            )
        rule = (
            "be None where there are `axes`: on a grid there is no past to fade towards"
        )
        require(decay is None or axes is None, "decay", rule, decay)
        if decay is not None and decay.dim != rotated:
            raise ValueError(
                f"`decay` must be over the rotated channels, {rotated}, but got one "
                f"over {decay.dim}."
            )
        check_choice("arithmetic", arithmetic, ("exact", "float32"))
        self.frequencies = frequencies
        self.axes = axes
        self.decay = decay
        self.dim = dim
        self.scale = float(scale)
        self.pairing = pairing
        self.arithmetic = arithmetic

    @property
    def dynamic(self) -> bool:
        """Whether the schedule depends on the context length."""
        return self.frequencies.dynamic

    def for_length(self, length: int | Num[Array, ""]) -> "Rotary":
        """The embedding with its schedule in a context of `length` positions."""
        schedule = self.frequencies.for_length(length)
        return dataclasses.replace(self, frequencies=schedule)

    @jax.named_scope("eqx_posemb.Rotary")
    def __call__(
        self,
        positions: Num[Positions, "seq *axes"],
        *tokens: Any,
        length: Length = None,
    ) -> Rotation:
        """**Arguments:**

        - `positions`: the position of each token: integers, or floats in the same unit;
            with a coordinate for each axis if there are `axes`.
        - `length`: the context length, for a schedule that reads it. By default one
            more than the largest position. Give it where positions include empty slots
            or padding, where queries and keys have different positions, and where a
            cache holds rotated keys.

        **Returns:**

        A [`eqx_posemb.rotations.Rotation`][], to be applied to queries and keys.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        if tokens:
            raise TypeError(
                "A rotary embedding must be called with positions alone, but got "
                f"{1 + len(tokens)} arguments. {FIRST_POSITIONS}"
            )
        positions = jnp.asarray(as_positions(positions))
        self._check(positions)
        schedule = in_context(self.frequencies, positions, length=length)
        frequencies = schedule.turns()
        # Rounded products serve comparisons with libraries that compute angles in
        # float32.
        if self.arithmetic == "float32" and isinstance(frequencies, Turns):
            frequencies = frequencies.radians()
        coordinates = positions
        if self.axes is not None:
            coordinates, frequencies = spread(self.axes, positions, frequencies)
        growth = None if self.decay is None else self.decay(positions)
        cos, sin = once(*cos_sin(coordinates, frequencies), scale=self.scale)
        return Rotation(cos, sin, growth, self.dim, self.pairing)

    def shift(self, by: Num[Array, "seq *axes"], *, length: Length = None) -> Rotation:
        r"""Moves rotated keys to other positions.

        $$R(\delta)\, R(p) = R(p + \delta)$$

        A cache can therefore drop tokens, or restart its positions, without keys from
        before their rotation.

        !!! Example

            ```python
            import jax.numpy as jnp
            import eqx_posemb as pe

            rope, k = pe.rope(64), jnp.ones((3, 64))
            cached = rope(jnp.array([7, 8, 9])).keys(k)
            moved = rope.shift(jnp.array([-7, -7, -7])).keys(cached)
            assert jnp.allclose(moved, rope(jnp.array([0, 1, 2])).keys(k), atol=1e-6)
            ```

        **Arguments:**

        - `by`: how far to move each key.
        - `length`: the context length with which the keys were rotated, for a schedule
            that reads it. The default needs no scaling.

        **Returns:**

        A rotation whose `keys` shifts rotated keys. It keeps their norms, except for
        the decay of xPos.

        **Raises:** a `ValueError` if `by` has another shape than positions, or if the
        layout cannot be undone.
        """
        pairing, decay = self.pairing, self.decay
        if isinstance(pairing, Pairing):
            pairing = pairing.of_output()
        if decay is not None:
            # A shift is a difference of positions, and the center cancels in it.
            decay = XPosDecay(decay.dim, decay.scale_base)
        # Rotated keys already have the scale, so the shift has none.
        return Rotary(
            self.frequencies,
            axes=self.axes,
            decay=decay,
            dim=self.dim,
            pairing=pairing,
            arithmetic=self.arithmetic,
        )(by, length=1 if length is None else length)

    def _check(self, positions):
        axes = () if self.axes is None else (self.axes.coordinates,)
        if positions.shape[1:] == axes and positions.ndim:
            return
        wanted = "[seq]" if self.axes is None else f"[seq, {self.axes.coordinates}]"
        cure = cure_for_axes(positions, 1 + len(axes))
        if axes == (3,):
            cure = (
                "`eqx_posemb.positions.mrope_positions` makes positions of text and "
                "images."
            )
        if positions.ndim > 1 and jnp.issubdtype(positions.dtype, jnp.floating):
            cure = f"{cure} {FIRST_POSITIONS}"
        raise ValueError(
            f"`positions` must be integers or floats of shape {wanted}, but got "
            f"{positions.dtype} of shape {positions.shape}. {cure}"
        )
