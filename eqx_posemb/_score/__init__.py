"""The fourth place: scores, which depend on positions and content, are added to the
logits."""

from ._abstract import AbstractScore as AbstractScore
from ._deberta import DeBERTa as DeBERTa
from ._enformer import (
    Enformer as Enformer,
    EnformerBasis as EnformerBasis,
    KEPT as KEPT,
)
from ._transformer_xl import TransformerXL as TransformerXL
