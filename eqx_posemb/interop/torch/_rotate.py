"""Rotations of queries and keys, by the plain formula."""

from typing import Any

import torch
from torch import Tensor

from ._angles import computing_dtype


# A layout is "halves", "adjacent", or the rows of a `Pairing`: source, partner, pair
# and sign.
Layout = Any


def rotate(x: Tensor, cos: Tensor, sin: Tensor, layout: Layout) -> Tensor:
    """Rotates the first channels of `x`, [*shape, dim], or the channels of a `Pairing`,
    by tables [*ones, seq, half]. It computes in at least float32, and returns the dtype
    of `x`."""
    half, wide = cos.shape[-1], computing_dtype(x.dtype)
    cos, sin = cos.to(wide), sin.to(wide)
    if isinstance(layout, tuple):
        rows = (torch.tensor(row, device=x.device) for row in layout)
        source, partner, pair, sign = rows
        a, b = x[..., source].to(wide), x[..., partner].to(wide)
        turned = a * cos[..., pair] + sign * b * sin[..., pair]
        # A select passes channels on unchanged. Adding a zero sine would lose the sign
        # of a negative zero.
        return torch.where(sign == 0, a, turned).to(x.dtype)
    first, rest = x[..., : 2 * half], x[..., 2 * half :]
    axis, sizes = (-2, (2, half)) if layout == "halves" else (-1, (half, 2))
    a, b = first.to(wide).unflatten(-1, sizes).unbind(axis)
    # `addcmul` computes a cos - b sin and b cos + a sin with one temporary fewer each.
    pair = torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)
    turned = torch.stack([each.to(x.dtype) for each in pair], axis).flatten(-2)
    return torch.cat([turned, rest], dim=-1) if rest.shape[-1] else turned
