"""Detects consecutive positions, and lists their distances.

Consecutive positions of n queries and n keys have n² pairs and 2n - 1 distances. A
function of the distance therefore needs 2n - 1 evaluations.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Bool, Int, PyTree

from .._given import Consecutive, in_common, Positions


def are_consecutive(*positions: Int[Positions, "..."]) -> bool | Bool[Array, ""]:
    """Whether each of the arguments has consecutive positions.

    The answer is a `bool` if it is known at trace time, and traced otherwise.
    """
    arrays = [p for p in positions if not isinstance(p, Consecutive)]
    if not arrays:
        return True
    answer = jnp.ones((), bool)
    for array in in_common(*arrays):
        answer &= jnp.all(array[1:] - array[:-1] == 1)
    # A concrete answer selects one branch at trace time.
    return answer if isinstance(answer, Tracer) else bool(answer)


def all_distances(
    q_positions: Int[Positions, " q"], k_positions: Int[Positions, " k"]
) -> Int[Array, " distances"]:
    """All distances of consecutive positions in ascending order: the first is from the
    last query to the first key."""
    count = q_positions.size + k_positions.size - 1
    first = k_positions[0] - q_positions[-1]
    return first + jnp.arange(count, dtype=first.dtype)


def either(
    answer: bool | Bool[Array, ""],
    if_true: Callable[[], PyTree[Array]],
    if_false: Callable[[], PyTree[Array]],
) -> PyTree[Array]:
    """Returns one of two results. If the answer is known at trace time, only one is
    traced."""
    if isinstance(answer, bool):
        return if_true() if answer else if_false()
    return jax.lax.cond(_in_all(answer), if_true, if_false)


@jax.custom_batching.custom_vmap
def _in_all(answer: Bool[Array, ""]) -> Bool[Array, ""]:
    return answer


@_in_all.def_vmap
def _in_all_batch(axis_size, in_batched, answer):
    """One answer for all examples of a batch, so that one branch is computed. The
    general branch is right for consecutive positions as well."""
    del axis_size
    return answer.all(0) if in_batched[0] else answer, False
