"""The finished logits of a whole sequence or of one tile."""

from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from .._bias import AbstractBias
from .._given import Positions
from .._low_rank import Factors, factors, side_by_side
from .._rotary import AbstractProducts
from .._score import AbstractScore
from .._sharding import repeated
from .._spread import ByDistance
from ._band import Band


class Tokens(eqx.Module):
    """The data of queries or keys that biases and scores read."""

    content: Float[Array, "heads seq dim"] | None
    """Queries or keys before any rotation, if a score or an extension reads them."""
    positions: Num[Positions, "seq *axes"]
    # All arrays of a state have tokens first, so that blocks can slice them.
    state: PyTree[Array] | None
    order: Int[Positions, " seq"] | None
    """The order that masks compare; `None` if they compare positions."""

    @property
    def compared(self) -> Num[Positions, "seq *axes"]:
        """The numbers that `causal` and `window` compare."""
        return self.positions if self.order is None else self.order


class Prepared(NamedTuple):
    """The terms of the logits that read positions and no content."""

    bias: Float[Array, "heads q k"] | None
    score: PyTree[Array] | None


class Logits(eqx.Module):
    """The terms of the logits that are not products of rotated queries and keys."""

    bias: AbstractBias | None
    score: AbstractScore | None
    extension: AbstractProducts | None
    """It replaces the products. Rotated queries and keys then have no channels."""
    # Kernels take the scale and the cap as constants, so both are parts of the compiled
    # program.
    scale: float = eqx.field(static=True)
    soft_cap: float | None = eqx.field(static=True)

    @property
    def bare(self) -> bool:
        """Whether the products of rotated queries and keys are the only term."""
        return self.bias is None and self.score is None and self.extension is None

    @property
    def between(self) -> str | None:
        """The class of a part whose logits depend on the keys between two tokens."""
        parts = self.score, self.extension
        names = (type(x).__name__ for x in parts if x and "between" in x.traits)
        return next(names, None)

    @property
    def relative(self) -> bool:
        """Whether tiles of equal distances share the bias. Without a bias, whether they
        share the arrays that the score prepares."""
        shared = self.bias or self.score
        return shared is not None and shared.relative

    def by_position(self, tokens: Tokens) -> Bool[Array, " seq"] | None:
        """The tokens whose tiles share no bias."""
        return None if self.bias is None else self.bias.by_position(tokens.positions)

    def prepared(self, q: Tokens, k: Tokens) -> Prepared:
        """The bias, and the arrays that the score prepares from positions."""
        positions = q.positions, k.positions
        bias = None if self.bias is None else self.bias(*positions)
        score = None if self.score is None else self.score.prepare(*positions)
        return Prepared(bias, score)

    def finished(
        self,
        products: Float[Array, "heads q k"],
        prepared: Prepared,
        q: Tokens,
        k: Tokens,
        band: Band | None = None,
        seen: Bool[Array, "*heads q k"] | None = None,
    ) -> Float[Array, "heads q k"]:
        """Scaled products of rotated queries and keys, biases and scores, capped.

        `seen` is the mask of all keys, for parts that read the keys between two tokens.
        """
        # Biases are added after the scale, since papers define them as terms of scaled
        # logits.
        logits = self.scale * products
        if self.extension is not None:
            assert q.content is not None and k.content is not None
            places, more = _read(self.extension, q, k, seen)
            products = self.extension.products(q.content, k.content, *places, **more)
            logits += self.scale * products.astype(logits.dtype)
        if band is not None:
            logits = band.added_to(logits)
        if prepared.bias is not None:
            logits += _fitting("bias", prepared.bias, logits)
        if self.score is not None:
            places, more = _read(self.score, q, k, seen)
            # A score that prepares no arrays need not accept the argument.
            if prepared.score is not None:
                more["prepared"] = prepared.score
            score = self.score(*_each_head(q, k), *places, **more)
            logits += _fitting("score", score, logits)
        if self.soft_cap is None:
            return logits
        # The cap comes last, so it bounds biases and scores as well.
        return self.soft_cap * jnp.tanh(logits / self.soft_cap)

    def by_distance(self, q: Tokens, k: Tokens) -> ByDistance | None:
        """The score in its form for consecutive positions, or `None`."""
        if self.score is None or self.score.reads or self.extension is not None:
            return None
        return self.score.by_distance(*_each_head(q, k), q.positions, k.positions)

    def strip(self, q: Tokens, k: Tokens) -> Float[Array, "heads distances"] | None:
        """The bias of each distance, which is added to the scaled products. It is zeros
        without a bias, and `None` if the bias depends on more than distances."""
        if self.bias is None:
            # The fused kernel always reads a strip, and zeros stand for an absent bias.
            count = q.positions.shape[0] + k.positions.shape[0] - 1
            return jnp.zeros((1, count), jnp.result_type(float))
        return self.bias.strip(q.positions, k.positions)

    def low_rank(self, q: Tokens, k: Tokens) -> Factors | None:
        """Channels of queries and keys whose products equal the bias and the score,
        divided by the scale. `None` if there is neither."""
        positions, terms = (q.positions, k.positions), []
        if self.bias is not None:
            terms.append(factors("bias", self.bias, *positions))
        if self.score is not None:
            terms.append(factors("score", self.score, *_each_head(q, k), *positions))
        if not terms:
            return None
        of_q, of_k = side_by_side(*terms)
        # A kernel scales all channels, so the division cancels the scale in the added
        # channels.
        return of_q / self.scale, of_k


def _read(part, q, k, seen):
    """The positions that a part reads, and its keywords."""
    given = dict(q_state=q.state, k_state=k.state)
    more = {name: given[name] for name in part.reads}
    if "between" not in part.traits:
        return (q.positions, k.positions), more
    # Which keys lie between two tokens is a question of their order.
    return (q.compared, k.compared), more | dict(seen=seen)


def _fitting(name, term, logits):
    # Broadcasting would silently accept a bias of one head for all heads.
    if term.shape != logits.shape:
        raise ValueError(
            f"`{name}` must give the shape [heads, q, k] of the logits, "
            f"{logits.shape}, but got {term.shape}. Build it for the heads of "
            "`q`."
        )
    return term.astype(logits.dtype)


def _each_head(q, k):
    """The content of queries, and the content of keys for each head of queries."""
    assert q.content is not None and k.content is not None
    group = q.content.shape[0] // k.content.shape[0]
    return q.content, repeated(k.content, group)
