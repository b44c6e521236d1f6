"""Adds a score by distance inside of a kernel, without lookups.

Consecutive queries `i` and keys `j` have a vector for `j - i`, which multiplies query
`i`. 128 queries are multiplied by the vectors of all distances to a block of keys. Row
`s` of the products has at place `y` the distance of the key `y + s - 128`. One rotation
by an amount that grows from row to row therefore brings the keys in order.
"""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from .._tiling import OF_FEATURES, OF_ROWS, OF_TOKENS, product
from ._strip import ROWS, starts


def band_of(shape, x, vectors, of_keys) -> Float[Array, "q k"]:
    """The score of a tile of some shape, from references to its parts."""
    q, k = shape
    rows = []
    for g, start in enumerate(starts(q)):
        some = vectors[start : start + k + ROWS]
        products = product(x[ROWS * g : ROWS * (g + 1)], some, OF_FEATURES)
        rows.append(pltpu.roll(products, k, 1, stride=1, stride_axis=0)[:, :k])
    return jnp.concatenate(rows, axis=0) + of_keys[...]


def add_to_band(d_x, d_vectors, first, by_logits, x, vectors) -> None:
    """Adds a tile to the gradients of the queries of a score, and of its vectors, whose
    window begins at the place `first`."""
    q, k = by_logits.shape
    for g, start in enumerate(starts(q)):
        here, window = pl.ds(ROWS * g, ROWS), pl.ds(first + start, k + ROWS)
        products = _back(by_logits[ROWS * g : ROWS * (g + 1)]).astype(x.dtype)
        some = vectors[start : start + k + ROWS]
        d_x[here] += product(products, some, OF_TOKENS)
        d_vectors[window] += product(products, x[here], OF_ROWS)


def _back(rows: Float[Array, "128 k"]) -> Float[Array, "128 places"]:
    """The transpose of the rotation: row `s` has at `y` the number of key
    `y + s - 128`."""
    zeros = jnp.zeros((ROWS, ROWS), rows.dtype)
    rows = jnp.concatenate([zeros, rows], axis=1)
    row = jax.lax.broadcasted_iota(jnp.int32, rows.shape, 0)
    step = 1
    # A TPU rotates rows further from row to row in one direction alone.
    while step < ROWS:
        turned = pltpu.roll(rows, rows.shape[1] - step, 1)
        rows = jnp.where((row & step) > 0, turned, rows)
        step *= 2
    return rows
