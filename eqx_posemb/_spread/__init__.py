"""Expands a function of the distance to all pairs of consecutive queries and keys.

Each row of the result is a slice of the same values. The slice starts one place before
the slice of the row above. A window of a grid has slices of two axes.
"""

from ._banded import (
    banded as banded,
    ByDistance as ByDistance,
    skew as skew,
    unskew as unskew,
)
from ._consecutive import (
    all_distances as all_distances,
    are_consecutive as are_consecutive,
    either as either,
)
from ._in_order import keys_in_order as keys_in_order
from ._look_up import look_up as look_up
from ._toeplitz import toeplitz as toeplitz, toeplitz_transpose as toeplitz_transpose
from ._window import (
    are_the_window as are_the_window,
    is_window_long as is_window_long,
    of_differences as of_differences,
    of_window as of_window,
    Window as Window,
)
