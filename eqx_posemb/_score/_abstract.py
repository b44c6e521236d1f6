"""The base class of scores."""

import abc

from jaxtyping import Array, Float, Num, PyTree

from .._given import Positions
from .._module import Part
from .._spread import ByDistance


class AbstractScore(Part):
    """A score: numbers that depend on positions and content, added to the logits.

    A score may read more of a token than its query and key. The class attribute `reads`
    names the keywords of `__call__`, `q_state` or `k_state`, that
    [`eqx_posemb.PositionalEmbedding.logits`][] passes on.

    A score reads the two tokens of a pair and no other token. A block of a score
    therefore equals the same block of the full score, in any order of blocks and
    tokens. Caches, packing, shards and blockwise attention need no further code.

    A score with the trait `"between"` also reads the keys between the two tokens, as
    [`eqx_posemb.CoPE`][] does. The keyword `seen` of `__call__` is then the mask, True
    where a query attends to a key, or `None`. Positions are the order that masks
    compare. Blocks have some queries and all keys, and a ring is refused.
    """

    @property
    def relative(self) -> bool:
        """True: the result of `prepare` depends on distances alone."""
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
        - `k`: the keys, before any rotation, with one head for each head of queries.
        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The score, in at least float32, which is added to the finished logits `scale *
        q·k`. On a block of queries and keys it must equal the same block of the full
        score. With the trait `"between"` this holds for blocks of queries with all
        keys, in any order.
        """

    def prepare(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> PyTree[Array] | None:
        """Computes the part of `__call__` that needs no queries and keys. Blockwise
        attention computes it once for all tiles with equal distances.

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Arrays that depend on the parameters and on distances alone. They are passed to
        `__call__` as the keyword `prepared`. `None`, the default, passes nothing.
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
        """The score of consecutive positions in parts, so that blockwise attention
        computes the vectors of all distances once.

        **Arguments:** as in `__call__`, for all queries and keys.

        **Returns:**

        Products of queries with a vector for each distance, and a number for each key.
        `None`, the default, means that the score has another form. Attention does not
        call it for a score that reads states.
        """
        del q, k, q_positions, k_positions
        return None
