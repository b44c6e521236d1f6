"""The backward kernels, which compute the logits of each tile again."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from ...._sharding import varying_as
from ...._spread import toeplitz_transpose
from .._tiling import every, Given, OF_FEATURES, OF_TOKENS
from ._tiles import product, Tiles


def backward(tiles: Tiles, offset, given: Given, seeds) -> Given:
    """The gradients with respect to queries, keys, values, and the strip of a bias.

    `seeds` are the cotangent of the attended values, the log-sum-exp of `forward`, and
    the weighted mean of the gradients of the weights. Each program writes results of
    its own, so no sum depends on the order of programs.
    """
    q, k, v = given[:3]
    short, long = tiles.k, tiles.q // 2
    # Tensor cores multiply 16 rows a warp. Float32 has none.
    warps = 4 if q.dtype.itemsize == 2 else 8

    def call(kernel, shape, heads, steps, *results):
        sized = dataclasses.replace(tiles, q=shape[0], k=shape[1])
        name = f"attention_backward{kernel.__name__.removesuffix('_kernel')}"
        results = [varying_as(q, *result) for result in results]
        arguments = offset, given, seeds
        return sized.call(name, kernel, (heads, steps), results, warps, *arguments)

    heads, kv_heads = q.shape[0], k.shape[0]
    d_q, d_k, d_v = ((x.shape, x.dtype) for x in (q, k, v))
    rows, columns = (count // long for count in tiles.padded)
    (d_q,) = call(_queries_kernel, (long, short), heads, rows, d_q)
    d_k, d_v = call(_keys_kernel, (short, long), kv_heads, columns, d_k, d_v)
    d_strip = []
    if given.strip:
        count = tiles.places // short - 1
        sums = (heads, count, short, short), jnp.float32
        d_strip = map(_folded, call(_strip_kernel, (short, short), heads, count, sums))
    return Given(d_q, d_k, d_v, [None for _ in given.ids], [*d_strip], [])


def _queries_kernel(tiles, offset, given, seeds, d_q):
    h, i = pl.program_id(0), pl.program_id(1)
    offset, row = [offset[0]], _row(tiles, given, seeds, h, i)

    def tile(j, total):
        column = _column(tiles, given, h, j)
        _, by_logits = _gradient(tiles, row, column, given, h, i, j, offset)
        k, _ = column
        return total + product(by_logits.astype(k.dtype), k, OF_TOKENS)

    total = jnp.zeros((tiles.q, d_q.shape[-1]), jnp.float32)
    total = tiles.over_keys(i, offset, tile, total)
    d_q[h, tiles.row(i), :] = (tiles.scale * total).astype(d_q.dtype)


def _keys_kernel(tiles, offset, given, seeds, d_k, d_v):
    """Sums over the heads of queries that share a head of keys. Tiles are keys by
    queries, so that sums over queries need no transposed tile."""
    h, j = pl.program_id(0), pl.program_id(1)
    group = given.q.shape[0] // given.k.shape[0]
    offset, column = [offset[0]], _column(tiles, given, h * group, j)

    def of_head(g, totals):
        def tile(i, totals):
            by_k, by_v = totals
            row = q, d_out, *_ = _row(tiles, given, seeds, h * group + g, i)
            weights, by_logits = _gradient(
                tiles, row, column, given, h * group + g, i, j, offset, transposed=True
            )
            by_v += product(weights.astype(d_out.dtype), d_out, OF_TOKENS)
            return by_k + product(by_logits.astype(q.dtype), q, OF_TOKENS), by_v

        return tiles.over_queries(j, offset, tile, totals)

    totals = tuple(jnp.zeros((tiles.k, x.shape[-1]), jnp.float32) for x in (d_k, d_v))
    by_k, by_v = jax.lax.fori_loop(0, group, of_head, totals)
    here = tiles.column(j)
    d_k[h, here, :] = (tiles.scale * by_k).astype(d_k.dtype)
    d_v[h, here, :] = by_v.astype(d_v.dtype)


def _strip_kernel(tiles, offset, given, seeds, sums):
    """Sums of all tiles with the same distances, which follow one diagonal."""
    h, t = pl.program_id(0), pl.program_id(1)
    # The number of columns from a row to its tile.
    ahead = t + 1 - tiles.padded[0] // tiles.q
    offset = [offset[0]]

    def tile(i, total):
        row = _row(tiles, given, seeds, h, i)
        column = _column(tiles, given, h, i + ahead)
        return total + _gradient(tiles, row, column, given, h, i, i + ahead, offset)[1]

    first = jnp.maximum(-ahead, 0)
    last = jnp.minimum(tiles.columns - ahead, tiles.rows)
    some, _ = tiles.unmasked(0, ahead, offset)
    if some:
        last = jnp.where(every(some), last, first)
    total = jnp.zeros((tiles.q, tiles.k), jnp.float32)
    sums[h, t] = jax.lax.fori_loop(first, last, tile, total)


def _row(tiles, given, seeds, h, i):
    d_out, *numbers = seeds
    here = tiles.row(i)
    tokens = given.q[h, here, :], d_out[h, here, :]
    return *tokens, *(x[h, 0, here] for x in numbers)


def _column(tiles, given, h, j):
    q, k, v = given[:3]
    h, here = jax.lax.div(h, q.shape[0] // k.shape[0]), tiles.column(j)
    return k[h, here, :], v[h, here, :]


def _gradient(tiles, row, column, given, h, i, j, offset, transposed=False):
    """The weights of a tile, and the gradient with respect to its logits."""
    (q, d_out, normalizer, mean), (k, v) = row, column
    wide = lambda x: x[None] if transposed else x[:, None]
    logits, slope = tiles.logits(q, k, given, h, i, j, offset, transposed)
    # Weights need no division: the exponent subtracts the log-sum-exp.
    weights = jnp.exp2(logits - wide(normalizer))
    a, b = (v, d_out) if transposed else (d_out, v)
    by_logits = weights * (product(a, b, OF_FEATURES) - wide(mean))
    return weights, by_logits if slope is None else slope * by_logits


def _folded(sums):
    """The sums along the diagonals of tiles, each at its place in the strip."""
    heads, count, size, _ = sums.shape
    folded = toeplitz_transpose(sums.reshape(-1, size, size))
    # A tile has twice as many distances as rows, and shares half with its neighbors.
    halves = jnp.pad(folded, ((0, 0), (1, 0))).reshape(heads, count, 2, size)
    pad = lambda x, *widths: jnp.pad(x, ((0, 0), widths, (0, 0)))
    strip = pad(halves[:, :, 0], 0, 1) + pad(halves[:, :, 1], 1, 0)
    return strip.reshape(heads, 1, -1)
