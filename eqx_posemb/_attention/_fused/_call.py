"""Fused attention on the platforms that have a kernel, and its plain form elsewhere."""

import warnings
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._blockwise import attended, gradients_of_attended
from .._dense import dense
from .._inputs import Inputs
from .._platform import alike, by_platform


class How(NamedTuple):
    """How attention is computed on each platform: a static value."""

    size: int
    """Of blocks, where there is no kernel."""
    block_size: int | None
    """Of the tiles of a kernel, if it is given."""
    dense: bool
    """Whether platforms without a kernel have materialized logits, but for a CPU."""
    asked_for: bool
    """Whether the user names the kernel: a CPU interprets it."""


def fused(inputs: Inputs, how: How) -> Float[Array, "heads q dim_v"]:
    """What [`dense`][] computes, tile by tile in one kernel."""
    floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
    others, static = eqx.partition(rest, eqx.is_array)
    # What varies over the axes of a mesh, for derivatives to be summed over devices.
    floats, others = alike((floats, others))
    return _attention((how, static), floats, others)[0]


def _primal(static, floats, others):
    how, static = static
    heads, q_count = floats.q.shape[:2]
    result = (
        jax.ShapeDtypeStruct((heads, q_count, floats.v.shape[-1]), floats.v.dtype),
        jax.ShapeDtypeStruct((heads, q_count), jnp.float32),
    )

    def form(of_inputs):
        return lambda floats, others: of_inputs(eqx.combine(floats, others, static))

    def of_kernel(interpret, inputs):
        from . import _kernels  # Pallas takes half a second to import.

        return _kernels.attended(_kernels.Settings(how.block_size, interpret), inputs)

    def of_blocks(inputs):
        return attended(inputs, how.size)

    def of_others(inputs):
        _say(how)
        if not how.dense:
            return of_blocks(inputs)
        # Its gradient needs no normaliser.
        zeros = jnp.zeros_like(inputs.q, shape=result[1].shape, dtype=jnp.float32)
        return dense(inputs), zeros

    forms = dict(
        tpu=form(partial(of_kernel, False)),
        cpu=form(partial(of_kernel, True) if how.asked_for else of_blocks),
        default=form(of_others),
    )
    return by_platform(forms, result, floats, others)


_attention = jax.custom_vjp(_primal, nondiff_argnums=(0,))


def _forward(static, floats, others):
    out, normaliser = _attention(static, floats, others)
    return (out, normaliser), (floats, others, out, normaliser)


def _backward(static, residuals, cotangents):
    how, static = static
    floats, others, out, normaliser = residuals

    def form(of_inputs):
        def of_arrays(floats, others, *more):
            inputs = eqx.combine(floats, others, static)
            found = of_inputs(inputs, *more)
            return jax.tree.map(lambda x, like: x.astype(like.dtype), found, floats)

        return of_arrays

    def of_kernel(interpret, *arguments):
        from . import _kernels

        settings = _kernels.Settings(how.block_size, interpret)
        return _kernels.gradients(settings, *arguments)

    def of_blocks(inputs, *more):
        return gradients_of_attended(inputs, how.size, *more)

    def of_others(inputs, out, normaliser, cotangents):
        if not how.dense:
            return of_blocks(inputs, out, normaliser, cotangents)
        return eqx.filter_vjp(dense, inputs)[1](cotangents[0])[0]

    forms = dict(
        tpu=form(partial(of_kernel, False)),
        cpu=form(partial(of_kernel, True) if how.asked_for else of_blocks),
        default=form(of_others),
    )
    like = lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype)
    arguments = floats, others, out, normaliser, cotangents
    error = _NO_SECOND if how.asked_for else None
    result = jax.tree.map(like, floats)
    return by_platform(forms, result, *arguments, no_derivative=error), None


_attention.defvjp(_forward, _backward)
_NO_SECOND = (
    "`implementation` must be 'blockwise' or 'dense' for second derivatives, as the "
    "fused kernels have first ones alone, but got 'pallas'. Use "
    "`implementation='blockwise'`."
)


def _say(how):
    """Says that there is no kernel, where the user has asked for it."""
    if how.asked_for:
        warnings.warn(
            "`implementation='pallas'` goes by blocks. There is a kernel for TPUs, "
            "which no compiler divides among devices. Call `attend` under "
            "`jax.shard_map` where arrays are sharded.",
            stacklevel=2,
        )
