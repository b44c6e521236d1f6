"""Biases: terms of the logits that depend on positions alone."""

from ._abstract import AbstractBias as AbstractBias
from ._alibi import ALiBi as ALiBi
from ._t5 import T5Bias as T5Bias
from ._tupe import TUPE as TUPE
