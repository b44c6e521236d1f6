"""The size of tiles, from compiled programs."""

import importlib
from typing import Literal

import jax

from .._inputs import Inputs


# Tiles are multiples of the lanes of a register.
STEP = 128
# The cost of a token in a block of each size, relative to blocks of 1,024. By the
# bundles of compiled kernels, tiles of 512 take 1.12 to 1.4 times as long as tiles of
# 1,024, and tiles of 256 take 2.6 times as long.
_COSTS = ((1024, 1.0), (512, 1.15), (256, 1.6), (128, 2.4))
# The memory of a core: at least 64 MiB from v5 on.
_MEMORY, _SMALL = 64 * 2**20, 16 * 2**20
_SMALL_KINDS = "TPU v2", "TPU v3", "TPU v4"
# The bytes of a block of keys on a GPU.
_BLOCK = 2**13
# The compute capability that Triton starts from.
_OLDEST_GPU = 8


def tile_of(
    platform: Literal["gpu", "tpu"], inputs: Inputs, block_size: int | None
) -> tuple[int, int]:
    """The number of queries, and of keys, in a tile."""
    if platform == "tpu":
        q, k = (block(x.shape[1], block_size) for x in (inputs.q, inputs.k))
        return q, k
    width = max(width_of("gpu", x.shape[-1]) for x in (inputs.q, inputs.v))
    return gpu_tile(width, inputs.q.dtype.itemsize)


def width_of(platform: Literal["gpu", "tpu"], channels: int) -> int:
    """The number of channels that a kernel pads the channels to."""
    if platform == "tpu":
        return channels
    # Triton has arrays whose sizes are powers of two, and products of 16 channels.
    return max(16, 1 << (channels - 1).bit_length())


def gpu_tile(width: int, itemsize: int) -> tuple[int, int]:
    """The queries and keys of a tile that fits into the memory of a GPU's core, 99 KiB
    for the smallest, and whose programs have few numbers outside of the registers."""
    keys = max(16, min(32, _BLOCK // (width * itemsize)))
    # Float32 has no tensor cores, and takes twice the registers.
    return keys * (4 if itemsize == 2 else 2), keys


def block(count: int, size: int | None) -> int:
    """The number of tokens in a block, for `count` tokens; `size` if it is given."""
    if size is not None:
        return size
    largest = 1024 if memory() > _SMALL else 512
    cost = lambda entry: (count + -count % entry[0]) * entry[1]
    return min((entry for entry in _COSTS if entry[0] <= largest), key=cost)[0]


def keeps(places: int) -> bool:
    """Whether the expanded strip stays in the memory of a core, and in the backward
    pass its gradient as well."""
    return 2 * 128 * 4 * places <= memory() // 4


def holds(places: int, width: int) -> bool:
    """Whether the gradient of a vector for each place fits into the memory of a core,
    while the gradient of the last head is copied."""
    return 2 * 4 * places * width <= memory() // 2


def memory() -> int:
    """The bytes of the memory of a core.

    For ahead-of-time compilation, the device of an abstract mesh names the kind.
    Without a name, the kind is v5 or newer.
    """
    return _SMALL if is_small() else _MEMORY


def is_small() -> bool:
    """Whether the core is of TPU v4 or older. It also rotates all rows by one
    amount."""
    return _kind().startswith(_SMALL_KINDS)


def _kind():
    device = _elsewhere()
    if device is None and jax.default_backend() == "tpu":
        device = jax.devices()[0]
    return "" if device is None else device.device_kind


def _elsewhere():
    """The device that an abstract mesh names, or `None`."""
    return getattr(jax.sharding.get_abstract_mesh(), "abstract_device", None)


def lowers_triton() -> bool:
    """Whether JAX lowers kernels of a GPU here."""
    # JAX 0.12 announces that Pallas will have no Triton.
    try:
        importlib.import_module("jax.experimental.pallas.triton")
    except ImportError:
        return False
    # JAX 0.12 asks for the kind of GPU, and JAX 0.10 does not.
    if jax.__version_info__ < (0, 11) or jax.default_backend() == "gpu":
        return runs_triton()
    return runs_triton() and _elsewhere() is not None


def runs_triton() -> bool:
    """Whether the GPU of this machine has a kernel. A program for another machine is
    for such a GPU."""
    try:
        device = jax.local_devices(backend="gpu")[0]
    except RuntimeError:
        return True
    # A GPU of AMD has the name of an architecture.
    major = str(getattr(device, "compute_capability", "")).partition(".")[0]
    return not major.isdigit() or int(major) >= _OLDEST_GPU
