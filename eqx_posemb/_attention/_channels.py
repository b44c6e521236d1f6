"""Logits as products alone, for kernels of attention that take nothing else."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._low_rank import Factors
from .._phase import as_float
from .._sharding import repeated


# The multiple of channels that cuDNN requires. Other kernels are faster with it, too.
_MULTIPLE = 8
# Of the significand of a float32, which features are computed in at least.
_BITS = 24


def with_channels(
    q: Float[Array, "heads q dim"],
    k: Float[Array, "kv_heads k dim"],
    v: Float[Array, "v_heads k dim_v"],
    factors: Factors | None,
    pieces: int | None,
) -> tuple[
    Float[Array, "heads q wide"],
    Float[Array, "to_heads k wide"],
    Float[Array, "to_heads k wide"],
]:
    """Queries and keys with channels added, and values as wide as they are.

    The added channels come first. A sum from left to right then cancels their large
    terms before it adds small terms.
    """
    # A kernel takes keys, values and their channels for one number of heads.
    heads = max(k.shape[0], v.shape[0], 1 if factors is None else factors[1].shape[0])
    k, v = (repeated(x, heads // x.shape[0]) for x in (k, v))
    if factors is not None:
        q_parts, k_parts = _products(*factors, q.dtype, pieces)
        k_parts = jnp.broadcast_to(k_parts, (heads, *k_parts.shape[1:]))
        q = jnp.concatenate([q_parts, q], axis=-1)
        k = jnp.concatenate([k_parts, k], axis=-1)
    # Fused kernels take one head dimension. Channels of zeros change no product, and a
    # caller slices them off the values.
    wide = max(q.shape[-1], v.shape[-1])
    wide += -wide % _MULTIPLE
    q, k, v = (jnp.pad(x, [(0, 0), (0, 0), (0, wide - x.shape[-1])]) for x in (q, k, v))
    return q, k, v


def _products(of_q, of_k, dtype, pieces):
    """Channels in `dtype` whose products equal the products of the factors. The sum is
    over pairs of pieces, without the pairs below float32's precision."""
    if dtype == jnp.float16:
        raise ValueError(
            "`q` must not be float16 where there are channels to add, as it ends at "
            "65,504, but got float16. Use bfloat16 or float32."
        )
    # bfloat16 has 8 bits of a significand, so three pieces carry the 24 bits of a
    # float32.
    if pieces is None:
        pieces = math.ceil(_BITS / (jnp.finfo(dtype).nmant + 1))
    q_pieces, k_pieces = (_split(x, dtype, pieces) for x in (of_q, of_k))
    # The product of two small pieces is below the precision of a float32, so it has no
    # channels.
    pairs = [
        (a, b)
        for i, a in enumerate(q_pieces)
        for j, b in enumerate(k_pieces)
        if i + j < pieces
    ]
    q_parts, k_parts = zip(*pairs, strict=True)
    return jnp.concatenate(q_parts, axis=-1), jnp.concatenate(k_parts, axis=-1)


def _split(x, dtype, pieces):
    """Numbers of a dtype whose sum is `x`, the largest first, which has all of the
    gradient."""
    # Zeros and ones are exact in every dtype, so one piece is enough.
    if x.dtype == bool or pieces == 1:
        return [x.astype(dtype)]
    found, rest = [], jax.lax.stop_gradient(as_float(x))
    for _ in range(pieces):
        # Not two casts, which XLA may remove.
        piece = jax.lax.reduce_precision(
            rest, jnp.finfo(dtype).nexp, jnp.finfo(dtype).nmant
        )
        found.append(piece)
        rest = rest - piece
    # Rounding has no gradient of its own, so the first piece passes the whole gradient
    # of `x`.
    found[0] = x + jax.lax.stop_gradient(found[0] - x)
    return [piece.astype(dtype) for piece in found]
