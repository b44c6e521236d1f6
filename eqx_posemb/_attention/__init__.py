"""Attention with any positional embedding."""

from ._dense import dense as dense
from ._visible import visible as visible, Window as Window
