"""Products of queries with a vector for each distance, which most scores share."""

import abc
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num

from .._given import check_integers, check_sequence, in_common, Positions
from .._module import Module
from .._phase import as_float
from .._positions import distance
from .._spread import (
    all_distances,
    are_consecutive,
    banded,
    ByDistance,
    either,
    look_up,
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

    def _sums(self, q, k, q_positions, k_positions, prepared):
        x, of_keys = self._terms(q, k)

        def of_pairs(q_positions, k_positions):
            weights = jnp.einsum("hqd,hdf->hqf", x, as_float(self.weight))
            return self.basis.of_pairs(weights, q_positions, k_positions)

        if self._few(q_positions):
            far = of_pairs(q_positions, k_positions)
        else:
            vectors = self._along if prepared is None else lambda _: prepared
            far = with_vectors(x, vectors, q_positions, k_positions, of_pairs)
        return of_keys[:, None] + far

    def _by_distance(self, q, k, q_positions, k_positions, scale):
        """The score by distance times `scale`; `None` where computing by pairs is less
        work."""
        if self._few(q_positions) or not _may_be_banded(q_positions, k_positions):
            return None
        x, of_keys = self._terms(q, k)
        of_q, of_k = in_common(q_positions, k_positions)
        return ByDistance(
            scale * x,
            scale * of_keys,
            self._along,
            first=of_k[0] - of_q[0],
            consecutive=are_consecutive(q_positions, k_positions),
        )

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
    for positions in q_positions, k_positions:
        check_sequence("positions", positions, "for one distance to each pair")
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


def with_rows(
    x: Float[Array, "heads seq dim"],
    vectors: Float[Array, "*heads rows dim"],
    row: Callable[[Int[Array, "*shape"]], Int[Array, "*shape"]],
    positions: Int[Positions, " seq"],
    others: Int[Positions, " others"],
    *,
    inside: Callable[[Int[Array, "*shape"]], Bool[Array, "*shape"]] | None = None,
) -> Float[Array, "heads seq others"]:
    """The product of each query with the vector of its distance to each key; or of each
    key with that to each query.

    **Arguments:**

    - `x`: the queries, or the keys.
    - `vectors`: a table, for all heads or for each.
    - `row`: says which row of it a distance has, `others - positions`.
    - `positions`: where `x` is.
    - `others`: where the others are.
    - `inside`: which distances have a row; the product is zero for the rest.
    """
    x, vectors = as_float(x), as_float(vectors)
    products = "hqd,nd->hqn" if vectors.ndim == 2 else "hqd,hnd->hqn"

    def along(delta):
        rows = vectors.at[..., row(delta), :].get(mode="clip")
        return rows if inside is None else jnp.where(inside(delta)[:, None], rows, 0)

    def of_pairs(positions, others):
        delta = distance(positions, others)
        values = look_up(jnp.einsum(products, x, vectors), row(delta))
        return values if inside is None else jnp.where(inside(delta)[None], values, 0)

    return with_vectors(x, along, positions, others, of_pairs)


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


def check_whole(
    q_positions: Num[Positions, "q *axes"], k_positions: Num[Positions, "k *axes"]
) -> None:
    """Raises an error unless positions are integers."""
    for name, positions in ("q", q_positions), ("k", k_positions):
        check_integers(f"{name}_positions", positions, "to look distances up with")
