"""The size of tiles, from the cycles of compiled programs."""

import jax


# Tiles are multiples of the lanes of a register.
STEP = 128
# The cost of a token in a block of each size, relative to blocks of 1,024. By the
# bundles of compiled kernels, tiles of 512 take 1.12 to 1.4 times as long as tiles of
# 1,024, and tiles of 256 take 2.6 times as long.
_COSTS = ((1024, 1.0), (512, 1.15), (256, 1.6), (128, 2.4))
# The memory of a core: at least 64 MiB from v5 on.
_MEMORY, _SMALL = 64 * 2**20, 16 * 2**20
_SMALL_KINDS = "TPU v2", "TPU v3", "TPU v4"


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


def memory() -> int:
    """The bytes of the memory of a core.

    For ahead-of-time compilation, the device of an abstract mesh names the kind.
    Without a name, the kind is v5 or newer.
    """
    return _SMALL if _kind().startswith(_SMALL_KINDS) else _MEMORY


def _kind():
    mesh = jax.sharding.get_abstract_mesh()
    device = getattr(mesh, "abstract_device", None)
    if device is None and jax.default_backend() == "tpu":
        device = jax.devices()[0]
    return "" if device is None else device.device_kind
