"""Attention as it is defined, with all logits at once."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._phase import computing_dtype
from ._inputs import Inputs
from ._logits import Logits, Tokens
from ._products import by_kv_head


def dense_logits(
    logits: Logits,
    q: Float[Array, "heads q dim"],
    k: Float[Array, "kv_heads k dim"],
    q_tokens: Tokens,
    k_tokens: Tokens,
) -> Float[Array, "heads q k"]:
    """The finished logits of all pairs, in at least float32."""
    products = jnp.einsum(
        "hgqd,hkd->hgqk",
        by_kv_head(q, k.shape[0]),
        k,
        preferred_element_type=computing_dtype(q.dtype),
    ).reshape(*q.shape[:2], k.shape[1])
    prepared = logits.prepared(q_tokens, k_tokens)
    return logits.finished(products, prepared, q_tokens, k_tokens)


def dense(inputs: Inputs) -> Float[Array, "heads q dim_v"]:
    """The mean of the values that a query sees, weighted by the softmax of its logits.

    A query that sees nothing gets zeros, and zero gradients.
    """
    q, v, q_tokens, k_tokens = inputs.q, inputs.v, inputs.q_tokens, inputs.k_tokens
    finished = dense_logits(inputs.logits, q, inputs.k, q_tokens, k_tokens)
    seen = inputs.rules.seen(q_tokens.compared, k_tokens.compared)
    seen = jnp.broadcast_to(seen, finished.shape)
    if not inputs.logits.bare:
        # A bias of -inf hides a key, and may hide all keys of a query.
        seen &= finished != -jnp.inf
    # A finite lowest number, and not -inf: a row that sees nothing would be NaN on its
    # way, which `jax_debug_nans` stops at.
    lowest = jnp.finfo(finished.dtype).min
    weights = jax.nn.softmax(jnp.where(seen, finished, lowest), axis=-1)
    weights = jnp.where(seen, weights, 0).astype(v.dtype)
    out = jnp.einsum(
        "hgqk,hkd->hgqd",
        by_kv_head(weights, v.shape[0]),
        v,
        preferred_element_type=finished.dtype,
    )
    return out.reshape(*q.shape[:2], v.shape[-1]).astype(v.dtype)
