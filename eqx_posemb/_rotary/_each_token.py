"""Rotations at a context length for each token."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._given import as_positions, Positions
from ._abstract import AbstractRotary, AbstractRotation


class EachToken(AbstractRotation):
    """The rotation of each token in a context of its own length."""

    # All leaves have a first axis of tokens, which `jax.vmap` has added.
    tokens: AbstractRotation
    count: int | None = eqx.field(static=True)

    @property
    def heads(self) -> int | None:
        """The number of heads that each token's rotation has."""
        return self.count

    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Applies its rotation to the query of each token."""
        return _apply("queries", self.tokens, q)

    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Applies its rotation to the key of each token."""
        return _apply("keys", self.tokens, k)

    def inverse(self) -> "EachToken":
        """The inverse of each token's rotation."""
        return EachToken(self.tokens.inverse(), self.count)


def in_lengths(
    rotary: AbstractRotary,
    positions: Num[Positions, "seq *axes"],
    length: Num[Array, "*seq"],
) -> AbstractRotation:
    """The rotation of a `dynamic` rotary embedding in one context length, or in a
    length for each position."""
    if length.ndim == 0:
        return rotary.for_length(length)(positions)
    positions = as_positions(positions)
    one = lambda position, length: rotary.for_length(length)(position[None])
    # The number of heads is static, and `vmap` would make an array of it.
    heads = eqx.filter_eval_shape(one, positions[0], length[0]).heads
    return EachToken(jax.vmap(one)(positions, length), heads)


def _apply(name, tokens, x):
    def one(token, x):
        # A rotation maps an axis of tokens, and here the axis has one token.
        return jnp.squeeze(getattr(token, name)(x[..., None, :]), -2)

    return jax.vmap(one, in_axes=(0, -2), out_axes=-2)(tokens, x)
