"""A relative bias of all pairs of queries and keys."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._given import check_sequence, in_common, Positions
from .._positions import distance
from .._spread import (
    all_distances,
    are_consecutive,
    either,
    toeplitz,
    toeplitz_transpose,
)
from .._symbolic import is_less


def spread(
    bias, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
) -> Float[Array, "heads q k"]:
    """`bias.along(delta)` for the distance `delta` of every pair."""
    for name, positions in ("q", q_positions), ("k", k_positions):
        check_sequence(f"{name}_positions", positions, "for one distance to each pair")
    q, k = in_common(q_positions, k_positions)
    few = is_less(q.size, 2) or is_less(k.size, 2)
    if few or not jnp.issubdtype(q.dtype, jnp.integer):
        # Float positions need a gradient for each pair. With a single query or key,
        # pairs and distances are equally many.
        return _of_pairs(bias, q, k)
    return _spread(bias, q, k, are_consecutive(q_positions, k_positions))


# JAX's gradient of a lookup for each pair would scatter a number for each pair.
@eqx.filter_custom_vjp
def _spread(bias, q, k, consecutive):
    return either(
        consecutive,
        lambda: toeplitz(bias.along(all_distances(q, k)), q.size),
        lambda: _of_pairs(bias, q, k),
    )


@_spread.def_fwd
def _forward(perturbed, bias, q, k, consecutive):
    del perturbed
    return _spread(bias, q, k, consecutive), None


@_spread.def_bwd
def _backward(residuals, gradient, perturbed, bias, q, k, consecutive):
    del residuals, perturbed

    def of_distances():
        _, pull = eqx.filter_vjp(lambda bias: bias.along(all_distances(q, k)), bias)
        return pull(toeplitz_transpose(gradient))[0]

    def of_pairs():
        def add(i, total):
            _, pull = eqx.filter_vjp(lambda bias: bias.along(k - q[i]), bias)
            return jax.tree.map(jnp.add, total, pull(gradient[:, i])[0])

        zeros = jax.tree.map(jnp.zeros_like, eqx.filter(bias, eqx.is_inexact_array))
        # The loop over rows needs the memory of one row.
        return jax.lax.fori_loop(0, q.size, add, zeros)

    return either(consecutive, of_distances, of_pairs)


def _of_pairs(bias, q, k):
    delta = distance(q, k)
    values = bias.along(delta.ravel())
    return values.reshape(values.shape[0], *delta.shape)
