"""A bias of the difference between two cells of a window."""

import abc
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from .._checks import check_at_least, check_count, check_shape, require
from .._given import check_both, check_grid, check_integers, in_common
from .._sharding import sharded_as_pairs
from .._spread import (
    are_the_window,
    either,
    is_window_long,
    of_differences,
    of_window,
    Window,
)
from .._state_dicts import square
from .._symbolic import error_if
from ._abstract import AbstractBias


class AbstractWindowBias(AbstractBias):
    """A bias of the difference between two cells of a window, looked up in a table.

    A subclass defines the bias of each difference, and this class evaluates it for each
    pair. If queries and keys are all cells of the window in order, each difference is
    evaluated once, without a lookup per pair. Other cells need a lookup per pair. The
    program finds out at run time which case holds. Cells that are further apart than
    the window raise an error.

    Reverse mode gives gradients of any order. Forward mode (`jax.jvp`) raises an error.
    """

    @property
    @abc.abstractmethod
    def window(self) -> Window:
        """The height and the width of the window, in cells."""

    @abc.abstractmethod
    def differences(self) -> Float[Array, "heads rows columns"]:
        """The bias of each difference, key minus query, in at least float32. Rows go
        from `-(height - 1)` to `height - 1`, and columns from `-(width - 1)` to `width
        - 1`."""

    @sharded_as_pairs
    def __call__(
        self, q_positions: Int[Array, "q 2"], k_positions: Int[Array, "k 2"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: row and column of each query, integers.
        - `k_positions`: row and column of each key, integers.

        **Returns:**

        The bias of each pair.

        **Raises:** a `ValueError` if positions are not two integers for each token. An
        error at run time if a key is further from a query than the window allows.
        """
        with jax.named_scope(f"eqx_posemb.{type(self).__name__}"):
            q, k = cells(q_positions, k_positions)
            every = jnp.ones(q.shape[0], bool), jnp.ones(k.shape[0], bool)
            name, differences = type(self).__name__, self.differences()
            differences = within(differences, self.window, q, k, *every, name)
            of_pairs = lambda: of_differences(differences, self.window, q, k)
            # Shapes that cannot be the window decide at trace time, and the program has
            # one form.
            if q.shape[0] != k.shape[0] or not is_window_long(self.window, q):
                return of_pairs()
            return either(
                are_the_window(self.window, q, k),
                lambda: of_window(differences, self.window),
                of_pairs,
            )


def cells(
    q_positions: Int[Array, "q 2"], k_positions: Int[Array, "k 2"]
) -> list[Int[Array, "seq 2"]]:
    """Rows and columns of queries and keys in one dtype, after checks."""
    check_both(check_grid, q_positions, k_positions, 2)
    check_both(check_integers, q_positions, k_positions, "to look differences up with")
    return in_common(q_positions, k_positions)


def within(
    differences: Float[Array, "heads rows columns"],
    window: Window,
    q: Int[Array, "q 2"],
    k: Int[Array, "k 2"],
    q_counts: Bool[Array, " q"],
    k_counts: Bool[Array, " k"],
    name: str,
) -> Float[Array, "heads rows columns"]:
    """Returns the table, with a run-time error if a counted key is outside of the
    window of a counted query."""
    end = jnp.iinfo(q.dtype).max
    # The extremes of each axis replace a comparison of all pairs.
    low = lambda p, counts: jnp.min(jnp.where(counts[:, None], p, end), 0, initial=end)
    high = lambda p, counts: -low(-p, counts)
    size = jnp.array(window, q.dtype)
    # Without counted tokens the extremes are no positions, and their difference may
    # wrap.
    some = q_counts.any() & k_counts.any()
    apart = jnp.maximum(
        high(k, k_counts) - low(q, q_counts), high(q, q_counts) - low(k, k_counts)
    )
    return error_if(
        differences,
        some & (apart >= size).any(),
        "`q_positions` and `k_positions` must be less than "
        f"{window[0]} rows and {window[1]} columns apart, to have a place in the table "
        f"of this `{name}`. Resize it, or attend within windows.",
        q,
        k,
    )


def check_window(name: str, window: Sequence[int]) -> Window:
    """The height and the width, after a check."""
    rule = "be a positive height and width"
    height, width = check_shape(name, window, axes=2, rule=rule)
    return height, width


def drawn_table(
    window: Sequence[int],
    heads: int,
    std: float,
    key: PRNGKeyArray,
    *,
    signed: bool = True,
) -> Float[Array, "rows columns heads"]:
    """Initial numbers of each difference of cells, or of each distance if it has no
    sign."""
    height, width = check_window("window", window)
    check_count("heads", heads, 1)
    check_at_least("std", std, 0)
    shape = (2 * height - 1, 2 * width - 1) if signed else (height, width)
    return std * jr.normal(key, (*shape, heads))


def fitting_window(
    name: str, count: int, window: Sequence[int] | None, *, signed: bool = True
) -> Window:
    """The window of a table with `count` rows, one for each difference of cells, or for
    each distance if it has no sign. By default the window is square."""
    if window is None:
        side, _ = square(name, count)
        side = (side + 1) // 2 if signed else side
        return side, side
    height, width = check_window("window", window)
    rows = (2 * height - 1) * (2 * width - 1) if signed else height * width
    rule = f"fit the {count} rows of `{name}`"
    cure = "Resize the bias afterwards."
    require(rows == count, "window", rule, (height, width), cure)
    return height, width
