"""The kernels as functions of the inputs of attention."""

import math
from functools import partial
from types import ModuleType

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float

from ..._given import in_common
from ..._sharding import repeated
from .._inputs import Inputs
from ._how import How
from ._sizes import tile_of, width_of
from ._tiling import Given, LOG2_E


# The bound of distances between first tokens. It exceeds every window, and sums with
# indices fit into int32.
_FAR = 2**29


def _kernels(how) -> ModuleType:
    # A JAX without the part of Pallas for one platform may have the other part.
    if how.platform == "gpu":
        from . import _gpu as kernels
    else:
        from . import _tpu as kernels
    return kernels


def attended(
    how: How, inputs: Inputs, dtype: jnp.dtype
) -> tuple[Float[Array, "heads q dim_v"], Float[Array, "heads q"]]:
    """The attended values, of `dtype`, and the log-sum-exp of the logits."""
    tiles = _tiles(how, inputs)
    forward = partial(_kernels(how).forward, tiles, dtype=dtype)
    given = _given(inputs, how, tiles)
    out, normalizer = _on_each_device(how.shards, forward, _offset(inputs), given)
    count, dim_v = inputs.q.shape[1], inputs.v.shape[-1]
    return out[:, :count, :dim_v], normalizer[:, 0, :count] / LOG2_E


def gradients(how: How, inputs: Inputs, out, normalizer, cotangents) -> Inputs:
    """The gradients with respect to the float arrays of the inputs, from the results of
    `attended` and their cotangents."""
    d_out, d_normalizer = cotangents
    tiles = _tiles(how, inputs)
    f32 = jnp.float32
    mean = jnp.sum(d_out.astype(f32) * out.astype(f32), axis=-1) - d_normalizer
    row = lambda x: _filled(x, tiles.padded[0])[:, None]
    # The cotangents of padded queries are zeros, so their weights have no effect.
    seeds = row(normalizer * LOG2_E), row(mean)
    given, pull = eqx.filter_vjp(partial(_given, how=how, tiles=tiles), inputs)
    v = given.v
    d_out = _filled(d_out.astype(v.dtype), tiles.padded[0], v.shape[-1])
    backward = partial(_kernels(how).backward, tiles)
    found = _on_each_device(
        how.shards, backward, _offset(inputs), given, (d_out, *seeds)
    )

    def of_term(d_x, x):
        # Heads may share the vectors of distances.
        shared = x.shape[0] < d_x.shape[0]
        # Kernels differentiate logits in base e, and both terms are in base 2.
        d_x = d_x / LOG2_E
        return (d_x.sum(axis=0, keepdims=True) if shared else d_x).astype(x.dtype)

    terms = (
        [*map(of_term, *pair)] for pair in zip(found[-2:], given[-2:], strict=True)
    )
    return pull(Given(*found[:-2], *terms))[0]


def _on_each_device(shards, kernels, *arguments):
    """Calls the kernels of each device, which has some of the heads."""
    if shards is None:
        return kernels(*arguments)
    # A program is lowered where the same axes of the mesh may be Auto.
    context = jax.sharding.get_abstract_mesh()
    of_heads, whole = PartitionSpec(shards.axes), PartitionSpec()
    # All other arrays have one row for all heads.
    spec = lambda x: of_heads if x.shape[0] > 1 else whole
    return jax.shard_map(
        kernels,
        mesh=shards.mesh if context.empty else context,
        in_specs=jax.tree.map(spec, arguments),
        out_specs=of_heads,
        check_vma=False,
    )(*arguments)


def _tiles(how, inputs):
    logits, rules = inputs.logits, inputs.rules
    counts = inputs.q.shape[1], inputs.k.shape[1]
    sizes = tile_of(how.platform, inputs, how.block_size)
    # A GPU has tiles of other shapes in the backward pass.
    blocks = sizes if how.platform == "tpu" else (max(sizes),) * 2
    filled = lambda count, size: count + -count % size
    behind, ahead = rules.bounds
    return _kernels(how).Tiles(
        scale=logits.scale,
        soft_cap=logits.soft_cap,
        ahead=ahead,
        behind=behind,
        counts=counts,
        padded=(filled(counts[0], blocks[0]), filled(counts[1], blocks[1])),
        q=sizes[0],
        k=sizes[1],
        bias=logits.bias is not None,
        segments=rules.q_segments is not None,
        interpret=how.interpret,
    )


def _given(inputs, how, tiles) -> Given:
    # Every shard of heads has whole heads of keys.
    count = 1 if how.shards is None else how.shards.count
    q, k, v = inputs.q, inputs.k, inputs.v
    heads = math.lcm(k.shape[0], v.shape[0], count)
    k, v = (repeated(x, heads // x.shape[0]) for x in (k, v))
    width = lambda x: width_of(how.platform, x.shape[-1])
    of_q, of_k = tiles.padded
    q = _filled(q, of_q, width(q))
    k, v = (_filled(x, of_k, width(x)) for x in (k, v))
    terms = _strip(tiles, inputs), _band(tiles, inputs)
    return Given(q, k, v, _segments(tiles, inputs), *terms)


def _segments(tiles, inputs):
    segments = inputs.rules.q_segments, inputs.rules.k_segments
    return [
        _filled(ids.astype(jnp.int32)[None], size)
        for ids, size in zip(segments, tiles.padded, strict=True)
        if ids is not None
    ]


def _offset(inputs):
    """The distance from the first query to the first key."""
    if not inputs.rules.ordered:
        return jnp.zeros(1, jnp.int32)
    q, k = in_common(inputs.q_tokens.compared[0], inputs.k_tokens.compared[0])
    return jnp.clip(k - q, -_FAR, _FAR).astype(jnp.int32)[None]


def _strip(tiles, inputs):
    """The bias of each distance of padded tokens, in base 2, or nothing."""
    if inputs.logits.bias is None:
        return []
    values = inputs.logits.strip(inputs.q_tokens, inputs.k_tokens)
    before, after = (n - m for n, m in zip(tiles.padded, tiles.counts, strict=True))
    padded = jnp.pad(values, ((0, 0), (before + 1, after)))
    return [(padded * LOG2_E)[:, None]]


def _band(tiles, inputs):
    """The score by distance of padded tokens, in base 2, or nothing."""
    score = inputs.logits.by_distance(inputs.q_tokens, inputs.k_tokens)
    if score is None:
        return []
    first = score.first - tiles.padded[0]
    vectors = score.vectors(first + jnp.arange(tiles.places, dtype=first.dtype))
    if vectors.ndim == 2:
        vectors = vectors[None]
    x, of_keys = (LOG2_E * x for x in (score.queries, score.of_keys))
    x = _filled(x.astype(inputs.q.dtype), tiles.padded[0], x.shape[-1])
    of_keys = _filled(of_keys.astype(jnp.float32), tiles.padded[1])[:, None]
    return [x, vectors.astype(x.dtype), of_keys]


def _filled(x, *sizes):
    """Pads the axes after the first one."""
    widths = [(0, 0), *((0, n - m) for n, m in zip(sizes, x.shape[1:], strict=True))]
    return jnp.pad(x, widths)
