"""The kernels as functions of the inputs of attention."""

import dataclasses
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..._given import in_common
from ..._sharding import repeated
from .._inputs import Inputs
from ._backward import backward_keys, backward_queries
from ._forward import forward
from ._sizes import block, keeps
from ._tiles import Given, LOG2_E, Tiles


# The bound of distances between first tokens. It exceeds every window, and sums with
# indices fit into int32.
_FAR = 2**29


class Settings(NamedTuple):
    """The settings of a call of the kernels."""

    block_size: int | None
    interpret: bool


def attended(
    settings: Settings, inputs: Inputs, dtype: jnp.dtype
) -> tuple[Float[Array, "heads q dim_v"], Float[Array, "heads q"]]:
    """The attended values, of `dtype`, and the log-sum-exp of the logits."""
    tiles = _tiles(settings, inputs)
    q, k, v = _whole_blocks(tiles, inputs.q, inputs.k, inputs.v)
    strip = [] if inputs.logits.bias is None else [_strip(tiles, inputs, inputs.logits)]
    given = Given(_offset(inputs), q, k, v, _segments(tiles, inputs), strip)
    out, normalizer = forward(tiles, given, dtype)
    count = tiles.q_count
    return out[:, :count], normalizer[:, 0, :count] / LOG2_E


def gradients(
    settings: Settings, inputs: Inputs, out, normalizer, cotangents
) -> Inputs:
    """The gradients with respect to the float arrays of the inputs, from the results of
    `attended` and their cotangents."""
    d_out, d_normalizer = cotangents
    tiles = _tiles(settings, inputs)
    f32 = jnp.float32
    mean = jnp.sum(d_out.astype(f32) * out.astype(f32), axis=-1) - d_normalizer
    row = lambda x: _filled(x, tiles.rows * tiles.q, 1)[:, None]
    d_out = _filled(d_out.astype(inputs.v.dtype), tiles.rows * tiles.q, 1)
    # The cotangents of padded queries are zeros, so their weights have no effect.
    seeds = d_out, row(normalizer * LOG2_E), row(mean)
    (q, k, v), pull = jax.vjp(
        partial(_whole_blocks, tiles), inputs.q, inputs.k, inputs.v
    )
    strip, pull_strip = [], None
    if inputs.logits.bias is not None:
        of_logits = partial(_strip, tiles, inputs)
        x, pull_strip = eqx.filter_vjp(of_logits, inputs.logits)
        strip.append(x)
    given = Given(_offset(inputs), q, k, v, _segments(tiles, inputs), strip)
    d_q, *d_strip = backward_queries(tiles, given, seeds)
    # Each block of keys visits the strips of several heads, so none is kept.
    passing = dataclasses.replace(tiles, keep=False)
    d_k, d_v = backward_keys(passing, given, seeds)
    # Leaves that no kernel reads, such as float positions, have zero gradients.
    found = jax.tree.map(jnp.zeros_like, eqx.filter(inputs, eqx.is_inexact_array))
    found = eqx.tree_at(lambda x: (x.q, x.k, x.v), found, pull((d_q, d_k, d_v)))
    if pull_strip is None:
        return found
    # Kernels differentiate logits in base e, and `_strip` has multiplied by log2(e).
    (d_logits,) = pull_strip(d_strip[0] / LOG2_E)
    return eqx.tree_at(lambda x: x.logits, found, d_logits)


def _tiles(settings, inputs):
    logits, rules = inputs.logits, inputs.rules
    q_count, k_count = inputs.q.shape[1], inputs.k.shape[1]
    q, k = (block(count, settings.block_size) for count in (q_count, k_count))
    behind, ahead = rules.reach or (None, None)
    if rules.causal:
        ahead = 0
    places = -(-q_count // q) * q + -(-k_count // k) * k
    return Tiles(
        scale=logits.scale,
        soft_cap=logits.soft_cap,
        ahead=ahead,
        behind=behind,
        q_count=q_count,
        k_count=k_count,
        q=q,
        k=k,
        bias=logits.bias is not None,
        segments=rules.q_segments is not None,
        keep=keeps(places),
        interpret=settings.interpret,
    )


def _whole_blocks(tiles, q, k, v):
    heads = max(k.shape[0], v.shape[0])
    k, v = (repeated(x, heads // x.shape[0]) for x in (k, v))
    q = _filled(q, tiles.rows * tiles.q, 1)
    return q, *(_filled(x, tiles.columns * tiles.k, 1) for x in (k, v))


def _segments(tiles, inputs):
    q, k = inputs.rules.q_segments, inputs.rules.k_segments
    if q is None or k is None:
        return []
    sizes = tiles.rows * tiles.q, tiles.columns * tiles.k
    return [
        _filled(ids.astype(jnp.int32), size, 0)[None]
        for ids, size in zip((q, k), sizes, strict=True)
    ]


def _offset(inputs):
    """The distance from the first query to the first key."""
    if not inputs.rules.ordered:
        return jnp.zeros(1, jnp.int32)
    q, k = (tokens.compared[0] for tokens in (inputs.q_tokens, inputs.k_tokens))
    q, k = in_common(q, k)
    return jnp.clip(k - q, -_FAR, _FAR).astype(jnp.int32)[None]


def _strip(tiles, inputs, logits):
    """The bias of each distance of padded tokens, in base 2."""
    values = logits.strip(inputs.q_tokens, inputs.k_tokens)
    before = tiles.rows * tiles.q - tiles.q_count + 1
    after = tiles.columns * tiles.k - tiles.k_count
    padded = jnp.pad(values, ((0, 0), (before, after)))
    return (padded * LOG2_E)[:, None]


def _filled(x, size, axis):
    widths = [(0, size - x.shape[axis] if i == axis else 0) for i in range(x.ndim)]
    return jnp.pad(x, widths) if size > x.shape[axis] else x
