"""The base class of parts that replace the products of queries and keys."""

import abc

from jaxtyping import Array, Float, Num

from .._given import Positions
from .._module import Part


class AbstractProducts(Part):
    """Gives each pair of a query and a key a product of its own.

    It fills the slot of a rotary embedding in a [`eqx_posemb.PositionalEmbedding`][],
    where the product of a pair is not the product of one rotated query and one rotated
    key. Keys are cached as they are.

    The class attribute `reads` names the states of tokens that `products` reads by
    keyword, `q_state` or `k_state`. A part with the trait `"between"` gets the keyword
    `seen`, as [`eqx_posemb.abstract.AbstractScore`][] does.
    """

    @property
    def dynamic(self) -> bool:
        """Whether the products depend on the context length."""
        return False

    def for_length(self, length: int | Num[Array, ""]) -> "AbstractProducts":
        """The part in a context of `length` positions: itself, unless it is
        `dynamic`."""
        del length
        return self

    @abc.abstractmethod
    def products(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`, `k`: queries and keys before any rotation.
        - `q_positions`, `k_positions`: their positions.

        **Returns:**

        The product of each pair, not scaled, in at least float32. On a block of queries
        and keys it must equal the same block of all products.
        """


def check_queries(
    part: str, q: Float[Array, "heads q dim"], heads: int, head_dim: int
) -> None:
    """Queries must have the heads and channels of the part."""
    if q.shape[0] != heads or q.shape[-1] != head_dim:
        raise ValueError(
            f"`q` must have shape [heads, q, dim] with {heads} heads and {head_dim} "
            f"channels, as this `{part}` has, but got {q.shape}."
        )
