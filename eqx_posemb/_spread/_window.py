"""Expands a table of differences between cells to all pairs of a window.

A window of h by w cells has h²w² pairs and (2h − 1)(2w − 1) differences. If queries and
keys are the cells of the window in order, the bias of a query is a slice of the table.
The gradient sums these slices.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .._positions import distance
from ._look_up import look_up
from ._toeplitz import by_rotation


Window = tuple[int, int]


def is_window_long(window: Window, q: Int[Array, "q 2"]) -> bool:
    return q.shape[0] == window[0] * window[1] > 1


def are_the_window(
    window: Window, q: Int[Array, "q 2"], k: Int[Array, "k 2"]
) -> bool | Bool[Array, ""]:
    """Whether queries and keys are all cells of one window in order. The answer is a
    `bool` if it is known at trace time."""
    grid = jnp.stack(jnp.unravel_index(jnp.arange(q.shape[0]), window), axis=-1)
    same = jnp.all(q == k) & jnp.all(q - q[:1] == grid.astype(q.dtype))
    return same if isinstance(same, Tracer) else bool(same)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def of_window(
    differences: Float[Array, "heads rows columns"], window: Window
) -> Float[Array, "heads q k"]:
    """The bias of all pairs of cells of the window in order, from slices of the
    table."""
    # Without the barrier XLA would evaluate the table for each pair.
    return jax.lax.platform_dependent(
        jax.lax.optimization_barrier(differences),
        tpu=partial(by_axis, window=window),
        default=partial(by_slices, window=window),
    )


def by_slices(differences: Float[Array, "heads rows columns"], window: Window):
    # The host computes the starts, as the window is static.
    (height, width), heads = window, differences.shape[0]
    head, row, column = np.indices((heads, height, width)).reshape(3, -1)
    starts = np.stack([head, height - 1 - row, width - 1 - column], axis=-1)
    # The rows and the columns of a query's window are one slice each.
    slices = jax.lax.gather(
        differences,
        jnp.asarray(starts, jnp.int32),
        jax.lax.GatherDimensionNumbers(
            offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1, 2)
        ),
        (1, height, width),
        unique_indices=True,
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return slices.reshape(heads, height * width, height * width)


def by_axis(differences: Float[Array, "heads rows columns"], window: Window):
    """Expands columns and then rows, as a TPU gathers slices in a loop of heads ×
    queries trips."""
    (height, width), (heads, rows, columns) = window, differences.shape
    each = by_rotation(differences.reshape(heads * rows, columns), width)
    each = each.reshape(heads, rows, width, width).swapaxes(1, 2)
    # Rows and columns of keys are one axis, as a TPU pads a short last axis.
    flat = each.reshape(heads, width, rows * width)
    starts = [row * width for row in reversed(range(height))]
    pairs = [flat[:, :, start : start + height * width] for start in starts]
    return jnp.stack(pairs, axis=1).reshape(heads, height * width, height * width)


def _forward(differences, window):
    return of_window(differences, window), None


def _backward(window, residuals, gradient):
    del residuals
    height, width = window
    heads = gradient.shape[0]
    pairs = gradient.reshape(heads, height, width, height * width)
    # The first sum runs over the rows of queries, and leaves [heads, columns of
    # queries, rows and columns of keys]. The second sum runs over their columns.
    rows = _add_slices(pairs, 2 * height - 1, width)
    columns = rows.reshape(heads, width, 2 * height - 1, width)
    return (_add_slices(columns, 2 * width - 1, 1),)


of_window.defvjp(_forward, _backward)


def _add_slices(parts, places, size):
    """The sum of all `parts[:, i]` in zeros with so many places of a size on the last
    axis, each one place before the previous one."""
    count = parts.shape[1]

    def add(i, total):
        start = [0, 0, (count - 1 - i) * size]
        part = jax.lax.dynamic_index_in_dim(parts, i, axis=1, keepdims=False)
        before = jax.lax.dynamic_slice(total, start, part.shape)
        return jax.lax.dynamic_update_slice(total, before + part, start)

    zeros = jnp.zeros((parts.shape[0], parts.shape[2], places * size), parts.dtype)
    return jax.lax.fori_loop(0, count, add, zeros)


def of_differences(
    differences: Float[Array, "heads rows columns"],
    window: Window,
    q: Int[Array, "q 2"],
    k: Int[Array, "k 2"],
) -> Float[Array, "heads q k"]:
    """The bias of arbitrary pairs, with a lookup for each pair."""
    delta, (rows, columns) = distance(q, k), differences.shape[1:]
    row = jnp.clip(delta[..., 0] + window[0] - 1, 0, rows - 1)
    column = jnp.clip(delta[..., 1] + window[1] - 1, 0, columns - 1)
    flat = differences.reshape(-1, 1, rows * columns)
    pairs = look_up(flat, (row * columns + column).reshape(1, -1))
    # Zero pairs do not tell the number of heads.
    return pairs.reshape(len(flat), *delta.shape[:2])
