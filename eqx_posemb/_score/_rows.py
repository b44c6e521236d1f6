"""Products of queries with the rows of a table, which has one for each distance."""

import abc
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from .._given import Positions
from .._phase import as_float
from .._positions import distance
from .._spread import ByDistance, look_up
from ._abstract import AbstractScore
from ._relative import by_distance, check_whole, with_vectors


class Rows(NamedTuple):
    """Queries with a table of vectors; or keys, for products with the queries."""

    x: Float[Array, "heads seq dim"]
    vectors: Float[Array, "*heads rows dim"]
    """A table, for all heads or for each head."""
    row: Callable[[Int[Array, "*shape"]], Int[Array, "*shape"]]
    """The row of a distance, other position minus position."""
    inside: Callable[[Int[Array, "*shape"]], Bool[Array, "*shape"]] | None = None
    """Which distances have a row. The product is zero for all others."""
    scale: float = 1.0
    """The factor of all products."""

    def along(self, delta: Int[Array, " n"]) -> Float[Array, "*heads n dim"]:
        """The vector of each distance."""
        rows = as_float(self.vectors).at[..., self.row(delta), :].get(mode="clip")
        if self.inside is None:
            return rows
        return jnp.where(self.inside(delta)[:, None], rows, 0)

    def products(
        self, positions: Int[Positions, " seq"], others: Int[Positions, " others"]
    ) -> Float[Array, "heads seq others"]:
        """The product of each query at `positions` with the vector of its distance to
        each of the other positions."""
        x, vectors = as_float(self.x), as_float(self.vectors)
        sums = "hqd,nd->hqn" if vectors.ndim == 2 else "hqd,hnd->hqn"

        def of_pairs(positions, others):
            delta = distance(positions, others)
            values = look_up(jnp.einsum(sums, x, vectors), self.row(delta))
            if self.inside is None:
                return values
            return jnp.where(self.inside(delta)[None], values, 0)

        products = with_vectors(x, self.along, positions, others, of_pairs)
        return self.scale * products


class AbstractTable(AbstractScore):
    """Scores by the rows of one table: one row for each query, and no term of keys."""

    @abc.abstractmethod
    def _rows(
        self,
        q: Float[Array, "heads q dim"],
        q_positions: Int[Positions, " q"],
        k_positions: Int[Positions, " k"],
        q_state: Float[Array, "q model_dim"] | None,
    ) -> Rows:
        """The vectors that multiply rows, and their table."""

    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Int[Positions, " q"],
        k_positions: Int[Positions, " k"],
        *,
        q_state: Float[Array, "q model_dim"] | None = None,
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries; not read by a score that reads `q_state`.
        - `k`: the keys; not read.
        - `q_positions`: the positions of the queries, integers.
        - `k_positions`: the positions of the keys, integers.
        - `q_state`: the hidden states that the queries were projected from, all heads
            side by side, for a score that reads them.

        **Returns:**

        What to add to the logits, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions are not integers, or if a score needs
        `q_state` and gets none, or one of another width.
        """
        del k
        with jax.named_scope(f"eqx_posemb.{type(self).__name__}"):
            check_whole(q_positions, k_positions)
            rows = self._rows(q, q_positions, k_positions, q_state)
            return rows.products(q_positions, k_positions)

    def by_distance(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Int[Positions, " q"],
        k_positions: Int[Positions, " k"],
    ) -> ByDistance | None:
        check_whole(q_positions, k_positions)
        rows = self._rows(q, q_positions, k_positions, None)
        x, no_term = rows.scale * as_float(rows.x), jnp.zeros_like(as_float(k[..., 0]))
        return by_distance(x, no_term, rows.along, q_positions, k_positions)
