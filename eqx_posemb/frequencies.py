"""Schedules: the frequency of each pair of channels."""

from ._frequencies._base import (
    AbstractDynamicFrequencies as AbstractDynamicFrequencies,
    AbstractFrequencies as AbstractFrequencies,
    AbstractScaledFrequencies as AbstractScaledFrequencies,
    AbstractStaticFrequencies as AbstractStaticFrequencies,
    Geometric as Geometric,
)
from ._frequencies._by_parts import (
    NTKByParts as NTKByParts,
    YaRNFrequencies as YaRNFrequencies,
)
from ._frequencies._concatenated import Concatenated as Concatenated
from ._frequencies._dype import DyPE as DyPE
from ._frequencies._learned import LearnedFrequencies as LearnedFrequencies
from ._frequencies._listed import Listed as Listed
from ._frequencies._longrope import (
    Divided as Divided,
    LongRoPEFrequencies as LongRoPEFrequencies,
)
from ._frequencies._periods import Clipped as Clipped, Resonance as Resonance
from ._frequencies._riflex import RIFLEx as RIFLEx
from ._frequencies._scaled import Scaled as Scaled
from ._frequencies._scaling import (
    DynamicNTK as DynamicNTK,
    Linear as Linear,
    NTK as NTK,
    NTKMixed as NTKMixed,
)
from ._frequencies._shifted import LogShifted as LogShifted
from ._frequencies._tabulated import Tabulated as Tabulated
from ._frequencies._truncated import Truncated as Truncated
from ._phase import Turns as Turns
