"""Matrix products of queries, keys, values and weights, with grouped heads."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def by_kv_head(
    x: Float[Array, "heads q features"], kv_heads: int
) -> Float[Array, "kv_heads group q features"]:
    """Groups heads of queries by the head of keys and values that serves them."""
    return x.reshape(kv_heads, x.shape[0] // kv_heads, *x.shape[1:])


def times(
    x: Float[Array, "heads q dim"],
    y: Float[Array, "kv_heads k dim"],
    dtype: jnp.dtype | None = None,
) -> Float[Array, "heads q k"]:
    """Products over channels, as of queries and keys, in the dtype of the sums."""
    return _product("hgqd,hkd->hgqk", x, y, dtype)


def times_transposed(
    x: Float[Array, "heads q k"],
    y: Float[Array, "kv_heads k dim"],
    dtype: jnp.dtype | None = None,
) -> Float[Array, "heads q dim"]:
    """Products over keys, as of weights and values."""
    return _product("hgqk,hkd->hgqd", x, y, dtype)


def _product(axes, x, y, dtype):
    x = by_kv_head(x, y.shape[0])
    product = jnp.einsum(axes, x, y, preferred_element_type=dtype)
    return jax.lax.collapse(product, 0, 2)


def over_queries(
    x: Float[Array, "heads q dim"], y: Float[Array, "heads q k"], kv_heads: int
) -> Float[Array, "kv_heads k dim"]:
    """Products over queries, summed over the heads that share a head of keys."""
    x, y = by_kv_head(x, kv_heads), by_kv_head(y, kv_heads)
    # The large matrix is read in its memory order. Reading across takes twice as long,
    # and without the barrier XLA chooses it.
    product = jax.lax.optimization_barrier(jnp.einsum("hgqd,hgqk->hdk", x, y))
    return jnp.swapaxes(product, 1, 2)
