"""A relative bias of all pairs of queries and keys."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._given import check_both, check_sequence, in_common, Positions
from .._positions import distance
from .._spread import (
    all_distances,
    are_consecutive,
    either,
    toeplitz,
    toeplitz_transpose,
)
from .._symbolic import is_less


# The rows of queries that the gradient of other positions takes at a time.
_ROWS = 32


def spread(
    bias, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
) -> Float[Array, "heads q k"]:
    """`bias.along(delta)` for the distance `delta` of every pair."""
    why = "for one distance to each pair"
    check_both(check_sequence, q_positions, k_positions, why)
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

    def of_rows(size):
        def add(first, count, total):
            some = jax.lax.dynamic_slice_in_dim(q, first, count)
            rows = jax.lax.dynamic_slice_in_dim(gradient, first, count, axis=1)
            _, pull = eqx.filter_vjp(lambda bias: _of_pairs(bias, some, k), bias)
            return jax.tree.map(jnp.add, total, pull(rows)[0])

        # The loop over rows needs the memory of a few rows.
        whole, rest = divmod(q.size, size)
        total = jax.tree.map(jnp.zeros_like, eqx.filter(bias, eqx.is_inexact_array))
        step = lambda i, total: add(i * size, size, total)
        total = jax.lax.fori_loop(0, whole, step, total)
        return add(whole * size, rest, total) if rest else total

    def of_pairs():
        # A CPU takes up to four times as long for several rows at a time.
        if not isinstance(q.size, int):
            return of_rows(1)
        one, several = partial(of_rows, 1), partial(of_rows, min(_ROWS, q.size))
        return jax.lax.platform_dependent(cpu=one, default=several)

    return either(consecutive, of_distances, of_pairs)


def _of_pairs(bias, q, k):
    delta = distance(q, k)
    values = bias.along(delta.ravel())
    return values.reshape(values.shape[0], *delta.shape)
