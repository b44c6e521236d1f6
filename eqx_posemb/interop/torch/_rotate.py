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
    """Rotates the first channels of `x`, as many as there are angles for, or those of
    a `Pairing`; in the dtype of `x`, computed in at least float32."""
    wide, width = computing_dtype(x.dtype), 2 * cos.shape[-1]
    cos, sin = cos.to(wide), sin.to(wide)
    if isinstance(layout, tuple):
        return _paired(x.to(wide), cos, sin, layout).to(x.dtype)
    turned = x[..., :width].to(wide)
    if layout == "halves":
        a, b = turned[..., : width // 2], turned[..., width // 2 :]
    else:
        a, b = turned[..., ::2], turned[..., 1::2]
    pair = [a * cos - b * sin, b * cos + a * sin]
    if layout == "halves":
        turned = torch.cat(pair, dim=-1).to(x.dtype)
    else:
        turned = torch.stack(pair, dim=-1).flatten(-2).to(x.dtype)
    if width == x.shape[-1]:
        return turned
    return torch.cat([turned, x[..., width:]], dim=-1)


def _paired(x, cos, sin, layout):
    source, partner, pair, sign = (torch.tensor(row, device=x.device) for row in layout)
    turned = x[..., source] * cos[..., pair] + sign * x[..., partner] * sin[..., pair]
    # A select and not a product with one: channels that pass through keep even the
    # sign of their zeros.
    return torch.where(sign == 0, x[..., source], turned)
