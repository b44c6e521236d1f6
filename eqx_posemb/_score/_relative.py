"""Products of queries with a vector for each distance, which most scores share."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .._given import check_both, check_integers, check_sequence, in_common, Positions
from .._module import Module
from .._phase import as_float
from .._spread import (
    all_distances,
    are_consecutive,
    banded,
    ByDistance,
    either,
)
from .._symbolic import error_if, is_less
from ._abstract import AbstractScore


class AbstractBasis(Module):
    """Features of a distance, which a score projects to channels."""

    @abc.abstractmethod
    def along(self, delta: Int[Array, " n"]) -> Float[Array, "n features"]:
        """The features of each distance, key minus query."""

    @abc.abstractmethod
    def of_pairs(
        self,
        weights: Float[Array, "heads q features"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """The features of the distance of every pair, weighted by the query, without
        materializing them."""


class AbstractRelative(AbstractScore):
    r"""$u \cdot k_j + (q_i + v) \cdot W \phi(p_j - p_i)$, what Transformer-XL and
    Enformer have in common."""

    u: eqx.AbstractVar[Float[Array, "heads head_dim"]]
    v: eqx.AbstractVar[Float[Array, "heads head_dim"]]
    weight: eqx.AbstractVar[Float[Array, "heads head_dim features"]]
    basis: eqx.AbstractVar[AbstractBasis]

    @abc.abstractmethod
    def _scaled(
        self,
        q: Float[Array, "heads q dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> tuple[Float[Array, "heads q dim"], float]:
        """Returns the queries of the sum, and the factor of the whole sum."""

    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
        *,
        prepared: Float[Array, "heads distances head_dim"] | None = None,
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries.
        - `k`: the keys, one head of them for each head of queries.
        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.
        - `prepared`: what `prepare` gives for them, if it is at hand.

        **Returns:**

        What to add to the logits, in JAX's default float dtype.
        """
        with jax.named_scope(f"eqx_posemb.{type(self).__name__}"):
            check_sequences(q_positions, k_positions)
            q, factor = self._scaled(q, q_positions, k_positions)
            x, of_keys = self._terms(q, k)

            def of_pairs(q_positions, k_positions):
                weights = jnp.einsum("hqd,hdf->hqf", x, as_float(self.weight))
                return self.basis.of_pairs(weights, q_positions, k_positions)

            if self._few(q_positions):
                far = of_pairs(q_positions, k_positions)
            else:
                vectors = self._along if prepared is None else lambda _: prepared
                far = with_vectors(x, vectors, q_positions, k_positions, of_pairs)
            return factor * (of_keys[:, None] + far)

    def prepare(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Float[Array, "heads distances head_dim"] | None:
        """The projected features of each distance in ascending order, for consecutive
        positions; zeros if positions turn out not to be consecutive at run time."""
        if self._few(q_positions) or not _may_be_banded(q_positions, k_positions):
            return None
        consecutive = are_consecutive(q_positions, k_positions)
        if consecutive is False:
            return None
        q, k = in_common(q_positions, k_positions)
        vectors = lambda: self._along(all_distances(q, k))
        like = jax.eval_shape(vectors)
        return either(consecutive, vectors, lambda: jnp.zeros_like(like))

    def by_distance(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> ByDistance | None:
        # Computing by pairs is less work for few queries.
        if self._few(q_positions):
            return None
        q, factor = self._scaled(q, q_positions, k_positions)
        x, of_keys = (factor * term for term in self._terms(q, k))
        return by_distance(x, of_keys, self._along, q_positions, k_positions)

    def _terms(self, q, k):
        """The vectors that multiply the projected features, and the term of each
        key."""
        q, k, u, v = map(as_float, (q, k, self.u, self.v))
        return q + v[:, None], jnp.einsum("hd,hkd->hk", u, k)

    def _few(self, q_positions):
        """Whether it is less work to take each query to the features than to bring the
        features of every distance to them."""
        return is_less(q_positions.shape[0], self.weight.shape[1] + 1)

    def _along(self, delta):
        return jnp.einsum("hdf,nf->hnd", as_float(self.weight), self.basis.along(delta))


def _may_be_banded(q, k):
    # With a single query, pairs and distances are equally many.
    few = is_less(q.size, 2) or is_less(k.size, 1)
    return jnp.issubdtype(q.dtype, jnp.integer) and not few


def by_distance(
    x: Float[Array, "heads q dim"],
    of_keys: Float[Array, "heads k"],
    vectors: Callable[[Int[Array, " n"]], Float[Array, "*heads n dim"]],
    q_positions: Num[Positions, " q"],
    k_positions: Num[Positions, " k"],
) -> ByDistance | None:
    """A score in its form for consecutive positions; `None` if it has no such form."""
    if not _may_be_banded(q_positions, k_positions):
        return None
    q, k = in_common(q_positions, k_positions)
    consecutive = are_consecutive(q_positions, k_positions)
    return ByDistance(x, of_keys, vectors, k[0] - q[0], consecutive)


def with_vectors(
    x: Float[Array, "heads q dim"],
    vectors: Callable[[Int[Array, " n"]], Float[Array, "*heads n dim"]],
    q_positions: Num[Positions, " q"],
    k_positions: Num[Positions, " k"],
    of_pairs: Callable[..., Float[Array, "heads q k"]],
) -> Float[Array, "heads q k"]:
    """The product of each query with the vector of its distance to each key.

    **Arguments:**

    - `x`: the queries.
    - `vectors`: gives the vectors of some distances, key minus query, for all heads or
        for each. Called where positions are consecutive.
    - `q_positions`, `k_positions`: the positions.
    - `of_pairs`: gives the products of all pairs at any positions.
    """
    check_sequences(q_positions, k_positions)
    if q_positions.shape[0] != x.shape[1]:
        raise ValueError(
            f"`positions` must have a position for each of the {x.shape[1]} tokens, "
            f"but got shape {q_positions.shape}."
        )
    q, k = in_common(q_positions, k_positions)
    if not _may_be_banded(q, k):
        return of_pairs(q, k)
    return either(
        are_consecutive(q_positions, k_positions),
        lambda: banded(x, vectors(all_distances(q, k))),
        lambda: of_pairs(q, k),
    )


def within(
    q: Float[Array, "heads q dim"],
    q_positions: Int[Positions, "q *axes"],
    k_positions: Int[Positions, "k *axes"],
    lowest: int | tuple[int, ...] | None,
    highest: int | tuple[int, ...] | None,
    what: str,
) -> Float[Array, "heads q dim"]:
    """Returns the queries, with a run-time error if a distance is out of bounds.

    The check is not at the use of the distances. A batched `cond` computes both
    branches, and would raise in the unused branch.
    """
    check_whole(q_positions, k_positions)
    if 0 in (q_positions.size, k_positions.size):
        return q
    of_q, of_k = in_common(q_positions, k_positions)
    wrong = jnp.zeros((), bool)
    if lowest is not None:
        least = jnp.min(of_k, axis=0) - jnp.max(of_q, axis=0)
        wrong |= jnp.any(least < jnp.array(lowest, of_q.dtype))
    if highest is not None:
        most = jnp.max(of_k, axis=0) - jnp.min(of_q, axis=0)
        wrong |= jnp.any(most > jnp.array(highest, of_q.dtype))
    return error_if(q, wrong, what)


def check_sequences(
    q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
) -> None:
    why = "for one distance to each pair"
    check_both(check_sequence, q_positions, k_positions, why)


def check_whole(
    q_positions: Num[Positions, "q *axes"], k_positions: Num[Positions, "k *axes"]
) -> None:
    """Raises an error unless positions are integers."""
    check_both(check_integers, q_positions, k_positions, "to look distances up with")
