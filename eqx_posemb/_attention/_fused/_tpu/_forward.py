"""The forward kernel: an online softmax over tiles that stay in the core."""

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ...._sharding import varying_as
from .._tiling import Given, OF_TOKENS, product, START
from ._blocks import by_rows
from ._tiles import LANES, over_lanes, Tiles


def forward(tiles: Tiles, offset, given: Given, dtype):
    """The attended values, and the log-sum-exp of the logits in base 2.

    **Returns:** arrays `[heads, q, dim_v]` of `dtype`, and `[heads, 1, q]` of float32.
    """
    heads, q_count, _ = given.q.shape
    out = varying_as(given.q, (heads, q_count, given.v.shape[-1]), dtype)
    normalizer = varying_as(given.q, (heads, 1, q_count), jnp.float32)
    blocks = by_rows(tiles, given)
    # The running maximum and sum are columns, repeated over the lanes of a register.
    widths = LANES, LANES, out.shape[-1]
    sums = [pltpu.VMEM((tiles.q, width), jnp.float32) for width in widths]
    # Keys come last, so the running sums stay in the core. Rows of a head with a kept
    # strip come in order, as the first row expands it.
    call = tiles.call(
        "attention_forward",
        _kernel,
        [(heads, True), (tiles.rows, not tiles.kept), (tiles.columns, False)],
        (blocks.given(given),),
        (blocks.queries(out), blocks.numbers),
        (out, normalizer),
        (*sums, [tiles.expanded()] * tiles.kept),
    )
    return call(offset, given)


def _kernel(
    tiles, offset, given, out, normalizer, largest, weights_sum, values, expanded
):
    v, window = given.v, (*given.strip, *expanded)
    i, j = pl.program_id(1), pl.program_id(2)
    tiles.start_strip(window, (i == 0) & (j == 0))

    @pl.when(j == 0)
    def start():
        largest[...] = jnp.full_like(largest, START)
        weights_sum[...] = jnp.zeros_like(weights_sum)
        values[...] = jnp.zeros_like(values)

    def tile(masked):
        logits, _ = tiles.logits(given, window, i, j, offset, masked)
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
