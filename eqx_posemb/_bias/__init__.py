"""The third place: added to the logits, blind to the content."""

from ._abstract import (
    AbstractBias as AbstractBias,
    AbstractRelativeBias as AbstractRelativeBias,
)
from ._alibi import ALiBi as ALiBi
from ._clipped import ClippedBias as ClippedBias
from ._dynamic import DynamicBias as DynamicBias
from ._fire import FIRE as FIRE
from ._forgetting import ForgetGate as ForgetGate, Forgetting as Forgetting
from ._from_state import (
    t5_from_state_dict as t5_from_state_dict,
    tupe_from_state_dict as tupe_from_state_dict,
)
from ._kerple import KERPLE as KERPLE
from ._learned_alibi import LearnedALiBi as LearnedALiBi
from ._reset import ResetBias as ResetBias
from ._sandwich import Sandwich as Sandwich
from ._sum import SumBias as SumBias
from ._t5 import T5Bias as T5Bias
from ._tisa import TISA as TISA
from ._tupe import TUPE as TUPE, tupe as tupe
