"""Products of consecutive queries with a vector for each distance."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


_PIECES = 4


class ByDistance(NamedTuple):
    """A score of consecutive positions: the product of each query with a vector for
    each distance, plus a number for each key."""

    queries: Float[Array, "heads q dim"]
    of_keys: Float[Array, "heads k"]
    vectors: Callable[[Int[Array, " n"]], Float[Array, "*heads n dim"]]
    """A function from distances, key minus query, to their vectors. Heads share them,
    or each head has its own."""
    first: Int[Array, ""]
    """The distance from the first query to the first key."""
    consecutive: bool | Bool[Array, ""]
    """Whether positions are consecutive. The score has this form only if they are."""


def banded(
    x: Float[Array, "heads q dim"],
    vectors: Float[Array, "*heads distances dim"],
) -> Float[Array, "heads q k"]:
    """The product of each query with the vector of its distance to each key, given the
    vectors of all distances in ascending order."""
    q_count = x.shape[1]
    products = "hqd,nd->hqn" if vectors.ndim == 2 else "hqd,hnd->hqn"
    parts = [
        skew(jnp.einsum(products, x[:, rows], vectors[..., distances, :]))
        for rows, distances in pieces(q_count, vectors.shape[-2] - q_count + 1)
    ]
    return jnp.concatenate(parts, axis=1)


def pieces(q_count: int, k_count: int) -> list[tuple[slice, slice]]:
    """Slices of queries, and the slice of distances that each of them reads. A symbolic
    number of queries has one slice."""
    if not isinstance(q_count, int):
        return [(slice(0, q_count), slice(0, q_count + k_count - 1))]
    # One product of all queries with all distances computes twice as many products as
    # there are pairs. A slice of queries reads fewer distances, so four slices take 5/8
    # of that work.
    size = max(2, -(-q_count // _PIECES))
    ends = [(start, min(start + size, q_count)) for start in range(0, q_count, size)]
    return [
        (slice(start, end), slice(q_count - end, q_count - start + k_count - 1))
        for start, end in ends
    ]


def skew(values: Float[Array, "heads q distances"]) -> Float[Array, "heads q k"]:
    """Shifts row `i` left by `q - 1 - i`, from the order of distances to the order of
    keys.

    In the flattened array, rows that are one entry shorter start one entry earlier
    each. A reshape of a slice therefore aligns all rows without a copy for each.
    """
    heads, q, distances = values.shape
    # A single row starts at its first key already.
    if q == 1:
        return values
    if not isinstance(q, int):
        # Slices of symbolic sizes need sums of symbols, which the flattened size is
        # not.
        index = jnp.arange(distances - q + 1, dtype=jnp.int32)[None]
        index += (q - 1 - jnp.arange(q, dtype=jnp.int32))[:, None]
        return jnp.take_along_axis(values, index[None], axis=2)
    flat = values.reshape(heads, q * distances)[:, q - 1 :]
    rows = flat[:, : q * (distances - 1)].reshape(heads, q, distances - 1)
    return rows[:, :, : distances - q + 1]


def unskew(values: Float[Array, "heads q k"]) -> Float[Array, "heads q distances"]:
    """The inverse of `skew`. It has zeros where a query has no key at a distance, and
    one further column of zeros."""
    heads, q, k = values.shape
    # The same reshape to shorter rows. Dropping the further column would copy the
    # array.
    rows = jnp.pad(values, [(0, 0), (0, 0), (q - 1, 0)])
    flat = jnp.pad(rows.reshape(heads, q * (q + k - 1)), [(0, 0), (0, q)])
    return flat.reshape(heads, q, q + k)
