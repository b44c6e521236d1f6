"""Adds a score by distance inside of a kernel, without lookups.

Consecutive queries `i` and keys `j` have a vector for `j - i`, which multiplies query
`i`. 128 queries are multiplied by the vectors of all distances to a block of keys. Row
`s` of the products has at place `y` the distance of the key `y + s - 128`. One rotation
by an amount that grows from row to row therefore brings the keys in order.
"""

from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from .._tiling import OF_FEATURES, product
from ._strip import plus_tile, ROWS


def plus_band(logits: Float[Array, "q k"], x, vectors, of_keys):
    """The logits of a tile with their score, from references to its parts."""
    q, k = logits.shape

    def part(start):
        first = q - ROWS - start
        queries, some = x[first : first + ROWS], vectors[start : start + k + ROWS]
        products = product(queries, some, OF_FEATURES)
        return pltpu.roll(products, k, 1, stride=1, stride_axis=0)[:, :k]

    return plus_tile(logits, part) + of_keys[...]


def window_of_vectors(tiles, vectors, tile) -> pl.BlockSpec:
    """The block of vectors that a tile reads. Heads may share the vectors."""

    def index(*grid):
        h, i, j = tile(*grid)
        return h if vectors.shape[0] > 1 else 0, tiles.first_place(i, j), 0

    # Windows of neighboring tiles overlap, so they are indexed by element.
    sizes = pl.Element(tiles.q + tiles.k), pl.Element(vectors.shape[-1])
    return pl.BlockSpec((pl.Squeezed(), *sizes), index)
