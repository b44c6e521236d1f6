"""Checks the arguments of attention, and computes it in one compiled program."""

import dataclasses
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._attention import (
    attention,
    check_axes,
    check_values,
    choose,
    ImplementationName,
    IMPLEMENTATIONS,
    Inputs,
    rules,
    Tokens,
)
from ._checks import check_choice, check_count, check_positive, described
from ._context import context_lengths
from ._given import as_consecutive
from ._rotary import AbstractRotary
from ._sharding import axis_size, compiler_sharded, gathered, mesh_axes


# Type checkers see an array that may be unpacked, since a tuple has no `shape`.
if TYPE_CHECKING:
    Attended = Array | Any
else:
    Attended = (
        Float[Array, "heads q dim_v"]
        | tuple[Float[Array, "heads q dim_v"], Float[Array, "heads q"]]
    )


def prepared(
    placed,
    q,
    k,
    v,
    *,
    mask=None,
    q_order=None,
    k_order=None,
    q_state=None,
    k_state=None,
    soft_cap=None,
    sinks=None,
    return_lse=False,
    implementation: ImplementationName = "auto",
    block_size=None,
    axis_name=None,
    keys_are_rotated=False,
    **masks,
):
    """The arguments of [`attend`][], after checks. `masks` go to [`rules`][]."""
    check_axes(q=q, k=k, v=v)
    check_values(k, v)
    check_choice("implementation", implementation, IMPLEMENTATIONS)
    if soft_cap is not None:
        check_positive("soft_cap", soft_cap)
    if block_size is not None:
        check_count("block_size", block_size, 1)
    if sinks is not None:
        _check_sinks(sinks, q.shape[0])
    # A ring refuses a mask in any case, with a message of its own.
    if axis_name is not None and mask is None:
        _check_axis(axis_name)
    masked = rules(
        placed.q_positions,
        placed.k_positions,
        heads=q.shape[0],
        mask=mask,
        q_order=q_order,
        k_order=k_order,
        **masks,
    )
    if keys_are_rotated and isinstance(placed.rotary, AbstractRotary):
        placed._check_rotates("attend(..., keys_are_rotated=True)")
    states = dict(q_state=q_state, k_state=k_state)
    chosen = choose(implementation, q, k, v, block_size, axis_name)
    # Calls with equal settings share a compiled program, so settings are static.
    static = chosen, axis_name, soft_cap, keys_are_rotated, bool(return_lse)
    order = q_order, k_order
    if chosen.reads_consecutive:
        # Inside of `attend` all arrays are traced.
        order = tuple(None if x is None else as_consecutive(x) for x in order)
        placed = with_positions(placed, as_consecutive)
    return placed, static, sinks, q, k, v, masked, states, order


def _check_axis(axis_name):
    try:
        # JAX raises a NameError for an axis that is not bound, and its message names no
        # argument.
        axis_size(axis_name)
    except NameError as error:
        raise ValueError(
            "`axis_name` must be an axis of a mesh under `jax.shard_map`, but got "
            f"{axis_name!r}, which is none here. Call `attend` under `jax.shard_map`, "
            "or leave `axis_name` out."
        ) from error


def _check_sinks(sinks, heads):
    dtype = getattr(sinks, "dtype", None)
    floating = dtype is not None and jnp.issubdtype(dtype, jnp.floating)
    if not floating or sinks.shape != (heads,):
        of_dtype = "" if dtype is None else f" and dtype {dtype}"
        raise ValueError(
            f"`sinks` must be one floating-point logit for each of the {heads} heads "
            f"of `q`, but got {described(sinks)}{of_dtype}. Give an array of shape "
            "[heads]."
        )


# All layers of equal shapes share one trace. A call outside of `jit` compiles one
# program, and not one for each operation.
@eqx.filter_jit
@jax.named_scope("eqx_posemb.Placed.attend")
def attend(placed, static, sinks, q, k, v, *others):
    # Results have the heads and tokens of the queries, and the sharding of both axes.
    rows = mesh_axes(q)[:2]
    axes = [(*rows, *mesh_axes(v)[2:]), rows]
    out, lse = compiler_sharded(
        _attention, axes, placed, static, sinks, q, k, v, *others
    )
    return (out, lse) if static[-1] else out


def _attention(placed, static, sinks, *arrays):
    out, lse = attention(static[0], inputs(placed, static, *arrays))
    if sinks is not None:
        # A sink is a further logit, whose value is zero.
        sinks = sinks.astype(lse.dtype)[:, None]
        # The share of the keys is a sigmoid, so no exponential overflows.
        kept = jax.nn.sigmoid(lse - sinks)[..., None]
        out = (out.astype(lse.dtype) * kept).astype(out.dtype)
        lse = jnp.logaddexp(lse, sinks)
    # Implementations return the lowest finite number for a fully masked query, which
    # keeps derivatives finite.
    sees = lse > jnp.finfo(lse.dtype).min / 2
    return [out, jnp.where(sees, lse, -jnp.inf)]


def inputs(placed, static, q, k, v, masked, states, order) -> Inputs:
    """The inputs of an implementation of attention."""
    _, axis_name, soft_cap, keys_are_rotated, _ = static
    # Positions and segments are small, and comparing their shards would exchange data
    # in every step.
    placed = with_positions(placed, gathered)
    masked, order = masked.gathered, gathered(order)
    q_tokens = Tokens(None, placed.q_positions, None, order[0])
    k_tokens = Tokens(None, placed.k_positions, None, order[1])
    # The masks come first, since masked keys must not lengthen the context.
    placed = placed._in_context(
        lambda: context_lengths(q_tokens, k_tokens, masked, axis_name)
    )
    logits, q, k, q_tokens, k_tokens = placed._terms(
        q, k, states, soft_cap, keys_are_rotated, order
    )
    return Inputs(logits, q, k, v, q_tokens, k_tokens, masked)


def with_positions(placed, function):
    """The placed embedding with a function of its positions."""
    q, k = function(placed.q_positions), function(placed.k_positions)
    return dataclasses.replace(placed, q_positions=q, k_positions=k)
