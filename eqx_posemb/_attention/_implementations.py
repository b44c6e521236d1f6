"""The implementations of attention, and the choice among them.

Each says which inputs it does not take, and which implementation takes them instead.
"""

import abc
import dataclasses
from typing import Literal

from jaxtyping import Array, Float

from ._blockwise import blockwise
from ._choose import block_size_for, blocks_are_better
from ._dense import dense, dense_in_shards
from ._inputs import Inputs
from ._ring import ring


ImplementationName = Literal["auto", "dense", "blockwise"]
IMPLEMENTATIONS: tuple[ImplementationName, ...] = "auto", "dense", "blockwise"


@dataclasses.dataclass(frozen=True)
class AbstractImplementation(abc.ABC):
    """A way to compute attention: a static value."""

    @property
    def fallback(self) -> "AbstractImplementation | None":
        """The implementation for inputs that this one refuses, if there is one."""
        return None

    def refusal(self, inputs: Inputs) -> str | None:
        """Why it does not take the inputs; None if it takes them."""
        del inputs
        return None

    @abc.abstractmethod
    def __call__(self, inputs: Inputs) -> Float[Array, "heads q dim_v"]:
        """The attended values, in the dtype of the values."""


@dataclasses.dataclass(frozen=True)
class Dense(AbstractImplementation):
    """Materialized logits, of queries in so many shards."""

    shards: int = 1

    def __call__(self, inputs: Inputs) -> Float[Array, "heads q dim_v"]:
        # Scores by distance move rows of queries to their neighbors.
        if self.shards > 1 and inputs.logits.score is not None:
            return dense_in_shards(inputs, self.shards)
        return dense(inputs)


@dataclasses.dataclass(frozen=True)
class Blockwise(AbstractImplementation):
    """Tiles of `size` queries and keys."""

    size: int

    @property
    def fallback(self) -> AbstractImplementation:
        return Dense()

    def refusal(self, inputs: Inputs) -> str | None:
        if 0 in (inputs.q.shape[1], inputs.k.shape[1]):
            return "There are no tokens to cut into blocks."
        return None

    def __call__(self, inputs: Inputs) -> Float[Array, "heads q dim_v"]:
        return blockwise(inputs, self.size)


@dataclasses.dataclass(frozen=True)
class Ring(AbstractImplementation):
    """Tiles, of keys that move along an axis of a mesh."""

    size: int
    axis_name: str

    def refusal(self, inputs: Inputs) -> str | None:
        if inputs.rules.mask is None:
            return None
        return (
            "`mask` must be None in a ring, where no device has all keys, but got "
            f"shape {inputs.rules.mask.shape}. Use `q_segments` and `k_segments`."
        )

    def __call__(self, inputs: Inputs) -> Float[Array, "heads q dim_v"]:
        return ring(inputs, self.size, self.axis_name)


def choose(
    name: ImplementationName,
    heads: int,
    counts: tuple[int, int],
    block_size: int | None,
    axis_name: str | None,
    shards: int,
) -> AbstractImplementation:
    """The implementation that a user names, or the faster one.

    **Arguments:**

    - `name`: the argument `implementation` of `attend`.
    - `heads`: the number of heads of queries.
    - `counts`: the numbers of queries and keys.
    - `block_size`, `axis_name`: as in `attend`.
    - `shards`: the number of devices that queries are sharded over.
    """
    size = block_size or block_size_for(heads, *counts)
    if axis_name is not None:
        return Ring(size, axis_name)
    if name == "blockwise" or (name == "auto" and blocks_are_better(heads, *counts)):
        return Blockwise(size)
    return Dense(shards)


def attention(
    implementation: AbstractImplementation, inputs: Inputs
) -> Float[Array, "heads q dim_v"]:
    """Attention by an implementation, or by its fallback for inputs that it refuses.

    **Raises:** a `ValueError` if there is no fallback.
    """
    refusal = implementation.refusal(inputs)
    if refusal is None:
        return implementation(inputs)
    if implementation.fallback is None:
        raise ValueError(refusal)
    return attention(implementation.fallback, inputs)
