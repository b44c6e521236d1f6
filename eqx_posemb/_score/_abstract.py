"""What a score is."""

import abc
from typing import ClassVar

from jaxtyping import Array, Float, Num, PyTree

from .._given import Positions
from .._module import Part
from .._spread import ByDistance


class AbstractScore(Part):
    """Numbers to add to the logits that depend on positions and on content.

    A score may read more of a token than its query and key. The class attribute `reads`
    names the keywords of `__call__`, `q_state` or `k_state`, that
    [`eqx_posemb.PositionalEmbedding.logits`][] passes on.

    What it may not read is any token but the two: so a block of a score is that block
    of the whole, in whatever order blocks and tokens come, and caches, packing, shards
    and blockwise attention need nothing of it. CoPE, stick-breaking attention and PaTH
    read the keys between the two, by a sum or a product over them from right to left,
    and are therefore not here. One interface for the three would carry the state of
    each query from block to block; it would want keys sorted by position, where any
    order will do now, the mask within the part, as only seen keys count, and devices
    that wait for each other. And no more than CoPE would fill it: stick-breaking
    replaces the softmax, and PaTH the product of queries and keys. They are forms of
    attention, and not embeddings that one can swap.
    """

    reads: ClassVar[tuple[str, ...]] = ()

    @property
    def relative(self) -> bool:
        """True: what `prepare` gives depends on distances alone."""
        return True

    @abc.abstractmethod
    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries, before any rotation.
        - `k`: the keys, before any rotation, one head of them for each head of queries.
        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        What to add to the finished logits `scale * q·k`, in at least float32. On a
        block of queries and keys it must be that block of the whole.
        """

    def prepare(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> PyTree[Array] | None:
        """What `__call__` computes without queries and keys. Attention in blocks
        computes it once for all tiles with the same distances.

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Arrays that depend on the parameters and on distances alone, which `__call__`
        then gets as its keyword `prepared`; by default `None`, for nothing.
        """
        del q_positions, k_positions
        return None

    def by_distance(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> ByDistance | None:
        """What `__call__` gives where positions are runs of consecutive integers, in
        parts: for attention by blocks to have the vectors of all distances once.

        **Arguments:** those of `__call__`, of all queries and keys.

        **Returns:**

        Products of queries with a vector for each distance, and a number for each key;
        by default `None`, for what is not of this form. Attention does not call it for
        a score that reads states.
        """
        del q, k, q_positions, k_positions
        return None


def needed(
    name: str, state: Float[Array, "seq dim"] | None, dim: int
) -> Float[Array, "seq dim"]:
    """The hidden states that a score cannot do without."""
    if state is None or state.ndim != 2 or state.shape[1] != dim:
        raise ValueError(
            f"`{name}` must be the hidden states of the tokens, [seq, dim] with "
            f"dim={dim}, which this score reads, but got "
            f"{None if state is None else state.shape}."
        )
    return state
