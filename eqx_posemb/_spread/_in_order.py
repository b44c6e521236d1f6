"""Keys in the order of their positions."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Num


def keys_in_order(
    q_positions: Num[Array, " q"],
    k_positions: Num[Array, " k"],
    seen: Bool[Array, "*heads q k"] | None,
) -> tuple[Int[Array, " k"], Bool[Array, "#heads q k"]]:
    """The indices that sort the keys, and which of the sorted keys a query reads.

    A query reads the keys that it attends to (`seen`) and that do not follow it.
    """
    # Positions say which keys are between two tokens. A cache may store keys in any
    # order.
    order = jnp.argsort(k_positions)
    read = (k_positions[order][None] <= q_positions[:, None])[None]
    if seen is not None:
        seen = seen if seen.ndim == 3 else seen[None]
        read &= seen[..., order]
    return order, read
