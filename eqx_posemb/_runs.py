"""Positions that are runs of consecutive integers, where distances are few.

Queries and keys at consecutive positions, n of each, have n² pairs but 2n - 1
distances. What depends on the distance need then be computed once for each of those.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int, PyTree


_PIECES = 4


class ByDistance(NamedTuple):
    """Products of queries with a vector for each distance, and a number for each key:
    what a score is, where positions are runs."""

    queries: Float[Array, "heads q dim"]
    of_keys: Float[Array, "heads k"]
    vectors: Callable[[Int[Array, " n"]], Float[Array, "*heads n dim"]]
    """Gives those of some distances, key minus query, for all heads or for each."""
    q_positions: Int[Array, " q"]
    k_positions: Int[Array, " k"]


def are_runs(
    q_positions: Int[Array, " q"], k_positions: Int[Array, " k"]
) -> bool | Bool[Array, ""]:
    """Whether both are runs of consecutive integers; now, if they are known now."""
    runs = jnp.ones((), bool)
    for positions in q_positions, k_positions:
        runs &= jnp.all(positions[1:] - positions[:-1] == 1)
    return runs if isinstance(runs, Tracer) else bool(runs)


def distances_of_runs(
    q_positions: Int[Array, " q"], k_positions: Int[Array, " k"]
) -> Int[Array, " distances"]:
    """All distances, in order: from the last query to the first key, and on from
    there."""
    count = q_positions.size + k_positions.size - 1
    first = k_positions[0] - q_positions[-1]
    return first + jnp.arange(count, dtype=first.dtype)


def either(
    runs: bool | Bool[Array, ""],
    of_runs: Callable[[], PyTree[Array]],
    of_pairs: Callable[[], PyTree[Array]],
) -> PyTree[Array]:
    """One or the other. Where the answer is known only the one is traced: outside of
    `jit`, `cond` would compile both every time."""
    if isinstance(runs, bool):
        return of_runs() if runs else of_pairs()
    return jax.lax.cond(_in_all(runs), of_runs, of_pairs)


@jax.custom_batching.custom_vmap
def _in_all(runs: Bool[Array, ""]) -> Bool[Array, ""]:
    return runs


@_in_all.def_vmap
def _in_all_batch(axis_size, in_batched, runs):
    """One answer for all examples of a batch, so that only the one side is computed:
    what goes for pairs goes for runs."""
    del axis_size
    return runs.all(0) if in_batched[0] else runs, False


def banded(
    x: Float[Array, "heads q dim"],
    vectors: Float[Array, "*heads distances dim"],
) -> Float[Array, "heads q k"]:
    """The product of each query with the vector of its distance to each key, given
    those of all distances in order."""
    q_count = x.shape[1]
    products = "hqd,nd->hqn" if vectors.ndim == 2 else "hqd,hnd->hqn"
    parts = [
        skew(jnp.einsum(products, x[:, rows], vectors[..., distances, :]))
        for rows, distances in pieces(q_count, vectors.shape[-2] - q_count + 1)
    ]
    return jnp.concatenate(parts, axis=1)


def pieces(q_count: int, k_count: int) -> list[tuple[slice, slice]]:
    """Some queries at a time, and the distances that they have to all keys."""
    # All queries meet all distances in a product, and want as many of them as there are
    # keys. Some queries have fewer distances: four pieces do with 5/8 of the work.
    size = max(2, -(-q_count // _PIECES))
    ends = [(start, min(start + size, q_count)) for start in range(0, q_count, size)]
    return [
        (slice(start, end), slice(q_count - end, q_count - start + k_count - 1))
        for start, end in ends
    ]


def skew(values: Float[Array, "heads q distances"]) -> Float[Array, "heads q k"]:
    """Moves row `i` back by `q - 1 - i`: from distances in order to keys in order.

    A row that is one shorter starts one earlier than the row above it: so a slice of
    the flattened array, in rows of one less, has everything in place.
    """
    heads, q, distances = values.shape
    if q == 1:
        return values
    flat = values.reshape(heads, q * distances)[:, q - 1 :]
    rows = flat[:, : q * (distances - 1)].reshape(heads, q, distances - 1)
    return rows[:, :, : distances - q + 1]


def unskew(values: Float[Array, "heads q k"]) -> Float[Array, "heads q distances"]:
    """Undoes `skew`, with zeros where a query has no key at a distance, and at one
    distance more."""
    heads, q, k = values.shape
    # Rows that are one shorter again. With one distance more, the rest is a copy.
    rows = jnp.pad(values, [(0, 0), (0, 0), (q - 1, 0)])
    flat = jnp.pad(rows.reshape(heads, q * (q + k - 1)), [(0, 0), (0, q)])
    return flat.reshape(heads, q, q + k)
