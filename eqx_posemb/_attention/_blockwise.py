"""Attention tile by tile, in memory that is linear in the sequence length.

A tile is a block of queries with a block of keys. Both passes compute its logits anew,
and none are stored. An online softmax accumulates the keys: weights are relative to the
running maximum, and rescaled when the maximum grows.
"""

import dataclasses
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._spread import either
from ._blocks import add, block, Blocks, into_blocks, put
from ._derivative import parted, with_gradients
from ._inputs import Attended, Inputs
from ._logits import Prepared
from ._parts import by_parts, of_heads
from ._products import over_queries, times, times_transposed


def blockwise(inputs: Inputs, size: int) -> Attended:
    """The result of [`dense`][], in tiles of `size` queries and `size` keys."""
    score = inputs.logits.by_distance(inputs.q_tokens, inputs.k_tokens)
    # A score by distance needs consecutive positions, which run time may decide.
    out, normalizer = either(
        score is not None and score.consecutive,
        lambda: _of_blocks(into_blocks(inputs, size, score)),
        lambda: _of_blocks(into_blocks(inputs, size)),
    )
    count = inputs.q.shape[1]
    # Sums are in at least float32 until here, and one rounding to the dtype of the
    # values follows.
    return out[:, :count].astype(inputs.v.dtype), normalizer[:, :count]


def attended(inputs: Inputs, size: int) -> Attended:
    """The attended values and the log-sum-exp, both in at least float32."""
    # A ring merges the results of many shards, so they are not yet rounded to the dtype
    # of the values.
    out, normalizer = _of_blocks(_stated(inputs, size))
    count = inputs.q.shape[1]
    return out[:, :count], normalizer[:, :count]


def _stated(inputs, size):
    """Blocks, with a score by distance where positions are stated to be consecutive."""
    score = inputs.logits.by_distance(inputs.q_tokens, inputs.k_tokens)
    stated = score is not None and score.consecutive is True
    return into_blocks(inputs, size, score if stated else None)


def gradients_of_attended(
    inputs: Inputs,
    size: int,
    out: Float[Array, "heads q dim_v"],
    normalizer: Float[Array, "heads q"],
    cotangents: Attended,
) -> Inputs:
    """The gradients with respect to the float arrays of the inputs, from the results of
    [`attended`][] and their cotangents."""
    # The pull-back undoes padding and casts, and sums gradients of parameters over the
    # devices of a mesh.
    blocks, pull = eqx.filter_vjp(partial(_stated, size=size), inputs)
    dtype, count = normalizer.dtype, -inputs.q.shape[1] % size

    # Zero cotangents keep padded queries out of all gradients.
    def filled(x):
        widths = [(0, 0), (0, count), (0, 0)][: x.ndim]
        return jnp.pad(x.astype(dtype), widths)

    given = filled(out), filled(normalizer), tuple(map(filled, cotangents))
    return pull(_gradients_of_blocks(None, blocks, *given))[0]


def _attended_of_blocks(how, blocks):
    del how
    of_some = lambda some: finish(accumulate(some))
    return by_parts(of_some, partial(jax.tree.map, _joined), blocks)


def _gradients_of_blocks(how, blocks, out, normalizer, cotangents):
    del how
    floats, others, static = parted(blocks)
    d_out, d_normalizer = cotangents
    # The gradient of the softmax subtracts this mean, one number for each query. No
    # array of weights is needed for it.
    mean = jnp.sum(d_out * out, axis=-1) - d_normalizer
    return _gradients(static, floats, others, Seeds(normalizer, d_out, mean))


_of_blocks = partial(with_gradients(_attended_of_blocks, _gradients_of_blocks), None)


# Joins the first axis, of groups, with the second, of heads.
_joined = partial(jax.lax.collapse, start_dimension=0, stop_dimension=2)


class Sums(NamedTuple):
    """The running sums of an online softmax, for each query."""

    # The running maximum keeps every exponent at zero or below.
    largest: Float[Array, "heads q"]
    weights: Float[Array, "heads q"]
    values: Float[Array, "heads q dim_v"]


def accumulate(blocks: Blocks) -> Sums:
    """The sums of the queries over all keys."""

    def group(i, j, over, sums):
        # The tiles of a group have equal distances, so one evaluation of a relative
        # bias serves them all.
        prepared = blocks.at(i, j).prepared()

        def tile(i, j, masked, sums):
            here, before = blocks.at(i, j), block(blocks.size, i, sums)
            logits = here.finished(times(here.q, here.k), prepared)
            if masked:
                # With -inf a masked key has weight zero in a fully masked query, too. A
                # large negative number would give weight one there.
                logits = jnp.where(blocks.seen(i, j), logits, -jnp.inf)
            # The sums start at the lowest finite number and not at -inf. A query whose
            # keys are all masked so far would give -inf minus -inf, which is NaN.
            largest = jnp.maximum(before.largest, jnp.max(logits, axis=-1))
            weights = jnp.exp(logits - largest[..., None])
            # The maximum never falls, so the factor is at most one and nothing
            # overflows.
            rescale = jnp.exp(before.largest - largest)
            after = Sums(
                largest,
                rescale * before.weights + jnp.sum(weights, axis=-1),
                rescale[..., None] * before.values + times_transposed(weights, here.v),
            )
            return put(blocks.size, i, sums, after)

        return over(tile, sums)

    zeros = partial(blocks.zeros, *blocks.q.shape[:-1])
    lowest = jnp.finfo(blocks.v.dtype).min
    start = Sums(zeros() + lowest, zeros(), zeros(blocks.v.shape[-1]))
    return blocks.sweep(group, start)


def finish(sums: Sums) -> Attended:
    """The attended values and the log-sum-exp.

    A query without unmasked keys gets zeros, and the lowest finite number.
    """
    sees = sums.weights > 0
    # A fully masked query divides zeros by one, since zero by zero would be NaN.
    weights = jnp.where(sees, sums.weights, 1)
    normalizer = jnp.where(sees, sums.largest + jnp.log(weights), sums.largest)
    return sums.values / weights[..., None], normalizer


class Seeds(NamedTuple):
    """The residuals and cotangents of each query, for the backward pass."""

    normalizer: Float[Array, "heads q"]
    """The log-sum-exp, as [`finish`][] returns it."""
    d_out: Float[Array, "heads q dim_v"]
    """The cotangent of the attended values."""
    mean: Float[Array, "heads q"]
    """The weighted mean of the gradients of the weights, `sum(d_out * out)`, minus the
    cotangent of the log-sum-exp."""


def gradients(blocks: Blocks, seeds: Seeds) -> Blocks:
    """The gradients with respect to all float arrays of the blocks, and `None` for
    other leaves."""
    floats = eqx.filter(blocks, eqx.is_inexact_array)
    positions = floats.q_tokens.positions, floats.k_tokens.positions
    # The gradient of a bias is as large as a tile, so loops carry one only for
    # parameters or float positions.
    by_bias = floats.logits.bias, *positions

    def group(i, j, over, total):
        prepared, pull = eqx.filter_vjp(Blocks.prepared, blocks.at(i, j))

        def tile(i, j, masked, carry):
            total, by_prepared = carry
            seen = blocks.seen(i, j) if masked else None
            here = block(blocks.size, i, seeds)
            found, more = of_tile(blocks.at(i, j), prepared, here, seen)
            total = total.plus(i, j, found)
            return total, by_prepared and jax.tree.map(jnp.add, by_prepared, more)

        # Tiles of a group add up the gradients of their shared arrays. One pull-back
        # for each group then reaches the parameters.
        zeros = None
        if jax.tree.leaves((by_bias, prepared.score)):
            zeros = jax.tree.map(lambda x: blocks.zeros(*x.shape), prepared)
        total, by_prepared = over(tile, (total, zeros))
        if by_prepared is None:
            return total
        cast = lambda x, like: x.astype(like.dtype)
        (found,) = pull(jax.tree.map(cast, by_prepared, prepared))
        return total.plus(i, j, found)

    # Gradients of all tiles are summed in the dtype of the computation, and rounded
    # once at the end.
    total = jax.tree.map(lambda x: blocks.zeros(*x.shape), floats)
    total = blocks.sweep(group, total)
    return jax.tree.map(lambda x, like: x.astype(like.dtype), total, floats)


# JAX cannot reverse loops with a dynamic number of tiles, so the gradient has a
# derivative rule of its own.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _gradients(static, floats, others, seeds):
    def together(found):
        join = lambda heads, x: _joined(x) if heads else jnp.sum(x, axis=0)
        return jax.tree.map(join, of_heads(floats), found)

    blocks = eqx.combine(floats, others, static)
    return by_parts(gradients, together, blocks, seeds)


def _gradients_forward(static, floats, others, seeds):
    return _gradients(static, floats, others, seeds), (floats, others, seeds)


def _gradients_backward(static, residuals, cotangents):
    """The second derivative, tile by tile as well."""
    floats, others, seeds = residuals
    blocks = eqx.combine(floats, others, static)

    def group(i, j, over, total):
        del i, j
        return over(tile, total)

    def tile(i, j, masked, total):
        by_blocks, by_seeds = total
        seen = blocks.seen(i, j) if masked else None

        # A second derivative also passes through the bias, so the bias is prepared
        # inside.
        def all_of_tile(tile, seeds):
            prepared, pull = eqx.filter_vjp(Blocks.prepared, tile)
            found, by_prepared = of_tile(tile, prepared, seeds, seen)
            if not jax.tree.leaves(prepared):
                return found
            return jax.tree.map(jnp.add, found, *pull(by_prepared))

        here = blocks.at(i, j)
        _, pull = eqx.filter_vjp(all_of_tile, here, block(blocks.size, i, seeds))
        found, more = pull(cotangents.at(i, j))
        return by_blocks.plus(i, j, found), add(blocks.size, i, by_seeds, more)

    start = jax.tree.map(lambda x: blocks.zeros(*x.shape), (floats, seeds))
    found, by_seeds = blocks.sweep(group, start)
    found = jax.tree.map(lambda x, like: x.astype(like.dtype), found, floats)
    return found, None, by_seeds


_gradients.defvjp(_gradients_forward, _gradients_backward)


def of_tile(
    tile: Blocks,
    prepared: Prepared,
    seeds: Seeds,
    seen: Bool[Array, "*heads q k"] | None,
) -> tuple[Blocks, Prepared]:
    """The gradients of a tile with respect to its inputs, and to the prepared
    arrays."""
    products = times(tile.q, tile.k)
    finished, pull = eqx.filter_vjp(Blocks.finished, tile, products, prepared)
    # The stored log-sum-exp normalizes the weights without a second maximum and sum.
    exponents = finished - seeds.normalizer[..., None]
    if seen is not None:
        # The mask goes before the exponential. A masked exponential might overflow, and
        # its derivative would be NaN.
        exponents = jnp.where(seen, exponents, -jnp.inf)
    weights = jnp.exp(exponents)
    by_weights = times(seeds.d_out, tile.v)
    by_finished = weights * (by_weights - seeds.mean[..., None])
    found, by_products, by_prepared = pull(by_finished)
    # `Blocks.finished` reads no queries, keys or values, so its pull-back has zeros in
    # their places.
    by_tokens = dict(
        q=times_transposed(by_products, tile.k),
        k=over_queries(tile.q, by_products, tile.k.shape[0]),
        v=over_queries(seeds.d_out, weights, tile.v.shape[0]),
    )
    return dataclasses.replace(found, **by_tokens), by_prepared
