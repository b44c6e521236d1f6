"""Schedules: how fast each pair of channels turns."""

from ._base import (
    AbstractFrequencies as AbstractFrequencies,
    AbstractStaticFrequencies as AbstractStaticFrequencies,
    context_length as context_length,
    Geometric as Geometric,
    Length as Length,
)
from ._by_parts import NTKByParts as NTKByParts, YaRNFrequencies as YaRNFrequencies
from ._longrope import (
    Divided as Divided,
    LongRoPEFrequencies as LongRoPEFrequencies,
)
from ._proportional import Truncated as Truncated
from ._stretch import DynamicNTK as DynamicNTK, Linear as Linear, NTK as NTK
from ._tabulated import Tabulated as Tabulated
