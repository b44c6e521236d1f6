"""Scores: added to logits, with an eye on the content."""

from ._variant import Variant


SCORES: tuple[Variant, ...] = ()
