"""A rotary embedding that sees other positions where keys are far, as a score."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, Float, Int


class Extended(eqx.Module):
    """The scaled products of an extension; with the score there is."""

    rotary: Any
    scale: float = eqx.field(static=True)
    length: int | Int[Array, ""] | None
    score: Callable[..., Float[Array, "heads q k"]] | None

    def __call__(self, q, k, q_positions, k_positions, **states):
        logits = self.scale * self.rotary.products(
            q, k, q_positions, k_positions, length=self.length
        )
        if self.score is None:
            return logits
        return logits + self.score(q, k, q_positions, k_positions, **states)

    def prepared(self, q_positions, k_positions):
        prepare = getattr(self.score, "prepared", lambda *_: None)
        return prepare(q_positions, k_positions)
