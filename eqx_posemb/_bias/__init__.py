"""The third place: added to the logits, blind to the content."""

from ._abstract import (
    AbstractBias as AbstractBias,
    AbstractRelativeBias as AbstractRelativeBias,
)
from ._alibi import ALiBi as ALiBi
from ._beit import BEiTBias as BEiTBias
from ._clipped import ClippedBias as ClippedBias
from ._dynamic import DynamicBias as DynamicBias
from ._fire import FIRE as FIRE
from ._forgetting import ForgetGate as ForgetGate, Forgetting as Forgetting
from ._from_state import (
    t5_from_state_dict as t5_from_state_dict,
    tupe_from_state_dict as tupe_from_state_dict,
)
from ._grid_alibi import GridALiBi as GridALiBi
from ._grids_from_state import (
    beit_from_state_dict as beit_from_state_dict,
    levit_from_state_dict as levit_from_state_dict,
    swin_from_state_dict as swin_from_state_dict,
    swinv2_from_state_dict as swinv2_from_state_dict,
)
from ._kerple import KERPLE as KERPLE
from ._learned_alibi import LearnedALiBi as LearnedALiBi
from ._levit import LeViTBias as LeViTBias
from ._log_cpb import LogCPB as LogCPB
from ._reset import ResetBias as ResetBias
from ._sandwich import Sandwich as Sandwich
from ._sum import SumBias as SumBias
from ._swin import SwinBias as SwinBias
from ._t5 import T5Bias as T5Bias
from ._t5_grid import T5GridBias as T5GridBias
from ._tisa import TISA as TISA
from ._tupe import TUPE as TUPE, tupe as tupe
from ._window import AbstractWindowBias as AbstractWindowBias
