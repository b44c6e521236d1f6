"""Looks up numbers of rows for all pairs of queries and keys."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


# The ones and zeros of some queries: 32 MiB.
_AT_ONCE = 2**25


def look_up(
    profile: Float[Array, "heads q rows"], row: Int[Array, "q k"]
) -> Float[Array, "heads q k"]:
    """Selects a number of each query for each key, from the numbers of all rows. A row
    out of range is clipped."""
    return jax.lax.platform_dependent(profile, row, tpu=by_products, default=by_gather)


def by_gather(
    profile: Float[Array, "heads q rows"], row: Int[Array, "q k"]
) -> Float[Array, "heads q k"]:
    # The loop runs over queries, for all heads together: `take_along_axis` would hold
    # an index for each pair and head, and its gradient took ten times as long on a CPU.
    of_query = lambda rows, row: rows.at[:, row].get(mode="clip")
    return jax.vmap(of_query, in_axes=(1, 0), out_axes=1)(profile, row)


def by_products(
    profile: Float[Array, "heads q rows"], row: Int[Array, "q k"]
) -> Float[Array, "heads q k"]:
    """Products with zeros and ones, which choose rows exactly.

    On a TPU a gather would pad each number to the 128 lanes of a register. Ones and
    zeros are fused into the product, which has 1 / 14 of the estimated cycles for 32
    rows, and its gradient 1 / 9.
    """
    queries, rows = profile.shape[1:]

    def of_query(profile, row):
        every = jnp.arange(rows, dtype=row.dtype)[:, None]
        # A row out of range is clipped, as in the gather.
        chosen = jnp.minimum(row, rows - 1)[None] == every
        # The default precision of a TPU would round the numbers to bfloat16.
        highest = jax.lax.Precision.HIGHEST
        chosen = chosen.astype(profile.dtype)
        return jnp.einsum("hr,rk->hk", profile, chosen, precision=highest)

    # Without the checkpoint, a derivative would store the ones and zeros.
    of_query = jax.checkpoint(of_query)
    arguments = profile.swapaxes(0, 1), row
    sizes = queries, rows, row.shape[1]
    if all(isinstance(size, int) for size in sizes) and math.prod(sizes) > _AT_ONCE:
        # XLA materializes them at times, and then for some queries only.
        size = max(1, _AT_ONCE // (rows * row.shape[1]))
        found = jax.lax.map(lambda each: of_query(*each), arguments, batch_size=size)
    else:
        found = jax.vmap(of_query)(*arguments)
    return found.swapaxes(0, 1)
