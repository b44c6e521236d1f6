"""The implementations of attention, and the choice among them.

Each implementation states which inputs it refuses, and which implementation takes the
refused inputs.
"""

import abc
import dataclasses
import warnings
from functools import partial
from typing import Literal

import equinox as eqx
import jax
from jaxtyping import Array

from .._sharding import by_heads, shards
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

    fallback = None
    """The implementation for refused inputs, or `None`."""
    reads_consecutive = False
    """Whether it needs to know at trace time that positions are consecutive."""

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
    fallback = Dense()

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
    dense: Dense

    def described(self, inputs: Inputs) -> dict[str, str]:
        blocks = Blockwise(self.size).described(inputs)["others"]
        return dict(cpu=blocks) | self.dense.described(inputs)

    def __call__(self, inputs: Inputs) -> Attended:
        arrays, static = eqx.partition(inputs, eqx.is_array)
        of = lambda how: lambda arrays: how(eqx.combine(arrays, static))
        cpu, default = of(Blockwise(self.size)), of(self.dense)
        # A derivative stores the residuals of both forms. The checkpoint keeps the
        # materialized logits out of them.
        default = jax.checkpoint(default, prevent_cse=False)
        return jax.lax.platform_dependent(arrays, cpu=cpu, default=default)


@dataclasses.dataclass(frozen=True)
class Fused(AbstractImplementation):
    """One kernel on the platforms that have it, and elsewhere the fallback."""

    how: _fused.How
    fallback: AbstractImplementation
    reads_consecutive = True

    def refusal(self, inputs: Inputs) -> str | None:
        return _fused.refusal(inputs, self.how.block_size)

    def described(self, inputs: Inputs) -> dict[str, str]:
        def kernel(platform):
            q, k = _fused.tile_of(platform, inputs, self.how.block_size)
            return f"one fused kernel, in tiles of {q} queries and {k} keys"

        ways = dict(tpu=kernel("tpu"))
        if self.how.asked_for:
            on_gpu = inputs.logits.score is None and _fused.runs_triton()
            ways |= dict(gpu=kernel("gpu")) if on_gpu else {}
            ways |= dict(cpu=f"{kernel('tpu')}, interpreted")
        return ways | self.fallback.described(inputs)

    def __call__(self, inputs: Inputs) -> Attended:
        return _fused.fused(inputs, self.how)


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

    how: _fused.How
    fallback: Ring

    def refusal(self, inputs: Inputs) -> str | None:
        refusal = self.fallback.refusal(inputs)
        return refusal or _fused.refusal(inputs, self.how.block_size)

    def described(self, inputs: Inputs) -> dict[str, str]:
        ways = Fused(self.how, Blockwise(self.how.size)).described(inputs)
        return {name: f"a ring, each shard by {way}" for name, way in ways.items()}

    def __call__(self, inputs: Inputs) -> Attended:
        return ring(inputs, _fused.hop(self.how), self.fallback.axis_name)


def choose(
    name: ImplementationName,
    q: Array,
    k: Array,
    v: Array,
    block_size: int | None,
    axis_name: str | None,
) -> AbstractImplementation:
    """The implementation that the user names, or the faster one for `"auto"`. The
    arguments are as in `attend`."""
    sizes = q.shape[0], q.shape[1], k.shape[1]
    size, dense = block_size or block_size_for(*sizes), Dense(shards(q, 1))
    auto, asked_for = name == "auto", name == "pallas"
    how = partial(_fused.How, size, block_size, asked_for)
    many = blocks_are_better(*sizes, on_cpu=True)
    if axis_name is not None:
        plain = Ring(size, axis_name)
        fuses = asked_for or (auto and many)
        return FusedRing(how(exact=True), plain) if fuses else plain
    how = partial(how, by_heads(q, k, v))
    if name == "dense" or (auto and not many):
        return dense
    if auto and not blocks_are_better(*sizes, on_cpu=False):
        return Fused(how(dense=True), BlockwiseOnCPU(size, dense))
    return Blockwise(size) if name == "blockwise" else Fused(how(), Blockwise(size))


def attention(implementation: AbstractImplementation, inputs: Inputs) -> Attended:
    """Attention by an implementation, or by its fallback for inputs that it refuses.

    **Raises:** a `ValueError` if there is no fallback.
    """
    refusal = implementation.refusal(inputs)
    if refusal is None:
        return implementation(inputs)
    if implementation.fallback is None:
        raise ValueError(refusal)
    how = getattr(implementation, "how", None)
    if how is not None and how.asked_for:
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
