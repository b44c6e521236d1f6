"""Rotations of queries and keys in plain PyTorch, eager and compiled."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

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
    if width < x.shape[-1]:
        turned = rotate(x[..., :width], cos, sin, layout)
        return torch.cat([turned, x[..., width:]], dim=-1)
    cos, sin = cos.to(dtype), sin.to(dtype)
    if torch.compiler.is_compiling() or cos.requires_grad or sin.requires_grad:
        # The compiler makes one pass of the formula; eager mode would make six.
        return _FORMULAS[layout](x.to(dtype), cos, sin).to(x.dtype)
    return _turn(x, cos, sin, layout)


def _halves(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _adjacent(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def _halves_in_few_passes(x, cos, sin, out=None):
    half = cos.shape[-1]
    turned = torch.mul(x, torch.cat([cos, cos], dim=-1), out=out)
    turned[..., :half].addcmul_(x[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin)
    return turned


def _adjacent_in_few_passes(x, cos, sin, out=None):
    into = None if out is None else _as_complex(out)
    turned = torch.mul(_as_complex(x), torch.complex(cos, sin), out=into)
    return torch.view_as_real(turned).reshape(*turned.shape[:-1], -1)


def _as_complex(x):
    pairs = x.view(*x.shape[:-1], -1, 2)
    steps = (*pairs.stride()[:-1], pairs.storage_offset())
    if pairs.stride(-1) != 1 or any(step % 2 for step in steps):
        pairs = pairs.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(pairs)


def _turn(x, cos, sin, layout):
    if _is_transformed():
        return _Transformed.apply(x, cos, sin, layout)
    if x.requires_grad:
        return _Turned.apply(x, cos, sin, layout)
    # A Function takes longer to call than a decoded token to turn.
    return _by_blocks(x, cos, sin, layout)


def _by_blocks(x, cos, sin, layout):
    """The formula in few passes, over no more at a time than a cache holds."""
    turn, seq, count = _IN_FEW_PASSES[layout], x.shape[-2], _block(x)
    if count >= seq or any(map(_is_followed, (x, cos, sin))):
        return turn(x.to(cos.dtype), cos, sin).to(x.dtype)
    cos, sin = (each.expand(*each.shape[:-2], seq, -1) for each in (cos, sin))
    batch = torch.broadcast_shapes(x.shape[:-2], cos.shape[:-2])
    out = x.new_empty((*batch, *x.shape[-2:]))
    splits = (each.split(count, dim=-2) for each in (out, x, cos, sin))
    # New memory takes longer to come than the sums: all blocks share what they need.
    wide = (
        cos.new_empty((2, *batch, count, x.shape[-1])) if x.dtype != cos.dtype else None
    )
    for block, some, *tables in zip(*splits, strict=True):
        if wide is None:
            turn(some, *tables, out=block)
        else:
            before, after = wide[..., : some.shape[-2], :]
            block.copy_(turn(before.copy_(some), *tables, out=after))
    return out


class _Turn(torch.autograd.Function):
    """`_by_blocks`, whose gradient is the turn back."""

    @staticmethod
    def keep(ctx, cos, sin, layout):
        ctx.layout = layout
        ctx.save_for_backward(cos, sin)
        ctx.save_for_forward(cos, sin)

    @staticmethod
    def backward(ctx, *gradients):
        (gradient,), (cos, sin) = gradients, ctx.saved_tensors
        return _turn(gradient, cos, -sin, ctx.layout), None, None, None

    @staticmethod
    def jvp(ctx, *tangents):
        (tangent, *_), (cos, sin) = tangents, ctx.saved_tensors
        return _turn(tangent, cos, sin, ctx.layout)


class _Turned(_Turn):
    @staticmethod
    def forward(ctx, x, cos, sin, layout):
        _Turn.keep(ctx, cos, sin, layout)
        return _by_blocks(x, cos, sin, layout)


class _Transformed(_Turn):
    """The same for `torch.func`. What it needs takes longer to call."""

    @staticmethod
    def forward(x, cos, sin, layout):
        return _by_blocks(x, cos, sin, layout)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, cos, sin, layout = inputs
        _Turn.keep(ctx, cos, sin, layout)

    @staticmethod
    def vmap(info, in_dims, *args):
        *tensors, layout = args
        # Tables are broadcast from the right, and so the new axis comes first.
        rank = max(
            each.ndim - (axis is not None)
            for each, axis in zip(tensors, in_dims, strict=False)
        )

        def first(each, axis):
            each = each[None] if axis is None else each.movedim(axis, 0)
            ones = (1,) * (rank - each.ndim + 1)
            return each.reshape(each.shape[0], *ones, *each.shape[1:])

        x, cos, sin = map(first, tensors, in_dims)
        x = x.expand(info.batch_size, *x.shape[1:])
        return _Transformed.apply(x, cos, sin, layout), 0


def _is_followed(x):
    """Whether it has a tangent, or is a batch of `torch.autograd.grad`: neither can be
    computed into what there is."""
    return _is_batched(x) or forward_ad.unpack_dual(x).tangent is not None


def _block(x):
    """How many positions to turn at a time: memory that is new costs more than sums."""
    if x.device.type != "cpu":
        return x.shape[-2]
    numbers = _NUMBERS_PER_CORE * torch.get_num_threads()
    return max(1, numbers * x.shape[-2] // max(x.numel(), 1))


# Whether `torch.vmap` or the like looks on; the long way is right in any case.
_is_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_functorch = getattr(torch._C, "_functorch", None)
_is_batched = getattr(_functorch, "is_legacy_batchedtensor", lambda x: True)
_FORMULAS = {"halves": _halves, "adjacent": _adjacent}
_IN_FEW_PASSES = {
    "halves": _halves_in_few_passes,
    "adjacent": _adjacent_in_few_passes,
}
# Two megabytes of float32, and as much again for what becomes of it.
_NUMBERS_PER_CORE = 2**19
