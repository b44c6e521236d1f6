"""Symbolic sizes, in programs that `jax.export` makes for every length."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree, Shaped

from ._sharding import varying


_Arrays = TypeVar("_Arrays", bound=PyTree[Shaped[Array, "..."]])


def is_less(size: int, bound: int) -> bool:
    """Whether a size is less than a bound. A symbolic size counts as large."""
    return isinstance(size, int) and size < bound


def error_if(
    x: _Arrays,
    wrong: Bool[Array, "..."],
    message: str,
    *read: Shaped[Array, "..."],
) -> _Arrays:
    """`equinox.error_if`. Where a size of `x` or of what was `read` is a symbol, `x` is
    NaN, as with `EQX_ON_ERROR=nan`: exported programs cannot raise errors.

    `x` is in floating point where it can be, as no integer is NaN.
    """
    sizes = [size for leaf in jax.tree.leaves((x, read)) for size in leaf.shape]
    if not all(isinstance(size, int) for size in sizes):
        wrong = jnp.any(wrong)
    elif any(map(varying, jax.tree.leaves((x, wrong)))):
        # Equinox's check of an array that varies over the mesh fails in JAX.
        wrong = jnp.isnan(eqx.error_if(jnp.zeros(()), wrong, message))
    else:
        return eqx.error_if(x, wrong, message)

    def filled(leaf):
        is_float = jnp.issubdtype(leaf.dtype, jnp.inexact)
        fill = jnp.nan if is_float else jnp.iinfo(leaf.dtype).max
        return jnp.where(wrong, jnp.array(fill, leaf.dtype), leaf)

    return jax.tree.map(filled, x)
