"""Fused attention on the platforms that have a kernel, and its plain form elsewhere."""

import warnings
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._blockwise import attended, gradients_of_attended
from .._dense import dense
from .._derivative import with_gradients
from .._inputs import Attended, Inputs
from .._platform import by_platform
from ._how import How
from ._sizes import holds, lowers_triton


# The platform whose kernels a CPU interprets.
INTERPRETED = "tpu"


def fused(inputs: Inputs, how: How) -> Attended:
    """The result of [`dense`][], computed tile by tile in one kernel."""
    return _attention(how, inputs)


def attended_by_platform(how: How, inputs: Inputs) -> Attended:
    """The attended values, and the log-sum-exp of the logits."""
    heads, q_count = inputs.q.shape[:2]
    dtype = jnp.dtype(jnp.float32) if how.exact else inputs.v.dtype
    result = (
        jax.ShapeDtypeStruct((heads, q_count, inputs.v.shape[-1]), dtype),
        jax.ShapeDtypeStruct((heads, q_count), jnp.float32),
    )

    def of_kernel(how, inputs):
        from . import _kernels  # Pallas takes half a second to import.

        return _kernels.attended(how, inputs, dtype)

    def of_blocks(inputs):
        out, normalizer = attended(inputs, how.size)
        return out.astype(dtype), normalizer

    def of_others(inputs):
        _say(how)
        return dense(inputs) if how.dense else of_blocks(inputs)

    return _by_platform(how, (of_kernel, of_blocks, of_others), result, inputs)


def gradients_by_platform(
    how: How,
    inputs: Inputs,
    out: Float[Array, "heads q dim_v"],
    normalizer: Float[Array, "heads q"],
    cotangents: Attended,
) -> Inputs:
    """The gradients with respect to the float arrays of the inputs, from the results of
    [`attended_by_platform`][] and their cotangents."""
    floats = eqx.filter(inputs, eqx.is_inexact_array)
    result = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), floats)

    def of_kernel(how, inputs, *more):
        _, q_count, width = inputs.q.shape
        scored = inputs.logits.score is not None
        if scored and not holds(q_count + inputs.k.shape[1], width):
            return of_others(inputs, *more)
        from . import _kernels

        return _kernels.gradients(how, inputs, *more)

    def of_blocks(inputs, *more):
        return gradients_of_attended(inputs, how.size, *more)

    def of_others(inputs, out, normalizer, cotangents):
        if not how.dense:
            return of_blocks(inputs, out, normalizer, cotangents)
        return eqx.filter_vjp(dense, inputs)[1](cotangents)[0]

    forms = of_kernel, of_blocks, of_others
    return _by_platform(how, forms, result, inputs, out, normalizer, cotangents)


_attention = with_gradients(attended_by_platform, gradients_by_platform)


def _by_platform(how, forms, result, inputs, *more):
    arrays, static = eqx.partition(inputs, eqx.is_array)

    def form(of_inputs):
        def of_arrays(arrays, *more):
            found = of_inputs(eqx.combine(arrays, static), *more)
            return jax.tree.map(lambda x, like: x.astype(like.dtype), found, result)

        return of_arrays

    of_kernel, of_blocks, of_others = forms
    kernel = lambda **which: partial(of_kernel, how._replace(**which))

    def of_gpu(*arguments):
        # No GPU has run its kernels yet, so "auto" does not take them.
        found = how.asked_for and inputs.logits.score is None and lowers_triton()
        return (kernel(platform="gpu") if found else of_others)(*arguments)

    interpreted = kernel(platform=INTERPRETED, interpret=True)
    forms = dict(
        tpu=kernel(),
        cuda=of_gpu,
        rocm=of_gpu,
        cpu=interpreted if how.asked_for else of_blocks,
        default=of_others,
    )
    forms = {platform: form(of) for platform, of in forms.items()}
    error = _NO_SECOND if how.asked_for else None
    divided = how.shards is not None
    return by_platform(
        forms, result, arrays, *more, no_derivative=error, divided=divided
    )


_NO_SECOND = (
    "`implementation` must be 'blockwise' or 'dense' for second derivatives, as the "
    "fused kernels have first ones alone, but got 'pallas'. Use "
    "`implementation='blockwise'`."
)


def _say(how):
    """Warns that there is no kernel, if the user has asked for it."""
    if how.asked_for:
        warnings.warn(
            "`implementation='pallas'` goes by blocks. There are kernels for TPUs, and "
            "without a score for GPUs from compute capability 8.0 on. No compiler "
            "divides them among devices. Shard heads over Explicit axes of a mesh, or "
            "call `attend` under `jax.shard_map`. Name a GPU of another machine by "
            "`jax.sharding.use_abstract_mesh`.",
            stacklevel=2,
        )
