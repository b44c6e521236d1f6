"""Attention of a few heads at a time, whose logits fit into a CPU's caches."""

import math
from collections.abc import Callable

import equinox as eqx
import jax
from jaxtyping import Array, PyTree

from ._blocks import Blocks
from ._choose import head_groups


def by_parts(
    function: Callable[..., PyTree[Array]],
    together: Callable[[PyTree[Array]], PyTree[Array]],
    blocks: Blocks,
    *more: PyTree[Array],
) -> PyTree[Array]:
    """Calls `function(blocks, *more)` at once, or for one group of heads at a time.

    **Arguments:**

    - `function`: a function of blocks and of further arrays with a first axis of heads.
    - `together`: joins results of all groups, which have a first axis of groups.
    - `blocks`, `more`: the arguments for all heads.
    """
    # A group holds whole heads of keys and of values, so the number of groups divides
    # both numbers of heads.
    kv_heads = math.gcd(blocks.k.shape[0], blocks.v.shape[0])
    parts = head_groups(blocks.q.shape[0], kv_heads, blocks.size)
    # A bias or a score is evaluated for all heads together.
    if parts == 1 or not blocks.logits.bare:
        return function(blocks, *more)
    each, common = eqx.partition(blocks, of_heads(blocks))
    of_some = lambda some: function(eqx.combine(some[0], common), *some[1])
    split = lambda x: x.reshape(parts, -1, *x.shape[1:])
    # `jax.lax.platform_dependent` takes arrays as arguments, so both branches close
    # over static leaves.
    arrays, static = eqx.partition((each, more), eqx.is_array)

    def one_after_another(arrays):
        some = eqx.combine(arrays, static)
        return together(jax.lax.map(of_some, jax.tree.map(split, some)))

    def at_once(arrays):
        return of_some(eqx.combine(arrays, static))

    # Only a CPU has caches that hold the logits of some heads.
    return jax.lax.platform_dependent(arrays, cpu=one_after_another, default=at_once)


def of_heads(blocks: Blocks) -> Blocks:
    """True for the arrays that have heads first, and False for all others."""
    band, mask = blocks.band, blocks.rules.mask

    def each(blocks):
        yield from (blocks.q, blocks.k, blocks.v)
        if band is not None:
            yield from blocks.band[:2]
            # One head of vectors serves all heads.
            if band.vectors.shape[0] > 1:
                yield blocks.band.vectors
        # A mask without heads serves every group as a whole.
        if mask is not None and mask.ndim == 3:
            yield blocks.rules.mask

    chosen = jax.tree.map(lambda _: False, blocks)
    return eqx.tree_at(lambda x: [*each(x)], chosen, replace_fn=lambda _: True)
