"""Attention by its definition, with materialized logits."""

import dataclasses
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from .._given import Consecutive
from .._phase import computing_dtype
from .._sharding import gathered
from ._blocks import filled
from ._inputs import Attended, each_array, Inputs
from ._logits import Logits, Tokens
from ._products import times, times_transposed


def dense_logits(
    logits: Logits,
    q: Float[Array, "heads q dim"],
    k: Float[Array, "kv_heads k dim"],
    q_tokens: Tokens,
    k_tokens: Tokens,
    seen: Bool[Array, "*heads q k"] | None = None,
) -> Float[Array, "heads q k"]:
    """The finished logits of all pairs, in at least float32, without a mask.

    `seen` is the mask, for parts that read the keys between two tokens.
    """
    products = times(q, k, computing_dtype(q.dtype))
    prepared = logits.prepared(q_tokens, k_tokens)
    return logits.finished(products, prepared, q_tokens, k_tokens, seen=seen)


def dense(inputs: Inputs) -> Attended:
    """The mean of the unmasked values, weighted by the softmax of the logits.

    A query without unmasked keys gets zeros, and zero gradients.
    """
    q, v, q_tokens, k_tokens = inputs.q, inputs.v, inputs.q_tokens, inputs.k_tokens
    seen = inputs.rules.seen(q_tokens.compared, k_tokens.compared)
    finished = dense_logits(inputs.logits, q, inputs.k, q_tokens, k_tokens, seen)
    seen = jnp.broadcast_to(seen, finished.shape)
    if not inputs.logits.bare:
        # A bias of -inf masks a key, and may mask all keys of a query.
        seen &= finished != -jnp.inf
    # The lowest finite number, and not -inf. A fully masked row would give NaN in
    # between, where `jax_debug_nans` stops.
    lowest = jnp.finfo(finished.dtype).min
    weights, normalizer = _softmax(jnp.where(seen, finished, lowest))
    weights = jnp.where(seen, weights, 0).astype(v.dtype)
    out = times_transposed(weights, v, finished.dtype).astype(v.dtype)
    return out, normalizer.astype(inputs.dtype)


@jax.custom_jvp
def _softmax(
    logits: Float[Array, "heads q k"],
) -> tuple[Float[Array, "heads q k"], Float[Array, "heads q"]]:
    """The softmax and the log-sum-exp over keys."""
    lowest = jnp.finfo(logits.dtype).min
    largest = jnp.max(logits, axis=-1, keepdims=True, initial=lowest)
    weights = jnp.exp(logits - largest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    return weights / total, (largest + jnp.log(total))[..., 0]


@_softmax.defjvp
def _tangent(primals, tangents):
    # Both derivatives share a sum, and reuse the exponentials of the primal.
    weights, normalizer = _softmax(*primals)
    (tangent,) = tangents
    mean = jnp.sum(weights * tangent, axis=-1)
    return (weights, normalizer), (weights * (tangent - mean[..., None]), mean)


def dense_in_shards(inputs: Inputs, shards: int) -> Attended:
    """[`dense`][] for queries that are sharded over devices. Each shard gathers all
    keys and values, and needs no other exchange."""
    whole = lambda axis, x: gathered(x, axis)
    whole = dataclasses.replace(inputs.each(_same, whole), rules=inputs.rules)
    return _in_parts(whole, shards, jax.vmap)


def dense_in_rows(inputs: Inputs, size: int) -> Attended:
    """[`dense`][] for `size` queries after another, each with all keys."""
    count, padded = inputs.q.shape[1], inputs.each(partial(filled, size), _same)

    def one_by_one(of_part, **_):
        # A derivative would otherwise store the logits of all queries.
        of_part = jax.checkpoint(of_part)

        def of_all(*parts):
            out = jax.lax.map(lambda part: of_part(*part), parts)
            return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), out)

        return of_all

    out, normalizer = _in_parts(padded, padded.q.shape[1] // size, one_by_one)
    return out[:, :count], normalizer[:, :count]


def _same(axis, x):
    del axis
    return x


def _in_parts(inputs, count, mapped) -> Attended:
    """[`dense`][] for `count` parts of the queries, by `mapped`, such as `jax.vmap`."""
    rules = inputs.rules

    def cut(axis, x) -> Any:
        size = x.shape[axis] // count
        if isinstance(x, Consecutive):
            return x.part(jnp.arange(count, dtype=x.dtype) * size, size)
        x = x.reshape(*x.shape[:axis], count, size, *x.shape[axis + 1 :])
        return jnp.moveaxis(x, axis, 0)

    def of_part(q, q_tokens, mask, q_segments):
        shown = dataclasses.replace(rules, mask=mask, q_segments=q_segments)
        part = dataclasses.replace(inputs, q=q, q_tokens=q_tokens, rules=shown)
        return dense(part)

    q, q_tokens = each_array(cut, inputs.q), each_array(cut, inputs.q_tokens)
    # Each device then decides by itself whether positions are consecutive.
    positions = lambda tokens: tokens.positions
    q_tokens = eqx.tree_at(positions, q_tokens, replace_fn=gathered)
    mask = None if rules.mask is None else cut(rules.mask.ndim - 2, rules.mask)
    segments = None if rules.q_segments is None else cut(0, rules.q_segments)
    out, normalizer = mapped(of_part, out_axes=1)(q, q_tokens, mask, segments)
    shape = inputs.q.shape[:2]
    return out.reshape(*shape, out.shape[-1]), normalizer.reshape(shape)
