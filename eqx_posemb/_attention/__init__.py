"""Attention with any positional embedding."""

from ._blockwise import blockwise as blockwise
from ._channels import with_channels as with_channels
from ._choose import (
    block_size_for as block_size_for,
    blocks_are_better as blocks_are_better,
)
from ._dense import dense as dense, dense_logits as dense_logits
from ._extended import Extended as Extended
from ._fitting import (
    check_shapes as check_shapes,
    check_states as check_states,
    check_values as check_values,
)
from ._inputs import Inputs as Inputs
from ._logits import Logits as Logits, Tokens as Tokens
from ._ring import ring as ring
from ._visible import Rules as Rules, rules as rules, Window as Window
