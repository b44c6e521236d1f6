"""The layers of the small networks that some biases are."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


def uniform(
    key: PRNGKeyArray, shape: tuple[int, ...], inputs: int
) -> Float[Array, "..."]:
    """Initial weights or biases of a layer, as torch has them."""
    bound = inputs**-0.5
    return jr.uniform(key, shape, minval=-bound, maxval=bound)


def linear_layer(
    weight: Float[Array, "out in"],
    bias: Float[Array, " out"],
    x: Float[Array, "in *shape"],
) -> Float[Array, "out *shape"]:
    """Channels first: the last layer gives the heads first, as a bias has them."""
    # Exact where the default is not: these are sums of few products.
    product = jnp.tensordot(weight, x, axes=1, precision=jax.lax.Precision.HIGHEST)
    return product + bias.reshape(-1, *(1,) * (x.ndim - 1))
