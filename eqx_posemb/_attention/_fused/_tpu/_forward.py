"""The forward kernel: an online softmax over tiles that stay in the core."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ...._sharding import varying_as
from .._tiling import Given, OF_TOKENS, product, START
from ._band import band_blocks
from ._tiles import LANES, over_lanes, Tiles


def forward(tiles: Tiles, given: Given, dtype):
    """The attended values, and the log-sum-exp of the logits in base 2.

    **Returns:** arrays `[heads, q, dim_v]` of `dtype`, and `[heads, 1, q]` of float32.
    """
    offset, q, k, v, ids, strip, band = given
    heads, q_count, dim = q.shape
    group, dim_v = heads // k.shape[0], v.shape[-1]
    of_q = pl.BlockSpec((None, tiles.q, dim), lambda h, i, j, offset: (h, i, 0))
    column = lambda i, j, offset: tiles.needed_key(i, j, offset)

    def of_keys(features):
        return pl.BlockSpec(
            (None, tiles.k, features),
            lambda h, i, j, offset: (jax.lax.div(h, group), column(i, j, offset), 0),
        )

    segments = [
        pl.BlockSpec((1, tiles.q), lambda h, i, j, offset: (0, i)),
        pl.BlockSpec((1, tiles.k), lambda h, i, j, offset: (0, column(i, j, offset))),
    ]
    at = lambda h, i, j, offset: (h, i, column(i, j, offset))
    window = tiles.window(at)
    of_band = band_blocks(tiles, band, at)
    # The running maximum and sum are columns, repeated over the lanes of a register.
    scratch = [
        pltpu.VMEM((tiles.q, LANES), jnp.float32),
        pltpu.VMEM((tiles.q, LANES), jnp.float32),
        pltpu.VMEM((tiles.q, dim_v), jnp.float32),
    ]
    # Keys come last, so the running sums stay in the core. Rows of a head with a kept
    # strip come in order, as the first row expands it.
    call = tiles.call(
        "attention_forward",
        _kernel,
        [(heads, True), (tiles.rows, not tiles.kept), (tiles.columns, False)],
        [of_q, of_keys(dim), of_keys(dim_v), *segments[: len(ids)], *window, *of_band],
        [
            pl.BlockSpec((None, tiles.q, dim_v), lambda h, i, j, offset: (h, i, 0)),
            pl.BlockSpec((None, 1, tiles.q), lambda h, i, j, offset: (h, 0, i)),
        ],
        [
            varying_as(q, (heads, q_count, dim_v), dtype),
            varying_as(q, (heads, 1, q_count), jnp.float32),
        ],
        scratch + [tiles.expanded()] * tiles.kept,
    )
    return call(offset, q, k, v, *ids, *strip, *band)


def _kernel(tiles, offset, q, k, v, *refs):
    (ids, window, band), refs = tiles.parted(refs)
    out, normalizer, largest, weights_sum, values, *expanded = refs
    window = (*window, *expanded)
    i, j = pl.program_id(1), pl.program_id(2)
    tiles.start_strip(window, (i == 0) & (j == 0))

    @pl.when(j == 0)
    def start():
        largest[...] = jnp.full_like(largest, START)
        weights_sum[...] = jnp.zeros_like(weights_sum)
        values[...] = jnp.zeros_like(values)

    def tile(masked):
        logits, _ = tiles.logits(
            q[...], k[...], window, i, j, offset, ids, masked, band=band
        )
        before = largest[...]
        after = jnp.maximum(before, jnp.max(logits, axis=1, keepdims=True))
        weights = jnp.exp2(logits - over_lanes(after, logits.shape[1]))
        rescale = jnp.exp2(before - after)
        largest[...] = after
        weights_sum[...] = rescale * weights_sum[...] + jnp.sum(
            weights, axis=1, keepdims=True
        )
        # The products have the dtype of the values, and their sums are float32.
        more = product(weights.astype(v.dtype), v[...], OF_TOKENS)
        values[...] = over_lanes(rescale, values.shape[1]) * values[...] + more

    tiles.each(i, j, offset, tile)

    @pl.when(j == tiles.columns - 1)
    def finish():
        # A fully masked query has a sum of zero, and gets zeros.
        total = weights_sum[...]
        divisor = jnp.where(total > 0, total, 1.0)
        result = values[...] / over_lanes(divisor, values.shape[1])
        out[...] = result.astype(out.dtype)
        logarithm = largest[...] + jnp.log2(divisor)
        normalizer[...] = jnp.transpose(logarithm)[:1]
