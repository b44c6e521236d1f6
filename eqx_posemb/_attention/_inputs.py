"""The inputs of attention, which every implementation of it takes."""

import equinox as eqx
from jaxtyping import Array, Float

from ._logits import Logits, Tokens
from ._visible import Rules


class Inputs(eqx.Module):
    """Rotated queries and keys, values, the other terms of the logits, and the rules
    that mask them."""

    logits: Logits
    q: Float[Array, "heads q dim"]
    k: Float[Array, "kv_heads k dim"]
    v: Float[Array, "v_heads k dim_v"]
    q_tokens: Tokens
    k_tokens: Tokens
    rules: Rules
