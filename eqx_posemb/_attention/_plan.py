"""The plan of tiles: which tiles are computed, and which tiles share a bias."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._positions import distance
from ._inputs import Inputs


class Plan(NamedTuple):
    """Tiles in groups. The tiles of a group have equal distances, so they share a
    relative bias. Tiles without masked keys come first."""

    # Compiled programs have static shapes, so lists have an entry for every tile, and
    # counts tell which entries are used.
    rows: Int[Array, " tiles"]
    columns: Int[Array, " tiles"]
    starts: Int[Array, " tiles+1"]
    """The first tile of each group, followed by the end of the last group."""
    masked: Int[Array, " tiles"]
    """The start of the partly masked tiles in each group."""
    groups: Int[Array, ""]


def plan(inputs: Inputs, size: int, q_count: int, k_count: int) -> Plan:
    """Plans the tiles from the positions, segments and masks of blocks.

    **Arguments:**

    - `inputs`: the inputs, padded to whole blocks.
    - `size`: the number of tokens of a block.
    - `q_count`, `k_count`: the numbers of tokens before the padding.
    """
    q, k, logits = inputs.q_tokens, inputs.k_tokens, inputs.logits
    q_positions, k_positions = _cut(q.positions, size), _cut(k.positions, size)
    rows, columns = q_positions.shape[0], k_positions.shape[0]
    some, every = _extent(_cut(q.compared, size), _cut(k.compared, size), inputs.rules)
    whole_rows = jnp.arange(1, rows + 1) * size <= q_count
    whole_columns = jnp.arange(1, columns + 1) * size <= k_count
    # Tiles with padding always take the loop with masks, which hides the padding.
    every &= whole_rows[:, None] & whole_columns[None]
    # Rounding makes equal distances of float positions unequal, so such tiles share no
    # bias.
    integers = all(
        jnp.issubdtype(p.dtype, jnp.integer) for p in (q_positions, k_positions)
    )
    if not (logits.relative and integers):
        return _arrange(some, every, None)
    # The distance of the first tokens and the steps inside of both blocks determine all
    # distances of a tile.
    offsets = distance(q_positions[:, 0], k_positions[:, 0])
    shapes = (
        _alike(q_positions, logits.by_position(q)),
        _alike(k_positions, logits.by_position(k)),
    )
    return _arrange(some, every, (*shapes, offsets.reshape(rows, columns, -1)))


def _extent(q_order, k_order, rules):
    """For each tile, whether some pairs may be unmasked, and whether all pairs are.

    It reads the extremes of each block, so it may keep a fully masked tile.
    """
    shape, size = (q_order.shape[0], k_order.shape[0]), q_order.shape[1]
    some, every = jnp.ones(shape, bool), jnp.ones(shape, bool)
    if rules.ordered:
        # The smallest and the largest distance of a tile decide for all of its pairs.
        nearest = distance(q_order.max(1), k_order.min(1))
        furthest = distance(q_order.min(1), k_order.max(1))
        back, ahead = rules.bounds
        if ahead is not None:
            some &= nearest <= ahead
            every &= furthest <= ahead
        if back is not None:
            some &= furthest >= -back
            every &= nearest >= -back
    if rules.q_segments is not None and rules.k_segments is not None:
        q, k = _cut(rules.q_segments, size), _cut(rules.k_segments, size)
        q_low, q_high = q.min(1)[:, None], q.max(1)[:, None]
        k_low, k_high = k.min(1)[None], k.max(1)[None]
        some &= (q_low <= k_high) & (k_low <= q_high)
        # Both equalities make all ids of the tile equal, since no lower end exceeds its
        # upper end.
        every &= (q_low == k_high) & (k_low == q_high)
    if rules.mask is not None:
        # Heads share the loops, so a tile is skipped only if every head masks it.
        mask = rules.mask.reshape(-1, shape[0], size, shape[1], size)
        some &= mask.any((0, 2, 4))
        every &= mask.all((0, 2, 4))
    return some, every


def _cut(x, size):
    x = jnp.asarray(x)
    return x.reshape(-1, size, *x.shape[1:])


def _alike(positions, exceptions):
    """Whether two blocks have equal positions but for a shift, for all pairs of blocks.
    A block with exceptions is alike to itself only."""
    steps = positions - positions[:, :1]
    inside = tuple(range(2, positions.ndim + 1))
    alike = jnp.all(steps[:, None] == steps[None], axis=inside)
    if exceptions is None:
        return alike
    own = exceptions.reshape(*positions.shape[:2]).any(1)
    return alike & (jnp.eye(own.size, dtype=bool) | ~(own[:, None] | own[None]))


# With batched bounds, JAX selects the whole carry in each step of a loop. The rule
# below keeps the bounds unbatched.
@jax.custom_batching.custom_vmap
def _arrange(
    some: Bool[Array, "rows columns"],
    every: Bool[Array, "rows columns"],
    shared: tuple[Array, Array, Array] | None,
) -> Plan:
    rows, columns = some.shape
    tiles = rows * columns
    tile = jnp.arange(tiles, dtype=jnp.int32)
    row, column = tile // columns, tile % columns
    if shared is None:
        keys = [tile]
    else:
        q_alike, k_alike, offsets = shared
        # The index of the first block with equal steps represents all such blocks.
        shapes = jnp.argmax(q_alike, 1)[row], jnp.argmax(k_alike, 1)[column]
        keys = [*shapes, *offsets.reshape(tiles, -1).T]
    skipped, partly = ~some.ravel(), ~every.ravel()
    # The last key sorts first: skipped tiles go to the end, groups stay together, and
    # unmasked tiles lead each group.
    order = jnp.lexsort([partly, *keys, skipped])
    count = jnp.sum(some, dtype=jnp.int32)
    changes = jnp.zeros(tiles, bool).at[0].set(True)
    for key in keys:
        key = key[order]
        changes |= jnp.concatenate([jnp.ones(1, bool), key[1:] != key[:-1]])
    # Skipped tiles at the end belong to no group.
    changes &= tile < count
    # Sorting moves the starts of groups to the front of an array with a static length.
    starts = jnp.sort(jnp.where(changes, tile, count))
    starts = jnp.concatenate([starts, count[None]])
    # Differences of a cumulative sum count the unmasked tiles of every group without a
    # loop.
    whole = jnp.cumsum(~partly[order], dtype=jnp.int32)
    before = jnp.concatenate([jnp.zeros(1, jnp.int32), whole])
    masked = starts[:-1] + before[starts[1:]] - before[starts[:-1]]
    groups = jnp.sum(changes, dtype=jnp.int32)
    return Plan(row[order], column[order], starts, masked, groups)


@_arrange.def_vmap
def _arrange_batch(axis_size, in_batched, some, every, shared):
    """One plan for all examples of a batch, so that loops have equal bounds. A tile is
    skipped, unmasked or shared if this holds in all examples."""
    del axis_size
    if in_batched[0]:
        some = some.any(0)
    if in_batched[1]:
        every = every.all(0)
    if shared is not None:
        q_alike, k_alike, offsets = shared
        q_batched, k_batched, offsets_batched = in_batched[2]
        q_alike = q_alike.all(0) if q_batched else q_alike
        k_alike = k_alike.all(0) if k_batched else k_alike
        if offsets_batched:
            # Examples that differ by a shift share the tiles of the first example.
            # Other examples share no tiles.
            shifts = offsets - offsets[:, :1, :1]
            common = jnp.all(shifts == shifts[:1])
            each = jnp.arange(some.size).reshape(*some.shape, 1).astype(offsets.dtype)
            offsets = jnp.where(common, shifts[0], each)
        shared = (q_alike, k_alike, offsets)
    plan = _arrange(some, every, shared)
    return plan, jax.tree.map(lambda _: False, plan)
