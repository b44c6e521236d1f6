"""Spreading a table of differences between cells over all pairs of a window.

A window of h by w cells has h²w² pairs, and (2h − 1)(2w − 1) differences. Where queries
and keys are the cells of the window in order, the bias of a query is a slice of the
bias of those, and the gradient adds the slices up again: nothing is looked up, and
nothing scattered, for each pair.
"""

import abc
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, Int

from .._checks import check_grid, check_integers
from .._phase import in_common
from .._positions import distance
from .._runs import either
from ._abstract import AbstractBias


Window = tuple[int, int]


class AbstractWindowBias(AbstractBias):
    """A bias of the difference between two cells of a window, looked up in a table.

    A subclass says what the bias of each difference is, and has here that of each pair.
    Where queries and keys are all cells of the window in order, as they mostly are,
    that takes one evaluation for each difference and no look-up for each pair, forward
    or backward; any other cells are right as well. Which of the two it is is decided
    when it runs. Cells further apart than the window is wide raise an error.

    Gradients are there to any order, but not in forward mode (`jax.jvp`).
    """

    @property
    @abc.abstractmethod
    def window(self) -> Window:
        """The height and the width of the window, in cells."""

    @abc.abstractmethod
    def differences(self) -> Float[Array, "heads rows columns"]:
        """What to add to the logits for each difference, key minus query, from
        `-(height - 1)` to `height - 1` rows and `-(width - 1)` to `width - 1` columns,
        in at least float32."""

    def __call__(
        self, q_positions: Int[Array, "q 2"], k_positions: Int[Array, "k 2"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: row and column of each query, integers.
        - `k_positions`: row and column of each key, integers.

        **Returns:**

        What to add to the logits of each pair.

        **Raises:** a `ValueError` if positions are not integers or not two to a token;
        an error at run time if a key is further from a query than the window is wide.
        """
        with jax.named_scope(f"eqx_posemb.{type(self).__name__}"):
            q, k = cells(q_positions, k_positions)
            every = jnp.ones(q.shape[0], bool), jnp.ones(k.shape[0], bool)
            k = within(self.window, q, k, *every, type(self).__name__)
            of_pairs = lambda: of_differences(self.differences(), self.window, q, k)
            if q.shape[0] != k.shape[0] or not is_window_long(self.window, q):
                return of_pairs()
            return either(
                are_the_window(self.window, q, k),
                lambda: of_window(self.differences(), self.window),
                of_pairs,
            )


def cells(
    q_positions: Int[Array, "q 2"], k_positions: Int[Array, "k 2"]
) -> list[Int[Array, "seq 2"]]:
    """Both in one dtype, once they are known to be rows and columns."""
    for name, positions in ("q", q_positions), ("k", k_positions):
        check_grid(f"{name}_positions", positions, 2)
        check_integers(f"{name}_positions", positions, "to look differences up with")
    return in_common(q_positions, k_positions)


def within(
    window: Window,
    q: Int[Array, "q 2"],
    k: Int[Array, "k 2"],
    q_counts: Bool[Array, " q"],
    k_counts: Bool[Array, " k"],
    name: str,
) -> Int[Array, "k 2"]:
    """The keys, unless one that counts is too far from a query that does."""
    end = jnp.iinfo(q.dtype).max
    # The extremes of each axis, in place of every pair.
    low = lambda p, counts: jnp.min(jnp.where(counts[:, None], p, end), 0, initial=end)
    high = lambda p, counts: -low(-p, counts)
    size = jnp.array(window, q.dtype)
    some = q_counts.any() & k_counts.any()
    apart = jnp.maximum(
        high(k, k_counts) - low(q, q_counts), high(q, q_counts) - low(k, k_counts)
    )
    return eqx.error_if(
        k,
        some & (apart >= size).any(),
        "`q_positions` and `k_positions` must be less than "
        f"{window[0]} rows and {window[1]} columns apart, to have a place in the table "
        f"of this `{name}`. Resize it, or attend within windows.",
    )


def is_window_long(window: Window, q: Int[Array, "q 2"]) -> bool:
    return q.shape[0] == window[0] * window[1] > 1


def are_the_window(
    window: Window, q: Int[Array, "q 2"], k: Int[Array, "k 2"]
) -> bool | Bool[Array, ""]:
    """Whether both are all cells of one window in order; now, if known now."""
    grid = jnp.stack(jnp.unravel_index(jnp.arange(q.shape[0]), window), axis=-1)
    same = jnp.all(q == k) & jnp.all(q - q[:1] == grid.astype(q.dtype))
    return same if isinstance(same, Tracer) else bool(same)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def of_window(
    differences: Float[Array, "heads rows columns"], window: Window
) -> Float[Array, "heads q k"]:
    """The bias of all pairs of cells of the window, in order, out of slices."""
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
    # A query sees the rows and columns of its window: one slice for each. XLA would
    # otherwise evaluate what they are slices of for each pair after all.
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
    # Over the rows of queries first, [heads, columns of queries, rows, columns of
    # keys], and then over their columns: each a pass over what is left.
    rows = _add_slices(pairs, (heads, width, 2 * height - 1, width), axis=2)
    return (_add_slices(rows, (heads, 2 * height - 1, 2 * width - 1), axis=2),)


of_window.defvjp(_forward, _backward)


def _add_slices(parts, shape, axis):
    """The sum of `parts[:, i]`, put into zeros of `shape`, each one further back."""
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
    """The bias of any pairs, each looked up."""
    delta = distance(q, k)
    row, column = (delta[..., axis] + window[axis] - 1 for axis in (0, 1))
    return differences.at[:, row, column].get(mode="clip")
