"""Attention in one kernel, for TPUs: `[heads, q, k]` is never in memory."""

from ._call import fused as fused, How as How
from ._cover import refusal as refusal
from ._sizes import block as block
