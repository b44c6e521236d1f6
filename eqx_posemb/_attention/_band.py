"""Scores by distance in blocks, with the vectors of all distances made once."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._runs import ByDistance, pieces, skew, unskew
from ._products import over_queries, times, times_transposed
from ._visible import Rules


class Band(NamedTuple):
    """A score by distance, of a tile or of all that there is."""

    queries: Float[Array, "heads q dim"]
    of_keys: Float[Array, "heads 1 k"]
    vectors: Float[Array, "kv_heads distances dim"]
    """Those of all distances in order, from the last query to the first key and on from
    there; and one more."""

    def added_to(self, logits: Float[Array, "heads q k"]) -> Float[Array, "heads q k"]:
        """The logits of a tile, with its score."""
        return _add_banded(logits + self.of_keys, self.queries, self.vectors)

    def at(self, size: int, i: Int[Array, ""], j: Int[Array, ""]) -> "Band":
        """Of all, the part of a block of queries and a block of keys."""
        sizes = Band(size, size, 2 * size)
        part = jax.lax.dynamic_slice_in_dim
        return jax.tree.map(part, self, self._starts(size, i, j), sizes, _AXES)

    def plus(
        self, size: int, i: Int[Array, ""], j: Int[Array, ""], band: "Band"
    ) -> "Band":
        """All, with something added to that part."""
        add = lambda x, y: x + y.astype(x.dtype)
        part = jax.tree.map(add, self.at(size, i, j), band)
        put = jax.lax.dynamic_update_slice_in_dim
        return jax.tree.map(put, self, part, self._starts(size, i, j), _AXES)

    def _starts(self, size, i, j):
        # The last block of queries has the first distances.
        before = j - i + self.queries.shape[1] // size - 1
        return Band(i * size, j * size, before * size)


_AXES = Band(1, 2, 1)


@jax.custom_vjp
def _add_banded(
    values: Float[Array, "heads q k"],
    x: Float[Array, "heads q dim"],
    vectors: Float[Array, "kv_heads distances dim"],
) -> Float[Array, "heads q k"]:
    # Not the whole score and a sum: that is written once more.
    for rows, distances in pieces(*values.shape[1:]):
        products = times(x[:, rows], vectors[:, distances])
        values = values.at[:, rows].add(skew(products))
    return values


def _add_banded_forward(values, x, vectors):
    return _add_banded(values, x, vectors), (x, vectors)


def _add_banded_backward(residuals, by_values):
    x, vectors = residuals
    by_x, by_vectors = jnp.zeros_like(x), jnp.zeros_like(vectors)
    for rows, distances in pieces(*by_values.shape[1:]):
        by_products = unskew(by_values[:, rows])
        distances = slice(distances.start, distances.stop + 1)
        more = times_transposed(by_products, vectors[:, distances])
        by_x = by_x.at[:, rows].set(more)
        more = over_queries(x[:, rows], by_products, vectors.shape[0])
        by_vectors = by_vectors.at[:, distances].add(more)
    return by_values, by_x, by_vectors


_add_banded.defvjp(_add_banded_forward, _add_banded_backward)


def vectors_of_blocks(
    score: ByDistance, rules: Rules, *, size: int, q_blocks: int, k_blocks: int
) -> Float[Array, "kv_heads distances dim"]:
    """The vectors of all distances in blocks of queries and of keys, and of one more;
    zeros where a rule by distance shows nothing for a while."""
    last = q_blocks * size - 1
    first = score.k_positions[0] - score.q_positions[0] - last
    delta = first + jnp.arange((q_blocks + k_blocks) * size, dtype=first.dtype)

    def of_some(delta):
        vectors = score.vectors(delta)
        return vectors if vectors.ndim == 3 else vectors[None]

    def of_shown(delta):
        like = jax.eval_shape(of_some, delta)
        zeros = lambda _: jnp.zeros(like.shape, like.dtype)
        return jax.lax.cond(rules.shown(delta).any(), of_some, zeros, delta)

    if not rules.ordered:
        return of_some(delta)
    parts = jax.lax.map(of_shown, delta.reshape(-1, size))
    return jnp.concatenate(parts, axis=1)
