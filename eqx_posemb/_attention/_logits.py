"""The finished logits, of a whole sequence or of a tile of it."""

from typing import NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num, PyTree

from .._given import Positions
from .._low_rank import Factors, factors, side_by_side
from .._spread import ByDistance
from ._band import Band


class Tokens(eqx.Module):
    """What biases and scores know of queries or of keys."""

    content: Float[Array, "heads seq dim"] | None
    """Queries or keys before any rotation, if there is a score to read them."""
    positions: Num[Positions, "seq *axes"]
    state: PyTree[Array] | None
    order: Int[Array, " seq"] | None
    """The order that rules compare, where it is not the positions."""

    @property
    def compared(self) -> Num[Positions, "seq *axes"]:
        """The numbers that `causal` and `window` compare."""
        return self.positions if self.order is None else self.order


@runtime_checkable
class Bias(Protocol):
    """What attention asks of a bias."""

    @property
    def relative(self) -> bool: ...

    def __call__(self, q_positions, k_positions) -> Float[Array, "heads q k"]: ...


@runtime_checkable
class Score(Protocol):
    """What attention asks of a score."""

    @property
    def relative(self) -> bool: ...

    def __call__(self, q, k, q_positions, k_positions) -> Float[Array, "heads q k"]: ...

    def prepared(self, q_positions, k_positions) -> PyTree[Array] | None: ...

    def by_distance(self, q, k, q_positions, k_positions) -> ByDistance | None: ...


class Prepared(NamedTuple):
    """What goes by positions alone."""

    bias: Float[Array, "heads q k"] | None
    score: PyTree[Array] | None


class Logits(eqx.Module):
    """What queries and keys are compared by."""

    bias: Bias | None
    score: Score | None
    scale: float = eqx.field(static=True)
    soft_cap: float | None = eqx.field(static=True)

    @property
    def bare(self) -> bool:
        """Whether nothing is added to products."""
        return self.bias is None and self.score is None

    @property
    def relative(self) -> bool:
        """Whether tiles of the same distances share the bias, or what the score
        prepares if there is no bias."""
        shared = self.bias or self.score
        return shared is not None and shared.relative

    def prepared(self, q: Tokens, k: Tokens) -> Prepared:
        """The bias, and what the score computes without queries and keys."""
        positions = q.positions, k.positions
        bias = None if self.bias is None else self.bias(*positions)
        score = None if self.score is None else self.score.prepared(*positions)
        return Prepared(bias, score)

    def finished(
        self,
        products: Float[Array, "heads q k"],
        prepared: Prepared,
        q: Tokens,
        k: Tokens,
        band: Band | None = None,
    ) -> Float[Array, "heads q k"]:
        """Scaled products of rotated queries and keys, biases and scores, capped."""
        logits = self.scale * products
        if band is not None:
            logits = band.added_to(logits)
        if prepared.bias is not None:
            logits += _fitting("bias", prepared.bias, logits)
        if self.score is not None:
            more = dict(q_state=q.state, k_state=k.state, prepared=prepared.score)
            more = {name: x for name, x in more.items() if x is not None}
            score = self.score(*_each_head(q, k), q.positions, k.positions, **more)
            logits += _fitting("score", score, logits)
        if self.soft_cap is None:
            return logits
        return self.soft_cap * jnp.tanh(logits / self.soft_cap)

    def by_distance(self, q: Tokens, k: Tokens) -> ByDistance | None:
        """The score, if it is of that form where positions are runs."""
        if self.score is None or q.state is not None or k.state is not None:
            return None
        return self.score.by_distance(*_each_head(q, k), q.positions, k.positions)

    def low_rank(self, q: Tokens, k: Tokens) -> Factors | None:
        """Channels of queries and keys whose products are what is added to the scaled
        products of queries and keys, divided by the scale; None if nothing is."""
        positions, terms = (q.positions, k.positions), []
        if self.bias is not None:
            terms.append(factors("bias", self.bias, *positions))
        if self.score is not None:
            terms.append(factors("score", self.score, *_each_head(q, k), *positions))
        if not terms:
            return None
        of_q, of_k = side_by_side(*terms)
        return of_q / self.scale, of_k


def _fitting(name, term, logits):
    if term.shape != logits.shape:
        raise ValueError(
            f"`{name}` must give the shape [heads, q, k] of the logits, "
            f"{logits.shape}, but got {term.shape}. Build it for as many heads as `q` "
            "has."
        )
    return term.astype(logits.dtype)


def _each_head(q, k):
    """The content of queries, and that of keys for each head of them."""
    assert q.content is not None and k.content is not None
    group = q.content.shape[0] // k.content.shape[0]
    return q.content, jnp.repeat(k.content, group, axis=0)
