"""Attention as it is defined, with all logits at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def dense(
    logits: Float[Array, "heads q k"],
    v: Float[Array, "kv_heads k dim_v"],
    seen: Bool[Array, "*heads q k"],
) -> Float[Array, "heads q dim_v"]:
    """The mean of the values that a query sees, weighted by the softmax of its logits.

    A query that sees nothing gets zeros, and zero gradients.
    """
    heads, q, k = logits.shape
    seen = jnp.broadcast_to(seen, logits.shape)
    # A finite lowest number, and not -inf: a row that sees nothing would be NaN on its
    # way, which `jax_debug_nans` stops at.
    lowest = jnp.finfo(logits.dtype).min
    weights = jax.nn.softmax(jnp.where(seen, logits, lowest), axis=-1)
    weights = jnp.where(seen, weights, 0).astype(v.dtype)
    grouped = weights.reshape(v.shape[0], -1, q, k)
    out = jnp.einsum("hgqk,hkd->hgqd", grouped, v, preferred_element_type=logits.dtype)
    return out.reshape(heads, q, v.shape[-1]).astype(v.dtype)
