"""How a rotation is written for each platform: the same numbers, at different speed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._pairing import Layout


def rotate(
    x: Float[Array, "seq *heads dim"],
    cos: Float[Array, "seq *ones pairs"],
    sin: Float[Array, "seq *ones pairs"],
    layout: Layout,
) -> Float[Array, "seq *heads dim"]:
    """Rotates all channels of `x`, in pairs of the given layout."""
    if layout == "adjacent":
        return _rotate_adjacent(x, cos, sin)
    return jax.lax.platform_dependent(
        x, cos, sin, cpu=_rotate_halves_padded, default=_rotate_halves
    )


def _rotate_halves(x, cos, sin):
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def _rotate_halves_padded(x, cos, sin):
    # XLA on CPU runs a concatenation as separate passes on one thread, and this sum of
    # two padded halves as one pass on all: 3 to 4 times faster on large arrays.
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]

    def pad(y, before, after):
        widths = [(0, 0, 0)] * (y.ndim - 1) + [(before, after, 0)]
        return jax.lax.pad(y, jnp.zeros((), y.dtype), widths)

    return pad(a * cos - b * sin, 0, half) + pad(b * cos + a * sin, half, 0)


def _rotate_adjacent(x, cos, sin):
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    rotated = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return rotated.reshape(x.shape)
