"""The implementations of attention, and the choice among them.

Each implementation states which inputs it refuses, and which implementation takes the
refused inputs.
"""

import abc
import dataclasses
import warnings
from typing import Literal

import equinox as eqx
import jax

from . import _fused
from ._blockwise import blockwise
from ._choose import block_size_for, blocks_are_better
from ._dense import dense, dense_in_rows, dense_in_shards
from ._inputs import Attended, Inputs
from ._ring import by_blocks, ring


ImplementationName = Literal["auto", "dense", "blockwise", "pallas"]
IMPLEMENTATIONS: tuple[ImplementationName, ...] = "auto", "dense", "blockwise", "pallas"


@dataclasses.dataclass(frozen=True)
class AbstractImplementation(abc.ABC):
    """A way to compute attention. It is static, so programs are compiled for it."""

    @property
    def fallback(self) -> "AbstractImplementation | None":
        """The implementation for refused inputs, or `None`."""
        return None

    @property
    def reads_consecutive(self) -> bool:
        """Whether it needs to know at trace time that positions are consecutive."""
        return False

    def refusal(self, inputs: Inputs) -> str | None:
        """The reason for which it refuses the inputs; `None` if it takes them."""
        del inputs
        return None

    @abc.abstractmethod
    def described(self, inputs: Inputs) -> dict[str, str]:
        """How it computes attention, in words, by platform. `"others"` stands for all
        platforms without an entry."""

    @abc.abstractmethod
    def __call__(self, inputs: Inputs) -> Attended:
        """The attended values and the log-sum-exp of the logits."""


@dataclasses.dataclass(frozen=True)
class Dense(AbstractImplementation):
    """Materialized logits. `shards` is the number of shards of the queries."""

    shards: int = 1

    def described(self, inputs: Inputs) -> dict[str, str]:
        del inputs
        return dict(others="materialized logits")

    def __call__(self, inputs: Inputs) -> Attended:
        # The compiler would exchange terms of a score beside the keys.
        if self.shards > 1 and inputs.logits.score is not None:
            return dense_in_shards(inputs, self.shards)
        return dense(inputs)


@dataclasses.dataclass(frozen=True)
class Blockwise(AbstractImplementation):
    """Tiles of `size` queries and keys, or of `size` queries and all keys for parts
    that read the keys between two tokens."""

    size: int

    @property
    def fallback(self) -> AbstractImplementation:
        return Dense()

    def refusal(self, inputs: Inputs) -> str | None:
        if 0 in (inputs.q.shape[1], inputs.k.shape[1]):
            return "There are no tokens to cut into blocks."
        return None

    def described(self, inputs: Inputs) -> dict[str, str]:
        if inputs.logits.between is not None:
            return dict(others=f"blocks of {self.size} queries, with all keys")
        return dict(others=f"blocks of {self.size} queries and keys")

    def __call__(self, inputs: Inputs) -> Attended:
        if inputs.logits.between is not None:
            return dense_in_rows(inputs, self.size)
        return blockwise(inputs, self.size)


@dataclasses.dataclass(frozen=True)
class BlockwiseOnCPU(AbstractImplementation):
    """Tiles on a CPU, and materialized logits elsewhere."""

    size: int
    shards: int

    def described(self, inputs: Inputs) -> dict[str, str]:
        blocks = Blockwise(self.size).described(inputs)["others"]
        return dict(cpu=blocks, others="materialized logits")

    def __call__(self, inputs: Inputs) -> Attended:
        arrays, static = eqx.partition(inputs, eqx.is_array)
        of = lambda how: lambda arrays: how(eqx.combine(arrays, static))
        cpu, default = of(Blockwise(self.size)), of(Dense(self.shards))
        # A derivative stores the residuals of both forms. The checkpoint keeps the
        # materialized logits out of them.
        default = jax.checkpoint(default, prevent_cse=False)
        return jax.lax.platform_dependent(arrays, cpu=cpu, default=default)


@dataclasses.dataclass(frozen=True)
class Fused(AbstractImplementation):
    """One kernel on the platforms that have it, and elsewhere the fallback."""

    plain: Blockwise | BlockwiseOnCPU
    block_size: int | None
    """The tile size that the user gave, or `None`."""
    asked_for: bool
    """Whether the user gave `"pallas"`, and not `"auto"`."""

    @property
    def fallback(self) -> AbstractImplementation:
        return self.plain

    @property
    def reads_consecutive(self) -> bool:
        return True

    def refusal(self, inputs: Inputs) -> str | None:
        return _fused.refusal(inputs, self.block_size)

    def described(self, inputs: Inputs) -> dict[str, str]:
        def kernel(platform):
            q, k = _fused.tile_of(platform, inputs, self.block_size)
            return f"one fused kernel, in tiles of {q} queries and {k} keys"

        ways = dict(tpu=kernel("tpu"))
        if self.asked_for:
            on_gpu = inputs.logits.score is None and _fused.runs_triton()
            ways |= dict(gpu=kernel("gpu")) if on_gpu else {}
            ways |= dict(cpu=f"{kernel('tpu')}, interpreted")
        return ways | self.plain.described(inputs)

    def __call__(self, inputs: Inputs) -> Attended:
        materialized = isinstance(self.plain, BlockwiseOnCPU)
        how = self.plain.size, self.block_size, materialized, self.asked_for
        return _fused.fused(inputs, _fused.How(*how))


@dataclasses.dataclass(frozen=True)
class Ring(AbstractImplementation):
    """Tiles, with keys that move from device to device along a mesh axis."""

    size: int
    axis_name: str

    def refusal(self, inputs: Inputs) -> str | None:
        if inputs.logits.between is not None:
            return (
                "`axis_name` must be None for an embedding that reads all keys between "
                f"two tokens, as a {inputs.logits.between} does, but got "
                f"{self.axis_name!r}. Gather the keys on every device."
            )
        if inputs.rules.mask is None:
            return None
        return (
            "`mask` must be None in a ring, where no device has all keys, but got "
            f"shape {inputs.rules.mask.shape}. Use `q_segments` and `k_segments`."
        )

    def described(self, inputs: Inputs) -> dict[str, str]:
        del inputs
        return dict(others=f"a ring, in blocks of {self.size} queries and keys")

    def __call__(self, inputs: Inputs) -> Attended:
        return ring(inputs, by_blocks(self.size), self.axis_name)


@dataclasses.dataclass(frozen=True)
class FusedRing(AbstractImplementation):
    """One kernel for each shard of keys, on the platforms that have it."""

    plain: Ring
    block_size: int | None
    asked_for: bool

    @property
    def fallback(self) -> AbstractImplementation:
        return self.plain

    def refusal(self, inputs: Inputs) -> str | None:
        return self.plain.refusal(inputs) or _fused.refusal(inputs, self.block_size)

    def described(self, inputs: Inputs) -> dict[str, str]:
        fused = Fused(Blockwise(self.plain.size), self.block_size, self.asked_for)
        ways = fused.described(inputs)
        return {name: f"a ring, each shard by {way}" for name, way in ways.items()}

    def __call__(self, inputs: Inputs) -> Attended:
        how = self.plain.size, self.block_size, False, self.asked_for, True
        hop = _fused.hop(_fused.How(*how))
        return ring(inputs, hop, self.plain.axis_name)


def choose(
    name: ImplementationName,
    heads: int,
    counts: tuple[int, int],
    block_size: int | None,
    axis_name: str | None,
    shards: int,
) -> AbstractImplementation:
    """The implementation that the user names, or the faster one for `"auto"`.

    **Arguments:**

    - `name`: the argument `implementation` of `attend`.
    - `heads`: the number of heads of queries.
    - `counts`: the numbers of queries and keys.
    - `block_size`, `axis_name`: as in `attend`.
    - `shards`: the number of devices that queries are sharded over.
    """
    size = block_size or block_size_for(heads, *counts)
    if axis_name is not None:
        plain, asked_for = Ring(size, axis_name), name == "pallas"
        many = blocks_are_better(heads, *counts, on_cpu=True)
        if asked_for or (name == "auto" and many):
            return FusedRing(plain, block_size, asked_for)
        return plain
    if name == "dense":
        return Dense(shards)
    if name != "auto":
        plain = Blockwise(size)
        return plain if name == "blockwise" else Fused(plain, block_size, True)
    if not blocks_are_better(heads, *counts, on_cpu=True):
        return Dense(shards)
    if blocks_are_better(heads, *counts, on_cpu=False):
        return Fused(Blockwise(size), block_size, False)
    return Fused(BlockwiseOnCPU(size, shards), block_size, False)


def attention(implementation: AbstractImplementation, inputs: Inputs) -> Attended:
    """Attention by an implementation, or by its fallback for inputs that it refuses.

    **Raises:** a `ValueError` if there is no fallback.
    """
    refusal = implementation.refusal(inputs)
    if refusal is None:
        return implementation(inputs)
    if implementation.fallback is None:
        raise ValueError(refusal)
    if getattr(implementation, "asked_for", False):
        warnings.warn(
            f"`implementation='pallas'` goes by blocks. {refusal}", stacklevel=2
        )
    return attention(implementation.fallback, inputs)


def explained(implementation: AbstractImplementation, inputs: Inputs) -> str:
    """How `attention` computes on each platform, in words, and why without a kernel."""
    refusal = implementation.refusal(inputs)
    if refusal is None:
        ways = implementation.described(inputs)
        return "\n".join(f"{platform}: {way}" for platform, way in ways.items())
    if implementation.fallback is None:
        raise ValueError(refusal)
    text = explained(implementation.fallback, inputs)
    return f"{text}\nThere is no fused kernel. {refusal}"
