"""Attention with any positional embedding."""

from ._channels import with_channels as with_channels
from ._dense import dense_logits as dense_logits
from ._fitting import (
    check_axes as check_axes,
    check_shapes as check_shapes,
    check_states as check_states,
    check_values as check_values,
)
from ._implementations import (
    AbstractImplementation as AbstractImplementation,
    attention as attention,
    choose as choose,
    explained as explained,
    ImplementationName as ImplementationName,
    IMPLEMENTATIONS as IMPLEMENTATIONS,
)
from ._inputs import Inputs as Inputs
from ._logits import Logits as Logits, Tokens as Tokens
from ._visible import (
    reach_of as reach_of,
    Rules as Rules,
    rules as rules,
    Window as Window,
)
