"""Positions that are runs of consecutive integers, where distances are few.

Queries and keys at consecutive positions, n of each, have n² pairs but 2n - 1
distances. What depends on the distance need then be computed once for each of those.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, PyTree


def are_runs(
    q_positions: Int[Array, " q"], k_positions: Int[Array, " k"]
) -> bool | Bool[Array, ""]:
    """Whether both are runs of consecutive integers; now, if they are known now."""
    runs = jnp.ones((), bool)
    for positions in q_positions, k_positions:
        runs &= jnp.all(positions[1:] - positions[:-1] == 1)
    return runs if isinstance(runs, Tracer) else bool(runs)


def distances_of_runs(
    q_positions: Int[Array, " q"], k_positions: Int[Array, " k"]
) -> Int[Array, " distances"]:
    """All distances, in order: from the last query to the first key, and on from
    there."""
    count = q_positions.size + k_positions.size - 1
    first = k_positions[0] - q_positions[-1]
    return first + jnp.arange(count, dtype=first.dtype)


def either(
    runs: bool | Bool[Array, ""],
    of_runs: Callable[[], PyTree[Array]],
    of_pairs: Callable[[], PyTree[Array]],
) -> PyTree[Array]:
    """One or the other. Where the answer is known only the one is traced: outside of
    `jit`, `cond` would compile both every time."""
    if isinstance(runs, bool):
        return of_runs() if runs else of_pairs()
    return jax.lax.cond(runs, of_runs, of_pairs)
