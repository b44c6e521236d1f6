"""Resizes tables over a grid as torch does, with one matrix for each axis.

The matrices depend on static sizes only. The host computes them in float64, and the
device contracts them with the table.
"""

from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import check_choice, check_shape, require
from .._phase import as_float


Method = Literal["bicubic", "bilinear"]
Padding = Literal["border", "zeros"]


def resize(
    table: Float[Array, "..."],
    shape: Sequence[int],
    *,
    method: Method = "bicubic",
    antialias: bool = False,
    offset: float = 0.0,
    align_corners: bool = False,
    padding: Padding = "border",
) -> Float[Array, "..."]:
    """The leading axes of a table resized to `shape`, as
    `torch.nn.functional.interpolate` has it, or `grid_sample` with padding of zeros."""
    check_choice("method", method, ("bicubic", "bilinear"))
    check_choice("padding", padding, ("border", "zeros"))
    for name, given in ("align_corners", align_corners), ("padding", padding):
        if given not in (False, "border") and (antialias or offset):
            raise ValueError(
                f"`{name}` must be left out with `antialias` or `offset`, as torch has "
                f"no such resizing, but got {given!r}, {antialias} and {offset}."
            )
    shape = check_shape("shape", shape)
    rule = f"have at most {table.ndim} sizes for this table"
    require(len(shape) <= table.ndim, "shape", rule, shape)
    resized = as_float(table)
    for axis, size in enumerate(shape):
        if size == table.shape[axis] and (antialias or method == "bilinear"):
            continue  # torch returns such an axis unchanged, even with an offset.
        old = table.shape[axis]
        if antialias:
            matrix = _antialiased(old, size, method, offset)
        else:
            centers = _centers(old, size, method, offset, align_corners, padding)
            matrix = _matrix(old, centers, method, padding)
        rows = jnp.asarray(matrix, resized.dtype)
        resized = jnp.moveaxis(
            jnp.tensordot(rows, resized, axes=([1], [axis]), precision="highest"),
            0,
            axis,
        )
    return resized.astype(table.dtype)


def _centers(old, new, method, offset, align_corners, padding):
    """The centers of the new cells, in units of old cells."""
    if align_corners:
        # A single new cell is at the first old cell.
        return np.linspace(0, old - 1, new)
    # The original DINO gives torch `scale_factor = (new + 0.1) / old` in place of a
    # size, and torch samples by that factor.
    centers = (np.arange(new) + 0.5) * (old / (new + offset)) - 0.5
    # A scale and an offset may place centers outside of the grid.
    inside = method == "bilinear" and padding == "border"
    return np.maximum(centers, 0) if inside else centers


def _antialiased(old, new, method, offset):
    """The weights of `old` cells for `new` cells, as Pillow computes them. Larger cells
    widen the kernel, and the edge truncates it."""
    step = old / (new + offset)
    centers = (np.arange(new) + 0.5) * step - 0.5
    cells = np.arange(old)
    wide = max(step, 1.0)
    reach = _reach(method) * wide
    from_edge = np.maximum(np.floor(centers - reach + 1), 0)
    to_edge = np.minimum(np.floor(centers + reach + 1), old)
    inside = (cells >= from_edge[:, None]) & (cells < to_edge[:, None])
    # With antialiasing torch has Pillow's kernel, a = -0.5. Its plain kernel has a =
    # -0.75.
    weights = _kernel(method, (cells - centers[:, None]) / wide, -0.5) * inside
    return weights / weights.sum(axis=1, keepdims=True)


def _matrix(old, centers, method, padding):
    """The weights of `old` cells for each new cell. A cell beyond the edge is the cell
    at the edge, or zero."""
    reach = _reach(method)
    first = np.floor(centers).astype(int) - (reach - 1)
    matrix = np.zeros((len(centers), old))
    for tap in range(2 * reach):
        weights = _kernel(method, first + tap - centers, -0.75)
        cells = np.clip(first + tap, 0, old - 1)
        if padding == "zeros":
            weights = weights * (cells == first + tap)
        np.add.at(matrix, (np.arange(len(centers)), cells), weights)
    return matrix


def _reach(method):
    return 2 if method == "bicubic" else 1


def _kernel(method, x, a):
    """The weight of a cell at the distance `x`: a tent, or Keys' cubic."""
    x = np.abs(x)
    if method == "bilinear":
        return np.maximum(1 - x, 0)
    near = ((a + 2) * x - (a + 3)) * x**2 + 1
    far = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))
