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
    # The host computes the starts, as the window is static.
    (height, width), heads = window, differences.shape[0]
    row, column = np.indices(window).reshape(2, -1)
    starts = np.stack([height - 1 - row, width - 1 - column], axis=-1)
    starts = np.concatenate(
        [
            np.repeat(np.arange(heads), len(starts))[:, None],
            np.tile(starts, (heads, 1)),
        ],
        axis=-1,
    )
    # The rows and the columns of a query's window are one slice each. Without the
    # barrier XLA would evaluate the table for each pair.
    slices = jax.lax.gather(
        jax.lax.optimization_barrier(differences),
        jnp.asarray(starts, jnp.int32),
        jax.lax.GatherDimensionNumbers(
            offset_dims=(1, 2), collapsed_slice_dims=(0,), start_index_map=(0, 1, 2)
        ),
        (1, height, width),
        unique_indices=True,
        mode=jax.lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )
    return slices.reshape(heads, row.size, row.size)


def _forward(differences, window):
    return of_window(differences, window), None


def _backward(window, residuals, gradient):
    del residuals
    height, width = window
    heads = gradient.shape[0]
    pairs = gradient.reshape(heads, height, width, height, width)
    # The first sum runs over the rows of queries, and leaves [heads, columns of
    # queries, rows, columns of keys]. The second sum runs over their columns.
    rows = _add_slices(pairs, (heads, width, 2 * height - 1, width), axis=2)
    return (_add_slices(rows, (heads, 2 * height - 1, 2 * width - 1), axis=2),)


of_window.defvjp(_forward, _backward)


def _add_slices(parts, shape, axis):
    """The sum of all `parts[:, i]` in zeros of `shape`, each one entry before the
    previous one."""
    count = parts.shape[1]

    def add(i, total):
        start = [0] * len(shape)
        start[axis] = count - 1 - i
        part = jax.lax.dynamic_index_in_dim(parts, i, axis=1, keepdims=False)
        before = jax.lax.dynamic_slice(total, start, part.shape)
        return jax.lax.dynamic_update_slice(total, before + part, start)

    return jax.lax.fori_loop(0, count, add, jnp.zeros(shape, parts.dtype))


def of_differences(
    differences: Float[Array, "heads rows columns"],
    window: Window,
    q: Int[Array, "q 2"],
    k: Int[Array, "k 2"],
) -> Float[Array, "heads q k"]:
    """The bias of arbitrary pairs, with a lookup for each pair."""
    delta = distance(q, k)
    row, column = (delta[..., axis] + window[axis] - 1 for axis in (0, 1))
    return differences.at[:, row, column].get(mode="clip")
