"""Finding arrays in a checkpoint, by name."""

import math
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def only(state: Mapping[str, Any], prefix: str, *names: str) -> str:
    """The one of the names that is there, after `prefix`."""
    found = [name for name in names if prefix + name in state]
    if len(found) != 1:
        there = ", ".join(sorted(state)[:8]) or "nothing"
        raise ValueError(
            f"`state` must have one of {', '.join(names)} after `prefix` {prefix!r}, "
            f"but got {there}."
        )
    return prefix + found[0]


def array_of(state: Mapping[str, Any], name: str) -> Float[Array, "..."]:
    """The array of that name, in JAX's default float dtype."""
    return jnp.asarray(np.asarray(state[name]), jnp.result_type(float))


def square(name: str, count: int) -> tuple[int, int]:
    """The height and the width of the square grid of so many cells."""
    side = math.isqrt(max(count, 0))
    if side < 1 or side * side != count:
        raise ValueError(
            f"`{name}` must have rows for a square grid where no shape is given, but "
            f"got {count}. Give the height and the width."
        )
    return side, side
