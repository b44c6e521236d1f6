"""Low-rank biases: sums of products of a query's number and a key's number."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from ._given import in_common, Positions


Factors = tuple[
    Float[Array, "heads q rank"],
    Float[Array, "some_heads k rank"] | Bool[Array, "some_heads k rank"],
]


@runtime_checkable
class LowRank(Protocol):
    """The protocol of a low-rank bias or score."""

    def low_rank(self, *arguments: Array) -> Factors:
        """**Arguments:** as in `__call__`.

        **Returns:**

        Channels of queries, `[heads, q, rank]`, and of keys, `[heads, k, rank]` or
        `[1, k, rank]` if all heads share them. Their products are what `__call__`
        gives. Channels of keys that are all 0 or 1 are booleans. First come those that
        are large and cancel: summed one after another they do so exactly.
        """
        ...


def factors(name: str, part: object, *arguments: Array) -> Factors:
    """The factors of a part, or an error that names the low-rank classes."""
    if not isinstance(part, LowRank):
        raise ValueError(
            f"`{name}` must have `low_rank`, to be channels of queries and keys, but "
            f"got a {type(part).__name__}. Use `attend`, which takes any, in as little "
            "memory."
        )
    return part.low_rank(*arguments)


def side_by_side(*terms: tuple[Array, Array]) -> Factors:
    """The factors of a sum of terms: the concatenated factors of the terms."""
    of_q, of_k = zip(*terms, strict=True)
    heads = max(x.shape[0] for x in of_k)
    # Keys of zeros and ones stay booleans, which bfloat16 represents in one piece.
    if any(x.dtype != bool for x in of_k):
        of_k = [x.astype(jnp.result_type(float)) for x in of_k]
    of_k = [jnp.broadcast_to(x, (heads, *x.shape[1:])) for x in of_k]
    return jnp.concatenate(of_q, axis=-1), jnp.concatenate(of_k, axis=-1)


def centered(
    q_positions: Num[Positions, "q *axes"], k_positions: Num[Positions, "k *axes"]
) -> list[Num[Array, "seq *axes"]]:
    """Shifts both by the middle of the queries, which keeps all distances.

    The rounding error of a product grows with its size, so small positions are more
    accurate. Integers are shifted exactly. Keys may be anywhere, but near keys have
    most of the attention.
    """
    q, k = in_common(q_positions, k_positions)
    if q.shape[0] == 0:
        return [q, k]
    # The shift cancels in every product, so it needs no gradient. Half of the
    # difference does not overflow, as the sum of both ends might.
    low = jax.lax.stop_gradient(q.min(axis=0))
    half = (jax.lax.stop_gradient(q.max(axis=0)) - low) / 2
    middle = low + half.astype(q.dtype)
    return [q - middle[None], k - middle[None]]
