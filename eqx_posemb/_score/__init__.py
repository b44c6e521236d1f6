"""The fourth place: added to the logits, with an eye on the content."""

from ._abstract import AbstractScore as AbstractScore
