"""The inputs that every implementation of attention takes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._given import Consecutive
from .._phase import computing_dtype
from ._logits import Logits, Tokens
from ._visible import Rules


# The attended values, in the dtype of the values, and the log-sum-exp of the logits, in
# at least float32. A query without unmasked keys has the lowest number.
Attended = tuple[Float[Array, "heads q dim_v"], Float[Array, "heads q"]]


class Inputs(eqx.Module):
    """Rotated queries and keys, values, the other terms of the logits, and the rules
    that mask them."""

    # No implementation rotates, so dense, blockwise, fused and ring attention need not
    # know any rotary embedding.
    logits: Logits
    q: Float[Array, "heads q dim"]
    k: Float[Array, "kv_heads k dim"]
    v: Float[Array, "v_heads k dim_v"]
    q_tokens: Tokens
    k_tokens: Tokens
    rules: Rules

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the computation: at least float32."""
        return jnp.promote_types(*(computing_dtype(x.dtype) for x in (self.q, self.v)))

    def astype(self, dtype: jnp.dtype) -> Any:
        """The inputs with queries, keys and values of a dtype."""
        q, k, v = (x.astype(dtype) for x in (self.q, self.k, self.v))
        return dataclasses.replace(self, q=q, k=k, v=v)

    def each(self, of_q: Callable, of_k: Callable, *others: "Inputs") -> Any:
        """Maps `of_q(axis, x, *y)` over the arrays of queries of inputs with equal
        structure, and `of_k` over the arrays of keys. `axis` is the axis of tokens."""

        def found(function, name):
            return each_array(function, *(getattr(x, name) for x in (self, *others)))

        return dataclasses.replace(
            self,
            **{name: found(of_q, name) for name in ("q", "q_tokens")},
            **{name: found(of_k, name) for name in ("k", "v", "k_tokens")},
            rules=self.rules.each(of_q, of_k),
        )


def each_array(function: Callable[..., Array], tree: Any, *others: Any) -> Any:
    """Maps `function(axis, x, *y)` over the arrays of pytrees of equal structure.

    `axis` is the axis of tokens: 1 for arrays with heads, and 0 for positions, states
    and orders. Consecutive positions count as one array.
    """
    axes = jax.tree.map(lambda _: 1, tree)
    if isinstance(tree, Tokens):
        where = lambda tokens: (tokens.positions, tokens.state, tokens.order)
        first = jax.tree.map(lambda _: 0, where(tree))
        # An absent state is None, and counts as a leaf here so that `tree_at` can
        # address it.
        axes = eqx.tree_at(where, axes, first, is_leaf=lambda x: x is None)
    is_array = lambda x: isinstance(x, Consecutive)
    return jax.tree.map(function, axes, tree, *others, is_leaf=is_array)
