"""Rotations of queries and keys in plain PyTorch, eager and compiled."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ._angles import computing_dtype


Layout = Literal["halves", "adjacent"]


def rotate(
    x: Float[Tensor, "*shape dim"],
    cos: Float[Tensor, "*ones seq half"],
    sin: Float[Tensor, "*ones seq half"],
    layout: Layout,
) -> Float[Tensor, "*shape dim"]:
    """Rotates the first channels of `x`, as many as there are angles for.

    **Arguments:**

    - `x`: queries or keys.
    - `cos`, `sin`: of the angles, to be broadcast over the leading axes of `x`.
    - `layout`: which channels are a pair.

    **Returns:**

    The rotated `x`, in its dtype; computed in at least float32.
    """
    dtype = computing_dtype(x.dtype)
    width = 2 * cos.shape[-1]
    wide = x[..., :width].to(dtype)
    cos, sin = cos.to(dtype), sin.to(dtype)
    by_formula = torch.compiler.is_compiling() or cos.requires_grad or sin.requires_grad
    # The compiler makes one pass of the formulas; eager mode would make six.
    turn = (_FORMULAS if by_formula else _IN_FEW_PASSES)[layout]
    turned = turn(wide, cos, sin).to(x.dtype)
    if width == x.shape[-1]:
        return turned
    return torch.cat([turned, x[..., width:]], dim=-1)


def _halves(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _adjacent(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def _adjacent_as_complex(x, cos, sin):
    pairs = x.unflatten(-1, (-1, 2))
    steps = (*pairs.stride()[:-1], pairs.storage_offset())
    if pairs.stride(-1) != 1 or any(step % 2 for step in steps):
        pairs = pairs.clone(memory_format=torch.contiguous_format)
    turned = torch.view_as_complex(pairs) * torch.complex(cos, sin)
    return torch.view_as_real(turned).flatten(-2)


class _Halves(torch.autograd.Function):
    """The formula, written in place: a third of what concatenation moves."""

    @staticmethod
    def forward(x, cos, sin):
        out = torch.empty_like(x)
        (a, b), (to_a, to_b) = x.chunk(2, dim=-1), out.chunk(2, dim=-1)
        torch.mul(a, cos, out=to_a).addcmul_(b, sin, value=-1)
        torch.mul(b, cos, out=to_b).addcmul_(a, sin)
        return out

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, cos, sin = inputs
        ctx.save_for_backward(cos, sin)
        ctx.save_for_forward(cos, sin)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,), (cos, sin) = gradients, ctx.saved_tensors
        # Turned back. Not by `out=`, for which there are no batches of gradients.
        half = cos.shape[-1]
        back = gradient * torch.cat([cos, cos], dim=-1)
        back[..., :half].addcmul_(gradient[..., half:], sin)
        back[..., half:].addcmul_(gradient[..., :half], sin, value=-1)
        return back, None, None

    @staticmethod
    def jvp(ctx, *tangents):
        return _halves(tangents[0], *ctx.saved_tensors)

    @staticmethod
    def vmap(info, in_dims, *args):
        # Tables are broadcast from the right, and so the new axis comes first.
        rank = max(
            each.ndim - (axis is not None)
            for each, axis in zip(args, in_dims, strict=True)
        )

        def first(each, axis):
            each = each[None] if axis is None else each.movedim(axis, 0)
            ones = (1,) * (rank - each.ndim + 1)
            return each.reshape(each.shape[0], *ones, *each.shape[1:])

        x, cos, sin = map(first, args, in_dims)
        return _Halves.apply(x.expand(info.batch_size, *x.shape[1:]), cos, sin), 0


_FORMULAS = {"halves": _halves, "adjacent": _adjacent}
_IN_FEW_PASSES = {"halves": _Halves.apply, "adjacent": _adjacent_as_complex}
