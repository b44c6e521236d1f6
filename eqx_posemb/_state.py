"""Reading the weights of published checkpoints."""

from collections.abc import Mapping
from typing import Any, TypeVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


_Module = TypeVar("_Module", bound=eqx.Module)


def array(state: Mapping[str, Any], name: str) -> Float[Array, "..."]:
    """The array of that name, in JAX's default float dtype."""
    if name not in state:
        raise ValueError(f"`state` must have {name}, but got {listed(state)}.")
    return jnp.asarray(state[name], jnp.result_type(float))


def listed(state: Mapping[str, Any]) -> str:
    """The first names, for an error to show."""
    return ", ".join(sorted(state)[:10]) or "nothing"


def filled(module: _Module, **arrays: Float[Array, "..."]) -> _Module:
    """The module with other arrays in its fields, which must fit."""
    for name, new in arrays.items():
        shape = getattr(module, name).shape
        if new.shape != shape:
            raise ValueError(
                f"`state` must have an array of shape {shape} for `{name}` of "
                f"{type(module).__name__}, but got {new.shape}."
            )
    where = lambda module: [getattr(module, name) for name in arrays]
    return eqx.tree_at(where, module, list(arrays.values()))
