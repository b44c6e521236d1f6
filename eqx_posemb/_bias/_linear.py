"""Layers of the small networks that compute some biases."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


def uniform(
    key: PRNGKeyArray, shape: tuple[int, ...], inputs: int
) -> Float[Array, "..."]:
    """Initial weights or biases of a layer, with the distribution of
    `torch.nn.Linear`."""
    bound = inputs**-0.5
    return jr.uniform(key, shape, minval=-bound, maxval=bound)


def linear_layer(
    weight: Float[Array, "out in"],
    bias: Float[Array, " out"],
    x: Float[Array, "in *shape"],
) -> Float[Array, "out *shape"]:
    """A layer with channels first, so that the last layer returns heads first."""
    # The sums have few products, so full precision costs little on an accelerator.
    product = jnp.tensordot(weight, x, axes=1, precision=jax.lax.Precision.HIGHEST)
    return product + bias.reshape(-1, *(1,) * (x.ndim - 1))
