"""Attention of a sequence that is sharded over devices, in a ring.

Queries stay on their device. Keys, values and their data move from each device to the
next. Every device adds its current shard to the running sums of its queries. In the
backward pass they move around again, together with their gradients. No device holds
more than two shards.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._phase import computing_dtype
from .._sharding import axis_size
from ._blockwise import attended, gradients_of_attended
from ._derivative import with_gradients
from ._inputs import Attended, Inputs


class Hop(NamedTuple):
    """How a device attends to its current shard of keys."""

    attended: Callable[..., tuple[Array, Array]]
    """A function of inputs: the attended values and the log-sum-exp, in at least
    float32."""
    gradients: Callable[..., Inputs]
    """A function of inputs, of the attended values and the log-sum-exp over all keys,
    and of their cotangents: the gradients with respect to float arrays."""


def by_blocks(size: int) -> Hop:
    """Tiles of `size` queries and keys."""

    def wide(inputs):
        # Gradients of all shards are summed in float32, and rounded once.
        cast = lambda x: x.astype(computing_dtype(x.dtype))
        tokens = {name: cast(getattr(inputs, name)) for name in ("q", "k", "v")}
        return dataclasses.replace(inputs, **tokens)

    return Hop(
        lambda inputs: attended(wide(inputs), size),
        lambda inputs, *more: gradients_of_attended(wide(inputs), size, *more),
    )


def ring(inputs: Inputs, hop: Hop, axis_name: str) -> Attended:
    """Attention of this device's queries to the keys of the whole sequence."""
    out, normalizer = _attention((axis_name, hop), inputs)
    # All shards are merged in at least float32 before this one rounding.
    return out.astype(inputs.v.dtype), normalizer


def _attended(how, inputs):
    axis_name, hop = how

    def step(carry, _):
        known, moving = carry
        known = _together(known, hop.attended(_with(inputs, moving)))
        # The last move is superfluous, but all steps of a scan are equal.
        return (known, _to_the_next(moving, axis_name)), None

    moving = _moving(inputs)
    heads, count = inputs.q.shape[:2]
    dtype = inputs.dtype
    # Zeros that are like `v` vary over the same mesh axes, which `jax.shard_map`
    # requires of the carry.
    zeros = partial(jnp.zeros_like, inputs.v, dtype=dtype)
    nothing = zeros(shape=(heads, count)) + jnp.finfo(dtype).min
    start = (zeros(shape=(heads, count, inputs.v.shape[-1])), nothing), moving
    (known, _), _ = jax.lax.scan(step, start, length=axis_size(axis_name))
    return known


def _gradients(how, inputs, *found):
    axis_name, hop = how
    floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
    *found, cotangents = found
    floats, cotangents = _once((floats, cotangents))
    inputs = eqx.combine(floats, rest)

    def step(carry, _):
        total, moving = carry
        more = hop.gradients(_with(inputs, moving), *found, cotangents)
        total = jax.tree.map(lambda x, y: x + y.astype(x.dtype), total, more)
        # Gradients of keys move with their keys, and return to their device after the
        # last step.
        keys = _to_the_next(_of_keys(total), axis_name)
        total = dataclasses.replace(total, **keys)
        return (total, _to_the_next(moving, axis_name)), None

    # Sums over all shards are in at least float32, and rounded once at the end.
    def zeros(x):
        return jnp.zeros_like(inputs.v, shape=x.shape, dtype=computing_dtype(x.dtype))

    start = jax.tree.map(zeros, floats), _moving(inputs)
    (total, _), _ = jax.lax.scan(step, start, length=axis_size(axis_name))
    return jax.tree.map(lambda x, like: x.astype(like.dtype), total, floats)


_attention = with_gradients(_attended, _gradients)


@jax.custom_vjp
def _once(arrays):
    """The identity, with a message for second derivatives. JAX's own message would be
    that it cannot reverse loops over a dynamic number of tiles."""
    return arrays


def _twice(arrays):
    del arrays
    raise ValueError(
        "`axis_name` must be None for second derivatives, as a ring has first ones "
        "alone. Use `implementation='blockwise'` on one device."
    )


_once.defvjp(_twice, lambda residuals, cotangents: (cotangents,))


def _together(known, more):
    """Merges attention to two sets of keys by their log-sum-exps. The log-sum-exp of a
    query without unmasked keys is the lowest finite number."""
    out, normalizer = known
    more_out, more_normalizer = more
    # The lowest finite number avoids -inf minus -inf, which would be NaN for a fully
    # masked query.
    both = jnp.logaddexp(normalizer, more_normalizer)
    before = jnp.exp(normalizer - both)[..., None]
    after = jnp.exp(more_normalizer - both)[..., None]
    return before * out + after * more_out, both


def _moving(inputs: Inputs):
    """The arrays that move from device to device."""
    # Masks compare positions and segments, so both move together with the keys.
    return _of_keys(inputs), inputs.rules.k_segments


def _with(inputs: Inputs, moving) -> Inputs:
    """The inputs, with the keys of another device."""
    keys, k_segments = moving
    rules = dataclasses.replace(inputs.rules, k_segments=k_segments)
    return dataclasses.replace(inputs, rules=rules, **keys)


def _of_keys(inputs: Inputs) -> dict[str, Any]:
    return {name: getattr(inputs, name) for name in ("k", "v", "k_tokens")}


def _to_the_next(tree, axis_name):
    count = axis_size(axis_name)
    ring = [(i, (i + 1) % count) for i in range(count)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, ring), tree)
