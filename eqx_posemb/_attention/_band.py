"""Scores by distance in blocks, which evaluate the vector of each distance once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from .._sharding import vary_over, varying
from .._spread import ByDistance, skew, unskew
from ._products import over_queries, times, times_transposed
from ._visible import Rules


_PIECES = 4


class Band(NamedTuple):
    """A score by distance, of one tile or of the whole attention."""

    queries: Float[Array, "heads q dim"]
    # An axis of one channel gives all three arrays the same layout, so one function
    # slices and pads them.
    of_keys: Float[Array, "heads k 1"]
    vectors: Float[Array, "kv_heads distances dim"]
    """The vectors of all distances in ascending order, and one vector of padding."""

    def added_to(self, logits: Float[Array, "heads q k"]) -> Float[Array, "heads q k"]:
        """The logits of a tile plus its score."""
        logits = logits + jnp.swapaxes(self.of_keys, 1, 2)
        return _add_banded(logits, self.queries, self.vectors)

    def at(self, size: int, i: Int[Array, ""], j: Int[Array, ""]) -> "Band":
        """The part of query block `i` and key block `j`."""
        part = partial(jax.lax.dynamic_slice_in_dim, axis=1)
        # A tile has 2 * size - 1 distances. One further distance completes two whole
        # blocks.
        starts, sizes = self._starts(size, i, j), (size, size, 2 * size)
        return Band(*map(part, self, starts, sizes))

    def plus(
        self, size: int, i: Int[Array, ""], j: Int[Array, ""], band: "Band"
    ) -> "Band":
        """The whole with `band` added to the part of blocks `i` and `j`."""
        here = self.at(size, i, j)
        sums = (x + y.astype(x.dtype) for x, y in zip(here, band, strict=True))
        put = partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
        return Band(*map(put, self, sums, self._starts(size, i, j)))

    def _starts(self, size, i, j):
        # The last block of queries has the first distances.
        before = j - i + self.queries.shape[1] // size - 1
        return i * size, j * size, before * size


@jax.custom_vjp
def _add_banded(
    values: Float[Array, "heads q k"],
    x: Float[Array, "heads q dim"],
    vectors: Float[Array, "kv_heads distances dim"],
) -> Float[Array, "heads q k"]:
    # Adding pieces in place saves a write and a read of the whole score.
    for rows, distances in _pieces(*values.shape[1:]):
        products = times(x[:, rows], vectors[:, distances])
        values = values.at[:, rows].add(skew(products))
    return values


def _add_banded_forward(values, x, vectors):
    return _add_banded(values, x, vectors), (x, vectors)


def _add_banded_backward(residuals, by_values):
    x, vectors = residuals
    by_x, by_vectors = jnp.zeros_like(x), jnp.zeros_like(vectors)
    for rows, distances in _pieces(*by_values.shape[1:]):
        by_products = unskew(by_values[:, rows])
        # `unskew` leaves one further column of zeros, so the slice of vectors is one
        # longer as well.
        distances = slice(distances.start, distances.stop + 1)
        more = times_transposed(by_products, vectors[:, distances])
        by_x = by_x.at[:, rows].set(more)
        more = over_queries(x[:, rows], by_products, vectors.shape[0])
        by_vectors = by_vectors.at[:, distances].add(more)
    return by_values, by_x, by_vectors


_add_banded.defvjp(_add_banded_forward, _add_banded_backward)


def _pieces(q_count: int, k_count: int) -> list[tuple[slice, slice]]:
    """Slices of queries, and the slice of distances that each of them reads."""
    # One product of all queries with all distances computes twice as many products as
    # there are pairs. A slice of queries reads fewer distances, so four slices take 5/8
    # of that work.
    size = max(2, -(-q_count // _PIECES))
    ends = [(start, min(start + size, q_count)) for start in range(0, q_count, size)]
    return [
        (slice(start, end), slice(q_count - end, q_count - start + k_count - 1))
        for start, end in ends
    ]


def into_band(
    score: ByDistance, rules: Rules, q_count: int, k_count: int, size: int
) -> Band:
    """A score for padded numbers of queries and keys, in blocks of `size`.

    Blocks of distances that are fully masked have zeros for vectors.
    """
    first = score.first - q_count + 1
    delta = first + jnp.arange(q_count + k_count, dtype=first.dtype)

    def of_some(delta):
        vectors = score.vectors(delta)
        return vectors if vectors.ndim == 3 else vectors[None]

    def of_shown(delta):
        vectors = lambda: of_some(delta)
        like = jax.eval_shape(vectors)
        # Under `jax.shard_map`, both branches must vary over the same axes.
        zeros = lambda: vary_over(jnp.zeros(like.shape, like.dtype), varying(like))
        return jax.lax.cond(rules.shown(delta).any(), vectors, zeros)

    # Masked blocks of distances skip their vectors at run time. Without such a mask,
    # one evaluation needs no loop.
    if rules.ordered:
        parts = jax.lax.map(of_shown, delta.reshape(-1, size))
        vectors = jnp.concatenate(parts, axis=1)
    else:
        vectors = of_some(delta)
    fill = lambda x, count: jnp.pad(x, [(0, 0), (0, count - x.shape[1]), (0, 0)])
    of_keys = fill(score.of_keys[..., None], k_count)
    return Band(fill(score.queries, q_count), of_keys, vectors)
