"""The operator of PyTorch that runs what JAX computes."""

import functools
from collections.abc import Sequence

import jax
import torch
from torch import Tensor

from ._memory import device_of, dtype_of, jax_device, to_array, to_tensor
from ._programs import frame_with


@torch.library.custom_op("eqx_posemb::call", mutates_args=())
def call(program: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Runs a program on parameters and inputs."""
    function = frame_with(program).compiled(program)
    with jax.default_device(jax_device(device_of(tensors))):
        # PyTorch may write into an input once the operator returns, so all reads must
        # be complete.
        arrays = jax.block_until_ready(function([to_array(x) for x in tensors]))
    made = []
    for array in arrays:
        # Neither an input nor another result may share the memory of a result.
        made.append(to_tensor(array, *tensors, *made))
    return made


@call.register_fake
def _(program, tensors):
    # JAX compiles one program for each shape, and `int` specializes PyTorch's symbolic
    # sizes likewise.
    shapes = [tuple(map(int, x.shape)) for x in tensors]
    structs = [
        jax.ShapeDtypeStruct(shape, dtype_of(x))
        for shape, x in zip(shapes, tensors, strict=True)
    ]
    # Tracing in JAX gives the shapes, so that both libraries agree.
    made = jax.eval_shape(frame_with(program).function(program), structs)
    empty = functools.partial(torch.empty, device=device_of(tensors))
    return [empty(x.shape, dtype=getattr(torch, x.dtype.name)) for x in made]


def _setup_context(ctx, inputs, output):
    ctx.program, tensors = inputs
    # Only inputs are saved, and the derivative computes everything else again.
    ctx.save_for_backward(*tensors)


def _backward(ctx, gradients):
    wanted = ctx.needs_input_grad[1]
    # The backward pass calls the same operator, so derivatives of any order exist.
    program = f"{ctx.program}|vjp:{''.join(str(int(want)) for want in wanted)}"
    made = iter(call(program, [*ctx.saved_tensors, *gradients]))
    return None, [next(made) if want else None for want in wanted]


call.register_autograd(_backward, setup_context=_setup_context)


@call.register_vmap
def _(info, in_dims, program, tensors):
    pairs = list(zip(tensors, in_dims[1], strict=True))
    marks = "".join("0" if axis is None else "1" for _, axis in pairs)
    first = [x if axis is None else x.movedim(axis, 0) for x, axis in pairs]
    made = call(f"{program}|vmap:{marks}", first)
    return made, [0] * len(made)
