"""The operator of PyTorch that runs what JAX computes."""

from collections.abc import Sequence

import jax
import torch
from torch import Tensor

from ._memory import check_dtype, device_of, jax_device, to_array, to_tensor
from ._programs import frame_with


@torch.library.custom_op("eqx_posemb::call", mutates_args=())
def call(program: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Runs a program on parameters and inputs."""
    function = frame_with(program).compiled(program)
    device = jax_device(device_of(list(tensors)))
    with jax.default_device(device):
        # PyTorch may write into a tensor as soon as this has returned: wait until all
        # has been read.
        arrays = jax.block_until_ready(function([to_array(x) for x in tensors]))
    made = []
    for array in arrays:
        made.append(to_tensor(array, *tensors, *made))
    return made


@call.register_fake
def _(program, tensors):
    tensors = list(tensors)
    device = device_of(tensors)
    structs = []
    for x in tensors:
        check_dtype(x)
        dtype = str(x.dtype).removeprefix("torch.")
        dtype = jax.dtypes.canonicalize_dtype(dtype)
        # One program for each shape, as in JAX: `int` says so to PyTorch's compiler.
        structs.append(jax.ShapeDtypeStruct(tuple(map(int, x.shape)), dtype))
    shapes = jax.eval_shape(frame_with(program).function(program), structs)
    return [
        torch.empty(x.shape, dtype=getattr(torch, x.dtype.name), device=device)
        for x in shapes
    ]


def _setup_context(ctx, inputs, output):
    ctx.program, tensors = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx, gradients):
    tensors, wanted = ctx.saved_tensors, ctx.needs_input_grad[1]
    marks = "".join("1" if want else "0" for want in wanted)
    # The same operator again, which is why there are derivatives of any order.
    made = iter(call(f"{ctx.program}|vjp:{marks}", [*tensors, *gradients]))
    return None, [next(made) if want else None for want in wanted]


call.register_autograd(_backward, setup_context=_setup_context)


@call.register_vmap
def _(info, in_dims, program, tensors):
    axes = in_dims[1]
    marks = "".join("0" if axis is None else "1" for axis in axes)
    first = [
        x if axis is None else x.movedim(axis, 0)
        for x, axis in zip(tensors, axes, strict=True)
    ]
    made = call(f"{program}|vmap:{marks}", first)
    return made, [0] * len(made)
