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
from ._banded import skew


_LANES = 128


def toeplitz(
    values: Float[Array, "heads distances"], q: int
) -> Float[Array, "heads {q} k"]:
    """Row `i` is the slice of the values that starts at `q - 1 - i`."""
    # XLA would fuse the function of the distance into its uses, and evaluate it for
    # each pair. A TPU gathers slices in a loop of heads × queries trips.
    values = jax.lax.optimization_barrier(values)
    return jax.lax.platform_dependent(
        values,
        tpu=lambda values: by_rotation(values, q),
        default=lambda values: by_slices(values, q),
    )


def by_rotation(values: Float[Array, "heads distances"], q: int):
    """Rows by rotations. Each rotation doubles the number of rows, up to the 128 lanes
    of a register. Every further 128 rows are slices that start at whole lanes."""
    heads, distances = values.shape
    if not (isinstance(q, int) and isinstance(distances, int)):
        return skew(jnp.broadcast_to(values[:, None], (heads, q, distances)))
    count = min(_LANES, 1 << (q - 1).bit_length())
    filled = -(-q // count) * count
    rows = jnp.pad(values, ((0, 0), (filled - q, 1)))[:, None]
    rows = jnp.roll(rows, 1 - count, axis=2)
    while rows.shape[1] < count:
        rows = jnp.concatenate([rows, jnp.roll(rows, rows.shape[1], axis=2)], axis=1)
    k = distances - q + 1
    starts = range(filled - count, -1, -count)
    parts = [rows[:, :, start : start + k] for start in starts]
    return jnp.concatenate(parts, axis=1)[:, :q]


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
    return jax.lax.platform_dependent(rows, cpu=row_by_row, default=block_by_block)


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


def block_by_block(
    rows: Float[Array, "heads q k"], size: int = 128
) -> Float[Array, "heads distances"]:
    heads, q, k = rows.shape
    total = _zeros(rows, heads, q + k - 1)

    def add(first, count, total):
        block = jax.lax.dynamic_slice(rows, (0, first, 0), (heads, count, k))
        # In rows that are one entry shorter, each row starts one entry further right
        # than the row above.
        wide = k + count - 1
        padded = jnp.pad(block[:, ::-1], ((0, 0), (0, 0), (0, count)))
        flat = padded.reshape(heads, -1)[:, : count * wide]
        sums = jnp.sum(flat.reshape(heads, count, wide), axis=1, dtype=total.dtype)
        return _add_at(total, q - first - count, sums)

    size = min(size, q)
    whole = q // size
    total = jax.lax.fori_loop(0, whole, lambda i, t: add(i * size, size, t), total)
    if q % size:
        total = add(whole * size, q % size, total)
    return total.astype(rows.dtype)


def _zeros(rows, *shape):
    # The carry must vary over devices like the rows, under `shard_map`.
    return jnp.zeros_like(rows, shape=shape, dtype=computing_dtype(rows.dtype))


def _add_at(total, start, values):
    before = jax.lax.dynamic_slice(total, (0, start), values.shape)
    after = before + values.astype(total.dtype)
    return jax.lax.dynamic_update_slice(total, after, (0, start))
