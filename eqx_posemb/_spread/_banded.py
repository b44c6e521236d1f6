"""Products of consecutive queries with a vector for each distance."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


_PIECES = 4


class ByDistance(NamedTuple):
    """A score of consecutive positions: products of queries with a vector for each
    distance, and a number for each key."""

    queries: Float[Array, "heads q dim"]
    of_keys: Float[Array, "heads k"]
    vectors: Callable[[Int[Array, " n"]], Float[Array, "*heads n dim"]]
    """Gives the vectors of some distances, key minus query, for all heads or for
    each."""
    first: Int[Array, ""]
    """The distance from the first query to the first key."""
    consecutive: bool | Bool[Array, ""]
    """Whether positions are consecutive: the score has this form there alone."""


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
    """Slices of queries, each with the slice of the distances that they have: one slice
    if the number of queries is a symbol."""
    if not isinstance(q_count, int):
        return [(slice(0, q_count), slice(0, q_count + k_count - 1))]
    # One product of all queries with all distances is twice the work of the pairs. A
    # slice of queries has fewer distances: four slices need 5/8 of that work.
    size = max(2, -(-q_count // _PIECES))
    ends = [(start, min(start + size, q_count)) for start in range(0, q_count, size)]
    return [
        (slice(start, end), slice(q_count - end, q_count - start + k_count - 1))
        for start, end in ends
    ]


def skew(values: Float[Array, "heads q distances"]) -> Float[Array, "heads q k"]:
    """Moves row `i` back by `q - 1 - i`: from distances in order to keys in order.

    In the flattened array, rows that are one shorter start one earlier each. So a slice
    of it, in shorter rows, has everything in place.
    """
    heads, q, distances = values.shape
    if q == 1:
        return values
    if not isinstance(q, int):
        # The size of the flattened array is no sum of symbols, which slices have to be.
        index = jnp.arange(distances - q + 1, dtype=jnp.int32)[None]
        index += (q - 1 - jnp.arange(q, dtype=jnp.int32))[:, None]
        return jnp.take_along_axis(values, index[None], axis=2)
    flat = values.reshape(heads, q * distances)[:, q - 1 :]
    rows = flat[:, : q * (distances - 1)].reshape(heads, q, distances - 1)
    return rows[:, :, : distances - q + 1]


def unskew(values: Float[Array, "heads q k"]) -> Float[Array, "heads q distances"]:
    """Undoes `skew`, with zeros where a query has no key at a distance, and at one
    more distance."""
    heads, q, k = values.shape
    # Shorter rows again. The one more distance makes a copy of all the rest.
    rows = jnp.pad(values, [(0, 0), (0, 0), (q - 1, 0)])
    flat = jnp.pad(rows.reshape(heads, q * (q + k - 1)), [(0, 0), (0, q)])
    return flat.reshape(heads, q, q + k)
