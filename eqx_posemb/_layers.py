"""Layers of the small networks inside of some embeddings."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from ._phase import as_float


def uniform(
    key: PRNGKeyArray, shape: tuple[int, ...], inputs: int
) -> Float[Array, "..."]:
    """Initial weights or biases of a layer, with the distribution of
    `torch.nn.Linear`."""
    bound = inputs**-0.5
    return jr.uniform(key, shape, minval=-bound, maxval=bound)


def linear_layer(
    weight: Float[Array, "out in"],
    bias: Float[Array, " out"] | None,
    x: Float[Array, "in *shape"],
) -> Float[Array, "out *shape"]:
    """A layer with channels first, so that the last layer returns heads first."""
    # The sums have few products, so full precision costs little on an accelerator.
    product = jnp.tensordot(as_float(weight), x, axes=1, precision="highest")
    if bias is None:
        return product
    return product + as_float(bias).reshape(-1, *(1,) * (x.ndim - 1))


def layer_norm(
    x: Float[Array, "rows dim"],
    weight: Float[Array, " dim"] | None = None,
    bias: Float[Array, " dim"] | None = None,
    *,
    eps: float = 1e-5,
) -> Float[Array, "rows dim"]:
    """Layer normalization. The default of `eps` is as in `torch.nn.LayerNorm`."""
    centered = x - x.mean(axis=-1, keepdims=True)
    variance = jnp.mean(centered**2, axis=-1, keepdims=True)
    normal = centered * jax.lax.rsqrt(variance + eps)
    if weight is not None:
        normal = normal * as_float(weight)[None]
    return normal if bias is None else normal + as_float(bias)[None]
