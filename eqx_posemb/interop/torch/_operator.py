"""The operator of PyTorch that runs what JAX computes.

Operators of PyTorch's compiler take tensors and strings. So a string, the program,
stands for a function of lists of arrays: a digest of the module without its parameters,
and the method, the numbers of batch axes of its inputs, and the settings.
Transformations are appended: `vjp` for a derivative, `vmap` for a batch. A derivative
is a program, too, and has a derivative.
"""

import ast
import functools
import hashlib
import pickle
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import Tensor

from ..._rotary import AbstractProducts, AbstractRotary, each_head


# The path of a leaf as the name of a parameter: `parts.0.generator`.
name_of = functools.partial(jax.tree_util.keystr, simple=True, separator=".")
# JAX without 64-bit mode has no such dtypes.
_WIDE = torch.float64, torch.uint64, torch.complex128
_is_gap = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
_CURE = '`jax.config.update("jax_enable_x64", True)` before.'


class Frame:
    """A module without its parameters, and the programs that are compiled for it."""

    def __init__(self, shell: eqx.Module, digest: str):
        self.shell, self.digest = shell, digest
        self.names = tuple(leaves_of(shell, _is_gap))
        # Each program is compiled once for its shapes and dtypes.
        self.compiled = functools.cache(lambda p: eqx.filter_jit(self.function(p)))

    def __reduce__(self):
        return frame_of, (self.shell,)

    def function(self, program: str) -> Callable[[Sequence[jax.Array]], Any]:
        """The function that the program stands for."""
        _, called, *transforms = program.split("|")
        # `literal_eval` accepts literals only, so no program string can run code.
        function = functools.partial(self._run, *ast.literal_eval(called))
        for transform in transforms:
            name, marks = transform.split(":")
            function = _TRANSFORMS[name](function, [mark == "1" for mark in marks])
        return function

    def _run(self, method, depths, settings, arrays):
        # Half precision is for storage. Computations use at least float32.
        wide = (array.astype(jnp.result_type(float)) for array in arrays)
        fill = lambda leaf: next(wide) if _is_gap(leaf) else leaf
        module = jax.tree.map(fill, self.shell)
        call = lambda *inputs: _called(
            module, method, **dict(zip(depths, inputs, strict=True)), **settings
        )
        for _ in range(max(depths.values())):
            call = jax.vmap(call, [0 if n else None for n in depths.values()])
        return call(*arrays[len(self.names) :])


def _called(module: Any, method: str, **inputs: Any) -> list[jax.Array]:
    """What a method of the module returns, or a method of the rotation that a rotary
    embedding makes of positions."""
    if not isinstance(module, AbstractProducts | AbstractRotary):
        return [getattr(module, method)(**inputs)]
    if (length := inputs.pop("length", None)) is not None:
        module = module.for_length(length)
    if isinstance(module, AbstractProducts):
        return [module.products(**inputs)]
    rotation: Any = module(inputs["q_positions"])
    if method == "tables":
        return [rotation.cos, rotation.sin]
    q, turn = inputs["q"], getattr(rotation, method)
    alone = q.ndim == 2 and rotation.heads is None
    return [turn(q) if alone else each_head(turn, q, rotation.heads)]


# A frame and its compiled programs are freed together with its last module.
_FRAMES: weakref.WeakValueDictionary[str, Frame] = weakref.WeakValueDictionary()


def frame_of(module: eqx.Module) -> Frame:
    """The module without its arrays. Equal modules share it, and its compiled
    programs."""
    chosen, others = eqx.partition(module, eqx.is_inexact_array)
    shell = eqx.combine(jax.eval_shape(lambda: chosen), others)
    # The digest depends on the content alone, since compiled graphs may outlive a
    # process.
    digest = hashlib.sha256(pickle.dumps(shell)).hexdigest()[:16]
    return _FRAMES.setdefault(digest, Frame(shell, digest))


def _frame_with(program):
    frame = _FRAMES.get(program.split("|")[0])
    if frame is None:
        raise ValueError(
            "`program` must be of a module that is there, but got one of a module that "
            f"is gone, {program!r}. Keep what `as_torch` gave, or make it again."
        )
    return frame


def leaves_of(
    module: eqx.Module, chosen: Callable[[Any], bool] = eqx.is_inexact_array
) -> dict[str, Any]:
    """The parameters by name."""
    leaves = jax.tree_util.tree_leaves_with_path(module)
    return {name_of(path): leaf for path, leaf in leaves if chosen(leaf)}


def _vjp(function, wanted):
    """Takes the arguments and then the cotangents, and has the gradients wanted."""

    def back(arrays):
        primals, cotangents = arrays[: len(wanted)], arrays[len(wanted) :]
        # JAX differentiates only the arguments whose gradients PyTorch needs.
        chosen, others = eqx.partition(list(primals), wanted)
        _, pull = jax.vjp(lambda some: function(eqx.combine(some, others)), chosen)
        return jax.tree.leaves(pull(list(cotangents)))

    return back


def _vmap(function, mapped):
    axes = [0 if one else None for one in mapped]
    return lambda arrays: jax.vmap(lambda *each: function(each), axes)(*arrays)


_TRANSFORMS = {"vjp": _vjp, "vmap": _vmap}


@torch.library.custom_op("eqx_posemb::call", mutates_args=())
def call(program: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Runs a program on parameters and inputs."""
    function = _frame_with(program).compiled(program)
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
    structs = [
        jax.ShapeDtypeStruct(tuple(map(int, x.shape)), dtype_of(x)) for x in tensors
    ]
    # Tracing in JAX gives the shapes, so that both libraries agree.
    made = jax.eval_shape(_frame_with(program).function(program), structs)
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


def device_of(tensors: Sequence[Tensor]) -> torch.device:
    """The one device that all tensors are on."""
    devices = {tensor.device for tensor in tensors}
    if len(devices) != 1:
        names = " and ".join(sorted(map(str, devices))) or "no tensors"
        raise ValueError(
            f"Parameters and inputs must all be on one device, but got {names}. Move "
            "the module or its inputs with `.to`."
        )
    return devices.pop()


def jax_device(device: torch.device) -> Any:
    """The device of JAX that is the same piece of hardware."""
    try:
        if device.type not in ("cpu", "cuda"):
            raise RuntimeError("DLPack crosses between these two only on CPU and CUDA")
        # Both libraries number CUDA devices alike.
        return jax.devices(device.type)[device.index or 0]
    except (RuntimeError, IndexError) as error:
        raise ValueError(
            f"JAX must have the device of the tensors, {device}, but got {error}. "
            "Install JAX for it, or move module and inputs to the CPU."
        ) from error


def dtype_of(tensor: Tensor) -> Any:
    """The dtype of the array. Values that DLPack would narrow silently are an error."""
    if tensor.dtype in _WIDE and not jax.config.read("jax_enable_x64"):
        raise ValueError(
            "Tensors must have at most 32 bits where JAX is not in 64-bit mode, but "
            f"got {tensor.dtype}. Cast them, or run {_CURE}"
        )
    return jax.dtypes.canonicalize_dtype(str(tensor.dtype).removeprefix("torch."))


def to_array(tensor: Tensor) -> jax.Array:
    """An array in the memory of the tensor, if that is compact; else of a copy. It is
    to be gone before anybody writes into the tensor."""
    dtype = dtype_of(tensor)
    if tensor.layout != torch.strided:
        raise ValueError(
            f"Tensors must be dense, but got one of layout {tensor.layout}. Call its "
            "`to_dense`."
        )
    # JAX accepts the strides of a permutation alone, and no tensor that requires a
    # gradient.
    plain = tensor.detach().resolve_conj().resolve_neg().contiguous()
    if plain.dtype == torch.int64 and dtype == jnp.int32:
        # Positions from `torch.arange` are int64, and almost always small.
        wide, plain = plain, plain.to(torch.int32)
        if not torch.equal(plain.to(torch.int64), wide):
            raise ValueError(
                "Integers must fit into int32 where JAX is not in 64-bit mode, but got "
                f"one of {wide.abs().max()}. Run {_CURE}"
            )
    return jax.dlpack.from_dlpack(plain)


def to_tensor(array: jax.Array, *others: Tensor) -> Tensor:
    """A tensor in the memory of the array. If other tensors share this memory, it is a
    copy."""
    tensor = torch.from_dlpack(array)
    taken = {other.data_ptr() for other in others if other.numel()}
    # XLA may return the memory of an input, and results of an operator of PyTorch must
    # not alias inputs.
    return tensor.clone() if tensor.data_ptr() in taken else tensor
