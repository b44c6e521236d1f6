"""Attention of a sequence that is sharded over devices, in a ring.

Queries stay where they are. Keys, values and what belongs to them go around, from each
device to the next, and every device adds those that it has at the moment to what it
knows of its queries. In the backward pass they go around again, and take the gradients
by them along. No device ever holds more than two shards.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._blocks import Blocks, into_blocks, Tile
from ._blockwise import accumulate, finish, gradients, no_sums, Seeds
from ._inputs import Inputs
from ._visible import Rules


def ring(inputs: Inputs, size: int, axis_name: str) -> Float[Array, "heads q dim_v"]:
    """What [`blockwise`][] computes of the whole sequence, for the queries here."""
    blocks = into_blocks(inputs, size)
    floats, rest = eqx.partition(blocks, eqx.is_inexact_array)
    others, static = eqx.partition(rest, eqx.is_array)
    out, _ = _attention((axis_name, static), floats, others)
    return out[:, : inputs.q.shape[1]].astype(inputs.v.dtype)


def _primal(static, floats, others):
    axis_name, static = static
    blocks = eqx.combine(floats, others, static)

    def step(carry, _):
        sums, moving = carry
        sums = accumulate(_with(blocks, moving), sums)
        return (sums, _to_the_next(moving, axis_name)), None

    start = no_sums(blocks), _moving(blocks)
    count = jax.lax.axis_size(axis_name)
    (sums, _), _ = jax.lax.scan(step, start, length=count)
    return finish(sums)


_attention = jax.custom_vjp(_primal, nondiff_argnums=(0,))


def _forward(static, floats, others):
    out, normalizer = _attention(static, floats, others)
    return (out, normalizer), (floats, others, out, normalizer)


def _backward(static, residuals, cotangents):
    axis_name, static = static
    floats, others, out, normalizer = residuals
    floats, (d_out, d_normalizer) = _once((floats, cotangents))
    mean = jnp.sum(d_out * out, axis=-1) - d_normalizer
    seeds = Seeds(normalizer, d_out, mean)
    blocks = eqx.combine(floats, others, static)

    def step(carry, _):
        total, moving = carry
        found = gradients(_with(blocks, moving), seeds)
        total = jax.tree.map(jnp.add, total, found)
        total = _replace_keys(total, _to_the_next(_of_keys(total), axis_name))
        return (total, _to_the_next(moving, axis_name)), None

    zeros = jax.tree.map(lambda x: blocks.zeros(*x.shape).astype(x.dtype), floats.whole)
    count = jax.lax.axis_size(axis_name)
    (total, _), _ = jax.lax.scan(step, (zeros, _moving(blocks)), length=count)
    return eqx.tree_at(lambda blocks: blocks.whole, floats, total), None


_attention.defvjp(_forward, _backward)


@jax.custom_vjp
def _once(arrays):
    """The same, with words for those who differentiate what this is part of: loops over
    the tiles that there are cannot be reversed, which is all that JAX would say."""
    return arrays


def _twice(arrays):
    del arrays
    raise ValueError(
        "`axis_name` must be None for second derivatives, as a ring has first ones "
        "alone. Use `implementation='blockwise'` on one device."
    )


_once.defvjp(_twice, lambda residuals, cotangents: (cotangents,))


def _moving(blocks: Blocks):
    """What goes around."""
    return _of_keys(blocks.whole), blocks.rules.k_segments


def _with(blocks: Blocks, moving) -> Blocks:
    """The blocks, with what has come from another device."""
    keys, k_segments = moving
    rules = blocks.rules
    rules = Rules(None, rules.q_segments, k_segments, rules.causal, rules.reach)
    replaced = _replace_keys(blocks.whole, keys), rules
    return eqx.tree_at(lambda blocks: (blocks.whole, blocks.rules), blocks, replaced)


def _of_keys(tile: Tile):
    return tile.k, tile.v, tile.k_tokens


def _replace_keys(tile: Tile, keys) -> Tile:
    k, v, k_tokens = keys
    return Tile(tile.logits, tile.q, k, v, tile.q_tokens, k_tokens, None, tile.size)


def _to_the_next(tree, axis_name):
    count = jax.lax.axis_size(axis_name)
    ring = [(i, (i + 1) % count) for i in range(count)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axis_name, ring), tree)
