"""Scores: terms of the logits that depend on positions and content."""

from ._abstract import AbstractScore as AbstractScore
from ._deberta import DeBERTa as DeBERTa
from ._enformer import (
    Enformer as Enformer,
    EnformerBasis as EnformerBasis,
    KEPT as KEPT,
)
from ._transformer_xl import TransformerXL as TransformerXL
