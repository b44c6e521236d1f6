"""Toeplitz matrices, whose entries depend on the distance, and their transpose.

The function is evaluated once for each distance, and every row is a slice of its
values. The gradient adds each row to the place of its slice. Neither pass stores an
index or a gradient for each pair.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._phase import computing_dtype
from .._symbolic import is_less
from ._banded import block_of, skew, unskew, windows


def toeplitz(
    values: Float[Array, "heads distances"], q: int
) -> Float[Array, "heads {q} k"]:
    """Row `i` is the slice of the values that starts at `q - 1 - i`."""
    # XLA would fuse the function of the distance into its uses, and evaluate it for
    # each pair. A TPU gathers slices in a loop of heads × queries trips. Where the rows
    # are fused into their uses, it takes up to 1.6 times as many cycles.
    barrier = jax.lax.optimization_barrier
    values = barrier(values)
    return jax.lax.platform_dependent(
        values,
        tpu=lambda values: barrier(by_rotation(values, q)),
        default=lambda values: by_slices(values, q),
    )


def by_rotation(values: Float[Array, "heads distances"], q: int):
    """Rows by rotations. Each rotation doubles the number of rows, up to the 128 lanes
    of a register. Every further 128 rows are slices that start at whole lanes."""
    heads, distances = values.shape
    if not (isinstance(q, int) and isinstance(distances, int)):
        return skew(jnp.broadcast_to(values[:, None], (heads, q, distances)))
    count = block_of(q)
    blocks, k = -(-q // count), distances - q + 1
    before = blocks * count - q
    rows = jnp.pad(values, ((0, 0), (before, 1)))[:, None]
    rows = jnp.roll(rows, 1 - count, axis=2)
    while rows.shape[1] < count:
        rows = jnp.concatenate([rows, jnp.roll(rows, rows.shape[1], axis=2)], axis=1)
    each = -(-k // count)
    places = (blocks + each - 1) * count
    groups = rows[..., :places].reshape(heads, count, -1, count).swapaxes(1, 2)
    rows = windows(groups, blocks).swapaxes(2, 3)
    return rows.reshape(heads, blocks * count, each * count)[:, :q, :k]


def by_slices(values: Float[Array, "heads distances"], q: int):
    heads, distances = values.shape
    # The barrier prevents XLA from fusing the concatenation into the slices. Otherwise
    # XLA would evaluate the function of the distance for each pair.
    # One more place per head lets all heads share one flat array.
    values = jnp.concatenate([values, values[:, :1]], axis=1)
    flat = jax.lax.optimization_barrier(values).ravel()
    starts = jnp.arange(heads)[:, None] * (distances + 1)
    starts = starts + (q - 1 - jnp.arange(q))[None]
    # Slices of one axis. Slices of two axes have the queries first, and need a copy.
    slices = jax.lax.GatherDimensionNumbers(
        offset_dims=(2,), collapsed_slice_dims=(), start_index_map=(0,)
    )
    return jax.lax.gather(
        flat,
        starts[..., None],
        slices,
        (distances - q + 1,),
        unique_indices=True,
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


def toeplitz_transpose(
    rows: Float[Array, "heads q k"],
) -> Float[Array, "heads distances"]:
    """The sums along the diagonals: the transpose of [`toeplitz`][]."""
    # On a CPU, adding row by row in place is fastest: blocks took six times as long. On
    # an accelerator, a loop over rows would be thousands of small steps.
    # Symbolic sizes cannot be cut into blocks.
    if not all(isinstance(size, int) for size in rows.shape):
        return row_by_row(rows)
    return jax.lax.platform_dependent(rows, cpu=row_by_row, default=in_blocks)


def row_by_row(
    rows: Float[Array, "heads q k"], long: int = 1024
) -> Float[Array, "heads distances"]:
    heads, q, k = rows.shape

    def of_heads(first, count):
        def add(i, total):
            row = jax.lax.dynamic_slice(rows, (first, i, 0), (count, 1, k))[:, 0]
            return _add_at(total, q - 1 - i, row)

        total = _zeros(rows, count, q + k - 1)
        unroll = 8 if isinstance(q, int) else 1
        return jax.lax.fori_loop(0, q, add, total, unroll=unroll)

    # The sums of one head stay in the first-level cache, which saves a third of the
    # time for long rows. For short rows the steps dominate.
    if is_less(k, long):
        total = of_heads(0, heads)
    else:
        total = jax.lax.map(lambda head: of_heads(head, 1)[0], jnp.arange(heads))
    return total.astype(rows.dtype)


def in_blocks(rows: Float[Array, "heads q k"]) -> Float[Array, "heads distances"]:
    """First the diagonals of each block of queries, and then the sums of blocks. A
    compiler that shards the queries exchanges sums of blocks alone."""
    heads, q, k = rows.shape
    size = block_of(q)
    blocks = -(-q // size)
    before = blocks * size - q
    rows = jnp.pad(rows, ((0, 0), (0, before), (0, 0)))
    dtype = computing_dtype(rows.dtype)
    sums = unskew(rows.reshape(heads, blocks, size, k)).sum(2, dtype=dtype)
    total = unskew(sums, step=size).sum(1)
    return total[:, before : before + q + k - 1].astype(rows.dtype)


def _zeros(rows, *shape):
    # The carry must vary over devices like the rows, under `shard_map`.
    return jnp.zeros_like(rows, shape=shape, dtype=computing_dtype(rows.dtype))


def _add_at(total, start, values):
    before = jax.lax.dynamic_slice(total, (0, start), values.shape)
    after = before + values.astype(total.dtype)
    return jax.lax.dynamic_update_slice(total, after, (0, start))
