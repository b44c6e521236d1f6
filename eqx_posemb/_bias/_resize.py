"""Resizing a table of signed differences between the cells of a window."""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import check_choice, require
from .._encoding import resize
from .._phase import as_float
from ._window import check_window


Method = Literal["bicubic", "bilinear", "geometric"]


def resized_table(
    table: Float[Array, "rows columns heads"],
    window: Sequence[int],
    method: Method,
    antialias: bool,
) -> Float[Array, "new_rows new_columns heads"]:
    """The table for another window, as a picture or in a geometric progression."""
    height, width = check_window("window", window)
    shape = 2 * height - 1, 2 * width - 1
    check_choice("method", method, ("bicubic", "bilinear", "geometric"))
    if method != "geometric":
        return resize(table, shape, method=method, antialias=antialias)
    rule = "be False with `method='geometric'`, which has no kernel to widen"
    require(not antialias, "antialias", rule, True)
    # An equal window needs the ratio one, which the interval of the bisection excludes.
    if table.shape[:2] == shape:
        return table
    rows, columns = (
        jnp.asarray(_stretched(old // 2, new // 2), as_float(table).dtype)
        for old, new in zip(table.shape, shape, strict=False)
    )
    found = jnp.einsum(
        "yi,xj,ijh->yxh", rows, columns, as_float(table), precision="highest"
    )
    return found.astype(table.dtype)


def _stretched(old: int, new: int) -> np.ndarray:
    """How much of the numbers of differences up to `old` is in each up to `new`.

    The old differences move apart by a ratio that puts the last of them at the last new
    one. Numbers between them are linear.
    """
    # BEiT's code bisects the same interval to the same tolerance.
    low, high = 1.01, 1.5
    ratio = low
    while high - low > 1e-6:
        ratio = (low + high) / 2
        reach = (1 - ratio**old) / (1 - ratio)
        low, high = (low, ratio) if reach > new else (ratio, high)
    places = np.cumsum(ratio ** np.arange(old))
    places = np.concatenate([-places[::-1], [0], places])
    wanted = np.arange(-new, new + 1)
    numbers = [np.interp(wanted, places, number) for number in np.eye(2 * old + 1)]
    return np.stack(numbers, axis=1)
