"""A rotary embedding that sees other positions where keys are far, as a score."""

from typing import Any

import equinox as eqx

from ._logits import Score


class Extended(eqx.Module):
    """The scaled products of an extension; with the score there is."""

    rotary: Any
    scale: float = eqx.field(static=True)
    score: Score | None

    @property
    def relative(self) -> bool:
        """False: nothing that depends on positions alone is prepared."""
        return False

    def __call__(self, q, k, q_positions, k_positions, **states):
        logits = self.scale * self.rotary.products(q, k, q_positions, k_positions)
        if self.score is None:
            return logits
        return logits + self.score(q, k, q_positions, k_positions, **states)

    def prepared(self, q_positions, k_positions):
        if self.score is None:
            return None
        return self.score.prepared(q_positions, k_positions)

    def by_distance(self, q, k, q_positions, k_positions):
        del q, k, q_positions, k_positions
        return None
