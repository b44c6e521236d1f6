"""Cosines and sines of positions times frequencies, and the precision of all angles.

A float32 product `position * frequency` loses its angle at large positions, since few
bits of the mantissa remain below one turn. Here a static frequency is stored as turns
per position in fixed point. Whole turns overflow an unsigned integer, as in the phase
accumulator of a signal generator. Every integer position has its angle to about 1e-9 of
a turn, without 64-bit mode.
"""

import decimal
from decimal import Decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num, Shaped, UInt32

from ._given import as_positions, Positions


# float64 is too coarse for frequencies: half an ulp of 0.9 rad is 2.4e-7 rad at
# position 2³¹. A context of our own does not depend on the precision that a user sets.
HOST_PRECISION = decimal.Context(prec=40)
TWO_PI = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")

# The remaining terms of sin(r) after r, and of cos(r) after 1 - r²/2, for |r| ≤ π/4.
# They are the minimax coefficients of the Cephes library, with errors below 3e-9 before
# rounding.
_SIN = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
_COS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)

_QUARTER_TURN_BITS = 30


def decimals(values) -> Shaped[np.ndarray, " n"]:
    """The exact decimal values of some Python numbers, as an array of objects."""
    return np.array([Decimal(value) for value in values], dtype=object)


class Turns(eqx.Module):
    """Frequencies in turns per unit of position: `whole + high / 2³² + low / 2⁶⁴`.

    The words are integers, so that no optimizer sees them, and they may be stacked over
    the layers of a `jax.lax.scan`. Schedules make them; see
    [`eqx_posemb.frequencies.AbstractFrequencies`][].

    !!! Example

        ```python
        import eqx_posemb as pe

        turns = pe.frequencies.Geometric(dim=4).turns()
        assert (turns.whole == 0).all()  # Both are slower than a turn per position.
        assert turns.high[0] == int(2**32 / 6.283185307179586)
        ```
    """

    # Integer positions never need whole turns, but fractions of a position do.
    whole: UInt32[Array | np.ndarray, "*terms half"]
    high: UInt32[Array | np.ndarray, "*terms half"]
    low: UInt32[Array | np.ndarray, "*terms half"]

    @staticmethod
    def from_radians(frequencies: Shaped[np.ndarray, " half"]) -> "Turns":
        """Rounds exact host frequencies, in radians, to the nearest 2⁻⁶⁴ of a turn."""
        turns = [Decimal(frequency) / TWO_PI for frequency in frequencies]
        if any(not 0 <= turn < 2**32 for turn in turns):
            raise ValueError(
                "Frequencies must be in [0, 2³²) turns per unit of position, but got "
                f"{[float(frequency) for frequency in frequencies]} radians. To rotate "
                "the other way, flip the signs of the pairing."
            )
        # Three words of 32 bits: whole turns per position, and 64 bits of a fraction.
        words = [int((turn * 2**64).to_integral_value()) for turn in turns]
        word = lambda shift: np.array(
            [(word >> shift) & 0xFFFFFFFF for word in words], np.uint32
        )
        return Turns(whole=word(64), high=word(32), low=word(0))

    def radians(self) -> Float[Array, "*terms half"]:
        """The same frequencies in radians, in JAX's default float dtype."""
        whole, high, low = (
            jnp.asarray(word).astype(jnp.result_type(float))
            for word in (self.whole, self.high, self.low)
        )
        # The fraction is summed first, since whole turns would absorb its low word.
        return (whole + (high * 2.0**-32 + low * 2.0**-64)) * float(TWO_PI)


Frequencies = Turns | Float[Array, "*heads half"]


def cos_sin(
    positions: Num[Positions, " seq"] | Num[Array, "seq terms half"],
    frequencies: Turns | Float[Array, "*heads_and_terms half"],
) -> tuple[Float[Array, "*heads seq half"], Float[Array, "*heads seq half"]]:
    """The cosine and sine of `position * frequency`, in JAX's default float dtype.

    For positions of several coordinates, an angle is a sum over `terms`. The positions
    have shape `[seq, terms, half]`, and the frequencies `[terms, half]`.

    Exact frequencies ([`Turns`][]) give exact angles, and a float array of radians, as
    a learned or length-dependent schedule has it, gives plain float products.
    """
    positions = as_positions(positions)
    # One coordinate is a sum of one term.
    if positions.ndim == 1:
        positions = positions[:, None, None]
        frequencies = jax.tree.map(lambda f: f[..., None, :], frequencies)
    # A learned frequency is a float, since a fixed-point integer has no gradient.
    if not isinstance(frequencies, Turns):
        heads = frequencies.ndim - 2
        each = as_float(positions).reshape((1,) * heads + positions.shape)
        angles = jnp.sum(each * frequencies[..., None, :, :], axis=-2)
        return jnp.cos(angles), jnp.sin(angles)
    if jnp.issubdtype(positions.dtype, jnp.integer):
        return _integer_cos_sin(positions, frequencies)
    return _float_cos_sin(as_float(positions), frequencies)


def as_float(x: Num[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Casts to JAX's default float dtype, the least precision of angles and biases."""
    return x.astype(jnp.result_type(float))


def computing_dtype(dtype) -> np.dtype:
    """The dtype in which arrays of `dtype` are processed before the result is
    rounded."""
    return np.dtype(np.float64 if dtype == jnp.float64 else np.float32)


def _float_cos_sin(positions, turns):
    # The nearest integer has an exact angle. The remainder, at most a half, has a small
    # float angle. It carries the derivative, as the integer part is piecewise constant.
    nearest = jnp.round(positions)
    rest = positions - nearest
    # A conversion beyond int32 would saturate silently. The result is NaN instead.
    fits = (-(2.0**31) <= nearest) & (nearest < 2.0**31)
    rest = jnp.where(fits, rest, jnp.nan)
    rest = jnp.sum(rest * turns.radians()[None], axis=1)
    cos, sin = _integer_cos_sin(nearest.astype(jnp.int32), turns)
    # The addition theorem keeps both parts exact.
    cos_rest, sin_rest = jnp.cos(rest), jnp.sin(rest)
    return cos * cos_rest - sin * sin_rest, sin * cos_rest + cos * sin_rest


def _integer_cos_sin(positions, turns):
    upper, lower = _words(positions)
    # 64-bit mode has 64-bit products, which need no limbs.
    if jnp.result_type(float) == jnp.float64:
        return _cos_sin_of_turns64(_phase64(upper, lower, turns))
    return _cos_sin_of_turns32(_phase32(upper, lower, turns))


def _words(positions):
    """The upper and lower 32 bits of integers, in two's complement."""
    if positions.dtype.itemsize == 8:
        upper = (positions >> 32).astype(jnp.uint32)
        return upper, (positions & 0xFFFFFFFF).astype(jnp.uint32)
    if jnp.issubdtype(positions.dtype, jnp.unsignedinteger):
        return jnp.zeros(positions.shape, jnp.uint32), positions.astype(jnp.uint32)
    signed = positions.astype(jnp.int32)
    # A bitcast would do the same. XLA gave its words in the wrong order for gathered
    # positions that are known at compile time.
    return (signed >> 31).astype(jnp.uint32), signed.astype(jnp.uint32)


def _phase32(upper, lower, turns):
    """`position * turns` modulo one turn, in units of 2⁻³² of a turn."""
    high, low = jnp.asarray(turns.high)[None], jnp.asarray(turns.low)[None]
    # The high word of the 64-bit product `lower * low`, in 16-bit limbs. Carries from
    # the lower limbs are dropped, which is at most two units of 2⁻³² turns.
    p1, p0, f1, f0 = lower >> 16, lower & 0xFFFF, low >> 16, low & 0xFFFF
    product_high = p1 * f1 + (p1 * f0 >> 16) + (p0 * f1 >> 16)
    # Products overflow modulo whole turns. Positions are in two's complement, so
    # negative positions need no case of their own.
    return _total(lower * high + product_high + upper * low)


def _phase64(upper, lower, turns):
    """`position * turns` modulo one turn, in units of 2⁻⁶⁴ of a turn. It needs 64-bit
    mode."""
    join = lambda a, b: (a.astype(jnp.uint64) << 32) | b.astype(jnp.uint64)
    words = join(jnp.asarray(turns.high), jnp.asarray(turns.low))
    return _total(join(upper, lower) * words[None])


def _total(phases):
    # The sum of the terms wraps modulo one turn, as each term does. Without `dtype`,
    # JAX would widen the sum in 64-bit mode.
    return jnp.sum(phases, axis=1, dtype=phases.dtype)


def _cos_sin_of_turns32(phase):
    # The nearest multiple of a quarter turn leaves at most an eighth of a turn, where
    # the polynomials are accurate.
    quadrant = (phase + np.uint32(1 << 29)) >> _QUARTER_TURN_BITS
    rest = phase - (quadrant << _QUARTER_TURN_BITS)
    # The remainder is signed and at most an eighth of a turn, so float32 suffices.
    rest = rest.astype(jnp.int32).astype(jnp.float32)
    r = rest * np.float32(float(TWO_PI) / 2**32)
    # The reduction to an eighth of a turn is exact, so short polynomials suffice and
    # `jnp.cos` is not needed.
    z = r * r
    s = r + r * z * (_SIN[0] + z * (_SIN[1] + z * _SIN[2]))
    c = 1 - 0.5 * z + z * z * (_COS[0] + z * (_COS[1] + z * _COS[2]))
    # A quarter turn exchanges cosine and sine. Bit 1 of the quadrant is the sign.
    odd = (quadrant & 1) == 1
    cos, sin = jnp.where(odd, s, c), jnp.where(odd, c, s)
    return _negate(cos, (quadrant + 1) & 2), _negate(sin, quadrant & 2)


def _cos_sin_of_turns64(phase):
    # A signed phase is within half a turn of zero, where cosines are most accurate.
    angles = phase.astype(jnp.int64).astype(jnp.float64) * (float(TWO_PI) / 2**64)
    return jnp.cos(angles), jnp.sin(angles)


def _negate(x, two_if_negative):
    # Flipping the sign bit needs neither a branch nor a product.
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32) ^ (two_if_negative << 30)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
