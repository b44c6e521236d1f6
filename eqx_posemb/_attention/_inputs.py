"""The inputs that every implementation of attention takes."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

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
