"""Arrays from tensors and back: in one memory where that is safe, never narrowed."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import torch
from torch import Tensor


# JAX without 64-bit mode has no such dtypes.
_WIDE = torch.float64, torch.uint64, torch.complex128
_CURE = '`jax.config.update("jax_enable_x64", True)` before.'


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


def copy_of(array: jax.Array) -> Tensor:
    """A tensor of its own: optimizers write into parameters; arrays never change."""
    return torch.from_dlpack(jnp.asarray(array)).clone()
