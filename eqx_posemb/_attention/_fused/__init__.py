"""Attention in one kernel, for TPUs and GPUs: `[heads, q, k]` is never in memory."""

from functools import partial

from .._ring import Hop
from ._call import attended_by_platform, fused as fused, gradients_by_platform
from ._cover import refusal as refusal
from ._how import How as How
from ._sizes import runs_triton as runs_triton, tile_of as tile_of


def hop(how: How) -> Hop:
    """A hop of a ring."""
    attended = partial(attended_by_platform, how)
    return Hop(attended, partial(gradients_by_platform, how))
