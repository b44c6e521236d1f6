"""Rotations of queries and keys: the plain formula, eager and compiled."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ._angles import computing_dtype


# "halves" or "adjacent", or the rows of a `Pairing`: source, partner, pair and sign.
Layout = Any


def rotate(
    x: Float[Tensor, "*shape dim"],
    cos: Float[Tensor, "*ones seq half"],
    sin: Float[Tensor, "*ones seq half"],
    layout: Layout,
) -> Float[Tensor, "*shape dim"]:
    """Rotates the first channels of `x`, or the channels of a `Pairing`. It computes in
    at least float32, and returns the dtype of `x`."""
    wide, width = computing_dtype(x.dtype), 2 * cos.shape[-1]
    cos, sin = cos.to(wide), sin.to(wide)
    if isinstance(layout, tuple):
        return _paired(x.to(wide), cos, sin, layout).to(x.dtype)
    if width < x.shape[-1]:
        turned = rotate(x[..., :width], cos, sin, layout)
        return torch.cat([turned, x[..., width:]], dim=-1)
    each = x.to(wide)
    if layout == "halves":
        a, b = each[..., : width // 2], each[..., width // 2 :]
    else:
        a, b = each[..., ::2], each[..., 1::2]
    # a cos - b sin and b cos + a sin.
    pair = [torch.addcmul(a * cos, b, sin, value=-1), torch.addcmul(b * cos, a, sin)]
    if layout == "halves":
        return torch.cat(pair, dim=-1).to(x.dtype)
    return torch.stack(pair, dim=-1).flatten(-2).to(x.dtype)


def _paired(x, cos, sin, layout):
    source, partner, pair, sign = (torch.tensor(row, device=x.device) for row in layout)
    turned = x[..., source] * cos[..., pair] + sign * x[..., partner] * sin[..., pair]
    # A select and not a product with one: channels that pass through keep even the
    # sign of their zeros.
    return torch.where(sign == 0, x[..., source], turned)
