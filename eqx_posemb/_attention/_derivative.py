"""Attention whose derivative is a function of its own, and no trace of its steps."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import equinox as eqx
import jax
from jaxtyping import PyTree

from .._sharding import alike
from ._inputs import Attended


def with_gradients(
    attended: Callable[[Any, PyTree], Attended], gradients: Callable[..., PyTree]
) -> Callable[[Any, PyTree], Attended]:
    """Attention as a function `(how, inputs)` with a custom derivative.

    **Arguments:**

    - `attended`: the attended values and the log-sum-exp, from a static value `how` and
        a pytree of inputs.
    - `gradients`: the gradients with respect to the float arrays of the inputs, with
        `None` for all other leaves. It gets `how`, the inputs, both results of
        `attended`, and their cotangents.
    """

    # Static values have no derivative, so they are excluded from differentiation.
    @partial(jax.custom_vjp, nondiff_argnums=(0,))
    def call(static, floats, others):
        how, rest = static
        return attended(how, eqx.combine(floats, others, rest))

    def forward(static, floats, others):
        found: Attended = call(static, floats, others)
        # Residuals are the inputs and both results, in linear memory. Logits and
        # weights are computed anew.
        return found, (floats, others, *found)

    def backward(static, residuals, cotangents):
        how, rest = static
        floats, others, *found = residuals
        inputs = eqx.combine(floats, others, rest)
        # None is the cotangent of all integer and boolean arrays.
        return gradients(how, inputs, *found, cotangents), None

    call.defvjp(forward, backward)

    def attention(how: Hashable, inputs: PyTree) -> Attended:
        # `jax.custom_vjp` differentiates whole arguments, so float arrays are an
        # argument of their own.
        floats, others, rest = parted(inputs)
        # A gradient must vary over the same axes of a mesh as its primal.
        floats, others = alike((floats, others))
        return call((how, rest), floats, others)

    return attention


def parted(inputs: PyTree) -> tuple[PyTree, PyTree, PyTree]:
    """The float arrays, the other arrays, and the static rest of a pytree."""
    floats, rest = eqx.partition(inputs, eqx.is_inexact_array)
    return floats, *eqx.partition(rest, eqx.is_array)
