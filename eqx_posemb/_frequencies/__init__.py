"""Schedules: the frequency of each pair of channels."""

from ._base import (
    AbstractFrequencies as AbstractFrequencies,
    check_schedule as check_schedule,
    Geometric as Geometric,
)
from ._by_parts import (
    index_of_turns as index_of_turns,
    NTKByParts as NTKByParts,
    YaRNFrequencies as YaRNFrequencies,
)
from ._concatenated import Concatenated as Concatenated
from ._dype import DyPE as DyPE
from ._learned import LearnedFrequencies as LearnedFrequencies
from ._length import (
    check_length as check_length,
    context_length as context_length,
    in_context as in_context,
    Length as Length,
    one_more as one_more,
)
from ._listed import Listed as Listed
from ._longrope import Divided as Divided, LongRoPEFrequencies as LongRoPEFrequencies
from ._periods import Clipped as Clipped, Resonance as Resonance
from ._riflex import RIFLEx as RIFLEx
from ._scaled import Scaled as Scaled
from ._scaling import DynamicNTK as DynamicNTK, Linear as Linear, NTK as NTK
from ._shifted import LogShifted as LogShifted
from ._truncated import Truncated as Truncated
