"""Reading the weights of published checkpoints."""

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._checks import require


_Module = TypeVar("_Module", bound=eqx.Module)


def array(state: Mapping[str, Any], name: str) -> Float[Array, "..."]:
    """The array `name` of a state dict, in JAX's default float dtype."""
    if name not in state:
        raise ValueError(f"`state` must have {name}, but got {listed(state)}.")
    value = state[name]
    # NumPy reads no tensor of PyTorch in bfloat16, and none that requires a gradient.
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if value.element_size() < 4 else value
    return jnp.asarray(value, jnp.result_type(float))


def only(state: Mapping[str, Any], prefix: str, *names: str) -> str:
    """The only one of the names that the state dict has after `prefix`."""
    found = [prefix + name for name in names if prefix + name in state]
    # A list of all names is made for an error alone, as a checkpoint has thousands.
    if len(found) != 1:
        raise ValueError(
            f"`state` must have one of {', '.join(names)} after `prefix` {prefix!r}, "
            f"but got {listed(state)}."
        )
    return found[0]


def square(name: str, count: int) -> tuple[int, int]:
    """The height and the width of the square grid of so many cells."""
    side = math.isqrt(max(count, 0))
    rule = "have rows for a square grid where no shape is given"
    cure = "Give the height and the width."
    require(side >= 1 and side * side == count, name, rule, count, cure)
    return side, side


def by_head(
    weight: Float[Array, "rows *rest"], heads: int
) -> Float[Array, "heads each *rest"]:
    """The rows of a projection by the heads that they belong to."""
    rule = f"divide the {weight.shape[0]} rows of a projection"
    require(weight.shape[0] % heads == 0, "heads", rule, heads)
    return weight.reshape(heads, weight.shape[0] // heads, *weight.shape[1:])


def listed(state: Mapping[str, Any]) -> str:
    """The first few names, for error messages."""
    return ", ".join(sorted(state)[:10]) or "nothing"


def filled(module: _Module, **arrays: Float[Array, "..."]) -> _Module:
    """The module with new arrays in its fields, after a check of their shapes."""
    for name, new in arrays.items():
        shape = getattr(module, name).shape
        # `eqx.tree_at` does not compare shapes.
        rule = f"have an array of shape {shape} for `{name}` of {type(module).__name__}"
        require(new.shape == shape, "state", rule, new.shape)
    where = lambda module: [getattr(module, name) for name in arrays]
    return eqx.tree_at(where, module, list(arrays.values()))
