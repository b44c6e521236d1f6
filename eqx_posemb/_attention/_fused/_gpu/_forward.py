"""The forward kernel: an online softmax over the tiles of a row."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from ...._sharding import varying_as
from .._tiling import Given, OF_TOKENS, START
from ._tiles import product, Tiles


def forward(tiles: Tiles, offset, given: Given, dtype):
    """The attended values, and the log-sum-exp of the logits in base 2.

    **Returns:** arrays `[heads, q, dim_v]` of `dtype`, and `[heads, 1, q]` of float32.
    """
    heads, q_count = given.q.shape[:2]
    results = (
        varying_as(given.q, (heads, q_count, given.v.shape[-1]), dtype),
        varying_as(given.q, (heads, 1, q_count), jnp.float32),
    )
    grid, warps = (heads, tiles.rows), 8
    return tiles.call("attention_forward", _kernel, grid, results, warps, offset, given)


def _kernel(tiles, offset, given, out, normalizer):
    q, k, v = given[:3]
    h, i = pl.program_id(0), pl.program_id(1)
    of_keys = jax.lax.div(h, q.shape[0] // k.shape[0])
    offset, here = [offset[0]], tiles.row(i)
    queries = q[h, here, :]

    def tile(j, carry):
        values, largest, total = carry
        there = tiles.column(j)
        logits, _ = tiles.logits(queries, k[of_keys, there, :], given, h, i, j, offset)
        after = jnp.maximum(largest, jnp.max(logits, axis=1))
        weights = jnp.exp2(logits - after[:, None])
        rescale = jnp.exp2(largest - after)
        # The products have the dtype of the values, and their sums are float32.
        more = product(weights.astype(v.dtype), v[of_keys, there, :], OF_TOKENS)
        total = rescale * total + jnp.sum(weights, axis=1)
        return rescale[:, None] * values + more, after, total

    start = (
        jnp.zeros((tiles.q, v.shape[-1]), jnp.float32),
        jnp.full(tiles.q, START, jnp.float32),
        jnp.zeros(tiles.q, jnp.float32),
    )
    values, largest, total = tiles.over_keys(i, offset, tile, start)
    # A fully masked query has a sum of zero, and gets zeros.
    divisor = jnp.where(total > 0, total, 1.0)
    out[h, here, :] = (values / divisor[:, None]).astype(out.dtype)
    normalizer[h, 0, here] = largest + jnp.log2(divisor)
