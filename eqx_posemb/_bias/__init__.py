"""The third place: added to the logits, blind to the content."""

from ._abstract import (
    AbstractBias as AbstractBias,
    AbstractRelativeBias as AbstractRelativeBias,
)
from ._alibi import ALiBi as ALiBi
from ._kerple import KERPLE as KERPLE
from ._t5 import T5Bias as T5Bias
