"""Scores: added to logits, with an eye on the content."""

from .._score import Enformer, TransformerXL
from ._variant import Variant


SCORES: tuple[Variant, ...] = (
    Variant(
        name="transformer_xl",
        summary="queries meet a projected sinusoid of the distance (XLNet, Conformer)",
        place="score",
        of=TransformerXL,
        settings=lambda sizes: dict(
            heads=sizes.heads, head_dim=sizes.head_dim, dim=sizes.dim
        ),
        parameters=("u", "v", "weight"),
    ),
    Variant(
        name="enformer",
        summary="queries meet decays, windows and bumps over the distance",
        place="score",
        of=Enformer,
        settings=lambda sizes: dict(
            heads=sizes.heads,
            head_dim=sizes.head_dim,
            # As Enformer has it, whose tokens are as wide as its values.
            features=6 * max(sizes.dim // sizes.heads // 6, 1),
            length=sizes.length,
        ),
        parameters=("u", "v", "weight"),
        bounded=True,
    ),
)
