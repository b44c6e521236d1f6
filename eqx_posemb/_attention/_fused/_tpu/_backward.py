"""The backward kernels, which compute the logits of each tile again."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from ...._sharding import varying_as
from .._tiling import Given, OF_FEATURES, OF_TOKENS, product
from ._band import add_to_band, band_blocks
from ._strip import fold_all
from ._tiles import as_column, over_lanes, Tiles


def backward(tiles: Tiles, given: Given, seeds):
    """The gradients with respect to queries, keys, values, the strip of a bias, and the
    parts of a score."""
    d_q, *d_terms = backward_queries(tiles, given, seeds)
    # Each block of keys visits the strips of several heads, so none is kept.
    passing = dataclasses.replace(tiles, keep=False)
    return d_q, *backward_keys(passing, given, seeds), *d_terms


def backward_queries(tiles: Tiles, given: Given, seeds):
    """The gradients with respect to the queries, to the strip of a bias, and to the
    parts of a score.

    Rows of tiles come in order, so that the gradients of a head's strip and vectors
    stay in the memory of the core. `seeds` are the cotangent of the attended values,
    the log-sum-exp of `forward`, and the weighted mean of the gradients of the weights.
    """
    offset, q, k, v, ids, strip, band = given
    heads, _, dim = q.shape
    group = heads // k.shape[0]
    column = lambda i, j, offset: tiles.needed_key(i, j, offset)

    def of_queries(features):
        index = lambda h, i, j, offset: (h, i, 0)
        return pl.BlockSpec((None, tiles.q, features), index)

    def of_keys(features):
        return pl.BlockSpec(
            (None, tiles.k, features),
            lambda h, i, j, offset: (jax.lax.div(h, group), column(i, j, offset), 0),
        )

    row = pl.BlockSpec((None, 1, tiles.q), lambda h, i, j, offset: (h, 0, i))
    segments = [
        pl.BlockSpec((1, tiles.q), lambda h, i, j, offset: (0, i)),
        pl.BlockSpec((1, tiles.k), lambda h, i, j, offset: (0, column(i, j, offset))),
    ]
    at = lambda h, i, j, offset: (h, i, column(i, j, offset))
    window, of_band = tiles.window(at), band_blocks(tiles, band, at)
    out_specs, out_shape = [of_queries(dim)], [varying_as(q, q.shape, q.dtype)]
    scratch = [pltpu.VMEM((tiles.q, dim), jnp.float32)]
    # All rows add to the gradient of the strip, so one block holds all of it.
    for x in strip:
        index = lambda h, i, j, offset: (h, 0, 0)
        out_specs.append(pl.BlockSpec((None, 1, tiles.places), index))
        out_shape.append(varying_as(q, x.shape, jnp.float32))
        scratch.extend([tiles.expanded()] * (2 if tiles.kept else 1))
    if tiles.score:
        of_x, of_vectors, of_numbers = band
        whole = lambda h, i, j, offset: (h, 0, 0)
        width, vectors = of_x.shape[-1], (heads, *of_vectors.shape[1:])
        shapes = of_x.shape, vectors, of_numbers.shape
        out_specs += [of_queries(width)]
        out_specs += [pl.BlockSpec((None, *shape[1:]), whole) for shape in shapes[1:]]
        out_shape += [varying_as(q, shape, jnp.float32) for shape in shapes]
    in_any_order = not (tiles.bias or tiles.score)
    call = tiles.call(
        "attention_backward_queries",
        _queries_kernel,
        [(heads, True), (tiles.rows, in_any_order), (tiles.columns, False)],
        [*_read(given, of_queries, of_keys, row, segments), *window, *of_band],
        out_specs,
        out_shape,
        scratch,
    )
    return call(offset, q, k, v, *seeds, *ids, *strip, *band)


def _read(given, of_queries, of_keys, row, segments):
    """The blocks that both backward kernels read before a strip, in their order."""
    dim, dim_v = given.q.shape[-1], given.v.shape[-1]
    tokens = of_queries(dim), of_keys(dim), of_keys(dim_v), of_queries(dim_v)
    return [*tokens, row, row, *segments[: len(given.ids)]]


def _queries_kernel(tiles, offset, q, k, v, d_out, normalizer, mean, *refs):
    (ids, window, band), refs = tiles.parted(refs)
    d_q, refs = refs[0], refs[1:]
    d_strip, refs = refs[: tiles.bias], refs[tiles.bias :]
    d_band, refs = refs[: 3 * tiles.score], refs[3 * tiles.score :]
    total, *refs = refs
    if tiles.kept:
        window = (*window, refs.pop(0))
    sums = refs
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
        logits, slope = tiles.logits(
            q[...], k[...], window, i, j, offset, ids, masked, band=band
        )
        wide = lambda x: over_lanes(as_column(x[...]), logits.shape[1])
        weights = jnp.exp2(logits - wide(normalizer))
        # Weights need no division: the exponent subtracts the log-sum-exp.
        by_weights = product(d_out[...], v[...], OF_FEATURES)
        by_logits = weights * (by_weights - wide(mean))
        if slope is not None:
            by_logits *= slope
        total[...] += product(by_logits.astype(k.dtype), k[...], OF_TOKENS)
        for x, scratch in zip(d_strip, sums, strict=True):
            tiles.add_to_strip(x, scratch, by_logits, i, j)
        if band:
            (x, vectors, _), (d_x, d_vectors, d_numbers) = band, d_band
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


def backward_keys(tiles: Tiles, given: Given, seeds):
    """The gradients with respect to keys and values, summed over the heads of queries
    that share a head of keys.

    Tiles are keys by queries, so that sums over queries need no transposed tile. The
    strip is read backwards instead. `tiles` keep no strip, as each block of keys visits
    the strips of several heads.
    """
    offset, q, k, v, ids, strip, band = given
    kv_heads, _, dim = k.shape
    group, dim_v = q.shape[0] // kv_heads, v.shape[-1]
    row_of = lambda i, j, offset: tiles.needed_query(i, j, offset)

    def of_queries(features):
        return pl.BlockSpec(
            (None, tiles.q, features),
            lambda h, j, g, i, offset: (h * group + g, row_of(i, j, offset), 0),
        )

    def of_keys(features):
        index = lambda h, j, g, i, offset: (h, j, 0)
        return pl.BlockSpec((None, tiles.k, features), index)

    row = pl.BlockSpec(
        (None, 1, tiles.q),
        lambda h, j, g, i, offset: (h * group + g, 0, row_of(i, j, offset)),
    )
    segments = [
        pl.BlockSpec(
            (1, tiles.q), lambda h, j, g, i, offset: (0, row_of(i, j, offset))
        ),
        pl.BlockSpec((1, tiles.k), lambda h, j, g, i, offset: (0, j)),
    ]
    at = lambda h, j, g, i, offset: (h * group + g, row_of(i, j, offset), j)
    window, of_band = tiles.window(at, transposed=True), band_blocks(tiles, band, at)
    call = tiles.call(
        "attention_backward_keys",
        _keys_kernel,
        [(kv_heads, True), (tiles.columns, True), (group, False), (tiles.rows, False)],
        [*_read(given, of_queries, of_keys, row, segments), *window, *of_band],
        [of_keys(dim), of_keys(dim_v)],
        [varying_as(q, x.shape, x.dtype) for x in (k, v)],
        [
            pltpu.VMEM((tiles.k, dim), jnp.float32),
            pltpu.VMEM((tiles.k, dim_v), jnp.float32),
        ],
    )
    # Place `x` goes to `q + k - x`, which is one place further than by reversal alone.
    backwards = [jnp.roll(x[..., ::-1], 1, axis=-1) for x in strip]
    return call(offset, q, k, v, *seeds, *ids, *backwards, *band)


def _keys_kernel(tiles, offset, q, k, v, d_out, normalizer, mean, *refs):
    (ids, window, band), refs = tiles.parted(refs)
    d_k, d_v, k_total, v_total = refs
    j, g, i = pl.program_id(1), pl.program_id(2), pl.program_id(3)

    @pl.when((g == 0) & (i == 0))
    def start():
        k_total[...] = jnp.zeros_like(k_total)
        v_total[...] = jnp.zeros_like(v_total)

    def tile(masked):
        logits, slope = tiles.logits(
            k[...],
            q[...],
            window,
            i,
            j,
            offset,
            ids,
            masked,
            transposed=True,
            band=band,
        )
        weights = jnp.exp2(logits - normalizer[...])
        v_total[...] += product(weights.astype(v.dtype), d_out[...], OF_TOKENS)
        by_weights = product(v[...], d_out[...], OF_FEATURES)
        by_logits = weights * (by_weights - mean[...])
        if slope is not None:
            by_logits *= slope
        k_total[...] += product(by_logits.astype(q.dtype), q[...], OF_TOKENS)

    tiles.each(i, j, offset, tile)

    @pl.when((g == pl.num_programs(2) - 1) & (i == tiles.rows - 1))
    def finish():
        d_k[...] = (tiles.scale * k_total[...]).astype(d_k.dtype)
        d_v[...] = v_total[...].astype(d_v.dtype)
