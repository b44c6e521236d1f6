"""Products of consecutive queries with a vector for each distance."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


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


def block_of(q: int) -> int:
    """The queries of a block: as many as a register of a TPU has lanes, and fewer where
    eight devices share fewer tokens."""
    return min(128, 1 << max(0, (q // 8).bit_length() - 1))


def banded(
    x: Float[Array, "heads q dim"],
    vectors: Float[Array, "*heads distances dim"],
) -> Float[Array, "heads q k"]:
    """The product of each query with the vector of its distance to each key, given the
    vectors of all distances in ascending order."""
    (heads, q, dim), distances = x.shape, vectors.shape[-2]
    if not (isinstance(q, int) and isinstance(distances, int)):
        products = "hqd,nd->hqn" if vectors.ndim == 2 else "hqd,hnd->hqn"
        return skew(jnp.einsum(products, x, vectors))
    if vectors.ndim == 2:
        vectors = vectors[None]
    kv_heads, size = vectors.shape[0], block_of(q)
    blocks, k = -(-q // size), distances - q + 1
    filled = blocks * size
    x = jnp.pad(x, ((0, 0), (0, filled - q), (0, 0)))
    x = x.reshape(kv_heads, heads // kv_heads, blocks, size, dim)
    # Every block of queries has its own copy of the vectors that it reads. A compiler
    # that shards the queries then exchanges nothing.
    each = -(-(k + size - 1) // size)
    after = (blocks + each - 1) * size - (filled - q) - distances
    padded = jnp.pad(vectors, ((0, 0), (filled - q, after), (0, 0)))
    runs = windows(padded.reshape(kv_heads, -1, size, dim), blocks)
    runs = runs.reshape(kv_heads, blocks, -1, dim)
    # Queries of one block are one matrix, also where heads share the vectors.
    products = jnp.einsum("hgbqd,hbnd->hbgqn", x, runs)
    rows = skew(products)[..., :k].swapaxes(1, 2)
    return rows.reshape(heads, filled, k)[:, :q]


def windows(
    groups: Float[Array, "heads groups *rest"], blocks: int
) -> Float[Array, "heads {blocks} each *rest"]:
    """The consecutive groups that each block reads. The last block begins at the first
    group, and the block before at the next group."""
    each = groups.shape[1] - blocks + 1
    # A TPU selects whole groups without a loop over blocks.
    index = np.arange(blocks)[::-1, None] + np.arange(each)[None]
    return jnp.take(groups, index, axis=1, mode="clip")


def skew(values: Float[Array, "*heads q distances"]) -> Float[Array, "*heads q k"]:
    """Shifts row `i` left by `q - 1 - i`, from the order of distances to the order of
    keys.

    In the flattened array, rows that are one entry shorter start one entry earlier
    each. A reshape of a slice therefore aligns all rows without a copy for each.
    """
    *heads, q, distances = values.shape
    # A single row starts at its first key already.
    if q == 1:
        return values
    if not isinstance(q, int):
        # Slices of symbolic sizes need sums of symbols, which the flattened size is
        # not.
        index = jnp.arange(distances - q + 1, dtype=jnp.int32)[None]
        index += (q - 1 - jnp.arange(q, dtype=jnp.int32))[:, None]
        return jnp.take_along_axis(values, index[None], axis=2)
    flat = values.reshape(*heads, q * distances)[..., q - 1 :]
    rows = flat[..., : q * (distances - 1)].reshape(*heads, q, distances - 1)
    return rows[..., : distances - q + 1]


def unskew(
    values: Float[Array, "*heads q k"], step: int = 1
) -> Float[Array, "*heads q distances"]:
    """The inverse of `skew`. It has zeros where a query has no key at a distance, and
    one further column of zeros. `step` is the number of places between two rows."""
    *heads, q, k = values.shape
    # The same reshape to shorter rows. Dropping the further column would copy the
    # array.
    no, places = [(0, 0)] * len(heads), (q - 1) * step + k
    rows = jnp.pad(values, [*no, (0, 0), ((q - 1) * step, 0)])
    flat = jnp.pad(rows.reshape(*heads, q * places), [*no, (0, q * step)])
    return flat.reshape(*heads, q, places + step)
