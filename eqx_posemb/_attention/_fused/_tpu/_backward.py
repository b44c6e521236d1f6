"""The backward kernels, which compute the logits of each tile again."""

import dataclasses

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ...._sharding import varying_as
from .._tiling import Given, OF_FEATURES, OF_TOKENS, product
from ._band import add_to_band
from ._blocks import Blocks, by_rows
from ._strip import fold_all
from ._tiles import as_columns, Tiles


def backward(tiles: Tiles, offset, given: Given, seeds) -> Given:
    """The gradients with respect to queries, keys, values, the strip of a bias, and the
    parts of a score."""
    d_q, d_strip, d_band = backward_queries(tiles, offset, given, seeds)
    # Each block of keys visits the strips of several heads, so none is kept.
    passing = dataclasses.replace(tiles, keep=False)
    d_k, d_v = backward_keys(passing, offset, given, seeds)
    return Given(d_q, d_k, d_v, [None for _ in given.ids], d_strip, d_band)


def backward_queries(tiles: Tiles, offset, given: Given, seeds):
    """The gradients with respect to the queries, to the strip of a bias, and to the
    parts of a score.

    Rows of tiles come in order, so that the gradients of a head's strip and vectors
    stay in the memory of the core. `seeds` are the cotangent of the attended values,
    the log-sum-exp of `forward`, and the weighted mean of the gradients of the weights.
    """
    q, strip, band = given.q, given.strip, given.band
    blocks = by_rows(tiles, given)
    found = lambda x, dtype=jnp.float32: varying_as(q, (len(q), *x.shape[1:]), dtype)
    in_any_order = not (strip or band)
    call = tiles.call(
        "attention_backward_queries",
        _queries_kernel,
        [(len(q), True), (tiles.rows, in_any_order), (tiles.columns, False)],
        (blocks.given(given), blocks.seeds(seeds[0])),
        # All rows add to the gradients of a strip and of vectors, so one block holds
        # all of each.
        (
            blocks.queries(q),
            [blocks.head(x) for x in strip],
            [blocks.queries(x) for x in band[:1]] + [blocks.head(x) for x in band[1:]],
        ),
        (found(q, q.dtype), [found(x) for x in strip], [found(x) for x in band]),
        (
            pltpu.VMEM((tiles.q, q.shape[-1]), jnp.float32),
            [tiles.expanded()] * tiles.kept,
            [tiles.expanded() for _ in strip],
        ),
    )
    return call(offset, given, seeds)


def _queries_kernel(
    tiles, offset, given, seeds, d_q, d_strip, d_band, total, expanded, sums
):
    k, window = given.k, (*given.strip, *expanded)
    i, j = pl.program_id(1), pl.program_id(2)
    tiles.start_strip(window, (i == 0) & (j == 0))

    @pl.when(j == 0)
    def start():
        for x in (total, *d_band[:1]):
            x[...] = jnp.zeros_like(x)

    @pl.when((i == 0) & (j == 0))
    def start_head():
        for x in (*d_strip, *d_band[1:], *sums):
            x[...] = jnp.zeros_like(x)

    def tile(masked):
        _, by_logits = _gradient(tiles, given, seeds, window, i, j, offset, masked)
        total[...] += product(by_logits.astype(k.dtype), k[...], OF_TOKENS)
        for x, scratch in zip(d_strip, sums, strict=True):
            tiles.add_to_strip(x, scratch, by_logits, i, j)
        if d_band:
            (x, vectors, _), (d_x, d_vectors, d_numbers) = given.band, d_band
            first = tiles.first_place(i, j)
            add_to_band(d_x, d_vectors, first, by_logits, x, vectors)
            here = pl.ds(j * tiles.k, tiles.k)
            d_numbers[:, here] += jnp.sum(by_logits, axis=0, keepdims=True)

    tiles.each(i, j, offset, tile)

    @pl.when(j == tiles.columns - 1)
    def finish():
        d_q[...] = (tiles.scale * total[...]).astype(d_q.dtype)

    if tiles.kept:

        @pl.when((i == tiles.rows - 1) & (j == tiles.columns - 1))
        def finish_strip():
            fold_all(*sums, *d_strip)


def backward_keys(tiles: Tiles, offset, given: Given, seeds):
    """The gradients with respect to keys and values, summed over the heads of queries
    that share a head of keys.

    Tiles are keys by queries, so that sums over queries need no transposed tile. The
    strip is read backwards instead. `tiles` keep no strip, as each block of keys visits
    the strips of several heads.
    """
    heads, keys = len(given.k), (given.k, given.v)
    group = len(given.q) // heads

    def at(h, j, g, i, offset):
        return h * group + g, h, tiles.needed_query(i, j, offset), j

    blocks = Blocks(tiles, at)
    call = tiles.call(
        "attention_backward_keys",
        _keys_kernel,
        [(heads, True), (tiles.columns, True), (group, False), (tiles.rows, False)],
        (blocks.given(given, transposed=True), blocks.seeds(seeds[0])),
        tuple(map(blocks.keys, keys)),
        tuple(varying_as(given.q, x.shape, x.dtype) for x in keys),
        [pltpu.VMEM((tiles.k, x.shape[-1]), jnp.float32) for x in keys],
    )
    # Place `x` goes to `q + k - x`, which is one place further than by reversal alone.
    backwards = [jnp.roll(x[..., ::-1], 1, axis=-1) for x in given.strip]
    return call(offset, given._replace(strip=backwards), seeds)


def _keys_kernel(tiles, offset, given, seeds, d_k, d_v, k_total, v_total):
    q, d_out = given.q, seeds[0]
    j, g, i = pl.program_id(1), pl.program_id(2), pl.program_id(3)

    @pl.when((g == 0) & (i == 0))
    def start():
        k_total[...] = jnp.zeros_like(k_total)
        v_total[...] = jnp.zeros_like(v_total)

    def tile(masked):
        weights, by_logits = _gradient(
            tiles, given, seeds, given.strip, i, j, offset, masked, transposed=True
        )
        v_total[...] += product(weights.astype(given.v.dtype), d_out[...], OF_TOKENS)
        k_total[...] += product(by_logits.astype(q.dtype), q[...], OF_TOKENS)

    tiles.each(i, j, offset, tile)

    @pl.when((g == pl.num_programs(2) - 1) & (i == tiles.rows - 1))
    def finish():
        d_k[...] = (tiles.scale * k_total[...]).astype(d_k.dtype)
        d_v[...] = v_total[...].astype(d_v.dtype)


def _gradient(tiles, given, seeds, window, i, j, offset, masked, transposed=False):
    """The weights of a tile, and the gradient with respect to its logits."""
    logits, slope = tiles.logits(given, window, i, j, offset, masked, transposed)
    (d_out, normalizer, mean), v = seeds, given.v

    def wide(x):
        return x[...] if transposed else as_columns(x[...], logits.shape[1])

    # Weights need no division: the exponent subtracts the log-sum-exp.
    weights = jnp.exp2(logits - wide(normalizer))
    a, b = (v, d_out) if transposed else (d_out, v)
    by_logits = weights * (product(a[...], b[...], OF_FEATURES) - wide(mean))
    return weights, by_logits if slope is None else slope * by_logits
