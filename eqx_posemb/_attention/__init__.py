"""Attention with any positional embedding."""

from ._blockwise import blockwise as blockwise
from ._choose import (
    block_size_for as block_size_for,
    blocks_are_better as blocks_are_better,
)
from ._dense import dense as dense, dense_logits as dense_logits
from ._logits import Logits as Logits, Tokens as Tokens
from ._ring import ring as ring
from ._visible import Rules as Rules, rules as rules, Window as Window
