"""Rotations of queries and keys in plain PyTorch, eager and compiled."""

import itertools
import sys
from collections.abc import Sequence
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
    (turned,) = rotate_all([x], cos, sin, layout)
    return turned


def rotate_all(
    xs: Sequence[Float[Tensor, "..."]],
    cos: Float[Tensor, "*ones seq half"],
    sin: Float[Tensor, "*ones seq half"],
    layout: Layout,
) -> Sequence[Float[Tensor, "..."]]:
    """The same for several, such as queries and keys, of one width and dtype."""
    x, width = xs[0], 2 * cos.shape[-1]
    if width < x.shape[-1]:
        turned = rotate_all([x[..., :width] for x in xs], cos, sin, layout)
        return [
            torch.cat([some, x[..., width:]], dim=-1)
            for some, x in zip(turned, xs, strict=True)
        ]
    dtype = computing_dtype(x.dtype)
    if cos.dtype != dtype:
        cos, sin = cos.to(dtype), sin.to(dtype)
    if torch.compiler.is_compiling() or cos.requires_grad or sin.requires_grad:
        # The compiler makes one pass of the formula; eager mode would make six.
        return [_formula(x, cos, sin, layout) for x in xs]
    return _turn(cos, sin, layout, *xs)


def check_same_tokens(q: Tensor, k: Tensor) -> None:
    """Raises an error unless one table fits both."""
    if (q.shape[-2], q.dtype) != (k.shape[-2], k.dtype):
        raise ValueError(
            "`q` and `k` must be of the same tokens and dtype, but got "
            f"{q.dtype} of shape {tuple(q.shape)} and {k.dtype} of shape "
            f"{tuple(k.shape)}."
        )


def _formula(x, cos, sin, layout):
    formula = {"halves": _halves, "adjacent": _adjacent}[layout]
    return formula(x.to(cos.dtype), cos, sin).to(x.dtype)


def _halves(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def _adjacent(x, cos, sin):
    a, b = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
    return torch.stack([a * cos - b * sin, b * cos + a * sin], dim=-1).flatten(-2)


def _halves_in_few_passes(x, wide_cos, sin, out=None):
    turned, half = torch.mul(x, wide_cos, out=out), sin.shape[-1]
    turned[..., :half].addcmul_(x[..., half:], sin, value=-1)
    turned[..., half:].addcmul_(x[..., :half], sin)
    return turned


def _adjacent_in_few_passes(x, turns, out=None):
    into = None if out is None else _as_complex(out)
    turned = torch.mul(_as_complex(x), turns, out=into)
    return torch.view_as_real(turned).reshape(*turned.shape[:-1], 2 * turned.shape[-1])


def _as_complex(x):
    pairs = x.view(*x.shape[:-1], x.shape[-1] // 2, 2)
    steps = (*pairs.stride()[:-1], pairs.storage_offset())
    if pairs.stride(-1) != 1 or any(step % 2 for step in steps):
        pairs = pairs.clone(memory_format=torch.contiguous_format)
    return torch.view_as_complex(pairs)


def _turn(cos, sin, layout, *xs):
    if _is_transformed():
        return _Transformed.apply(cos, sin, layout, *xs)
    if any(x.requires_grad for x in xs):
        return _Turned.apply(cos, sin, layout, *xs)
    # A Function takes longer to call than a decoded token to turn.
    return _in_few_passes(cos, sin, layout, *xs)


def _in_few_passes(cos, sin, layout, *xs):
    """The formula, over no more at a time than a cache holds."""
    if layout == "halves":
        turn, tables = _halves_in_few_passes, (torch.cat([cos, cos], dim=-1), sin)
    else:
        turn, tables = _adjacent_in_few_passes, (torch.complex(cos, sin),)
    numbers, wide = _numbers(cos.device), cos.dtype

    def turned(x):
        if x.numel() > numbers and not any(map(_is_followed, (x, *tables))):
            return _by_blocks(turn, x, tables, numbers, wide)
        if x.dtype == wide:
            return turn(x, *tables)
        return turn(x.to(wide), *tables).to(x.dtype)

    return tuple(map(turned, xs))


def _by_blocks(turn, x, tables, numbers, wide):
    batch = torch.broadcast_shapes(x.shape[:-1], tables[0].shape[:-1])
    x = x.expand(*batch, -1)
    out = x.new_empty(x.shape)
    numbers = max(numbers, x.shape[-1])
    # New memory takes longer to come than the sums: all blocks share what they need.
    shared = None if x.dtype == wide else x.new_empty((2, numbers), dtype=wide)
    before = after = None
    for block, some, *some_tables in _blocks(numbers, out, x, *tables):
        if shared is None:
            turn(some, *some_tables, out=block)
            continue
        if before is None or before.shape != some.shape:
            before, after = (each[: some.numel()].view(some.shape) for each in shared)
        block.copy_(turn(before.copy_(some), *some_tables, out=after))
    return out


def _blocks(numbers, out, x, *tables):
    """Cuts all alike, so that there are no more than so many numbers in a block."""
    *axes, _ = out.shape
    axis = next((i for i, size in enumerate(axes) if size > 1), None)
    if axis is None or out.numel() <= numbers:
        yield out, x, *tables
        return
    count = max(1, numbers * axes[axis] // out.numel())
    from_right = axis - out.ndim

    def cut(each):
        if each.ndim < -from_right or each.shape[from_right] == 1:
            return itertools.repeat(each)
        return each.split(count, from_right)

    # Some need no cut, and go on for ever.
    for pieces in zip(*map(cut, (out, x, *tables)), strict=False):
        yield from _blocks(numbers, *pieces)


class _Turn(torch.autograd.Function):
    """`_in_few_passes`, whose gradient is the turn back."""

    @staticmethod
    def keep(ctx, cos, sin, layout):
        ctx.layout = layout
        ctx.save_for_backward(cos, sin)
        ctx.save_for_forward(cos, sin)

    @staticmethod
    def backward(ctx, *gradients):
        cos, sin = ctx.saved_tensors
        return None, None, None, *_turn(cos, -sin, ctx.layout, *gradients)

    @staticmethod
    def jvp(ctx, *tangents):
        (_, _, _, *tangents), (cos, sin) = tangents, ctx.saved_tensors
        return _turn(cos, sin, ctx.layout, *tangents)


class _Turned(_Turn):
    @staticmethod
    def forward(ctx, cos, sin, layout, *xs):
        _Turn.keep(ctx, cos, sin, layout)
        return _in_few_passes(cos, sin, layout, *xs)


class _Transformed(_Turn):
    """The same for `torch.func`. What it needs takes longer to call."""

    @staticmethod
    def forward(cos, sin, layout, *xs):
        return _in_few_passes(cos, sin, layout, *xs)

    @staticmethod
    def setup_context(ctx, inputs, output):
        cos, sin, layout, *_ = inputs
        _Turn.keep(ctx, cos, sin, layout)

    @staticmethod
    def vmap(info, in_dims, *args):
        cos, sin, layout, *xs = args
        of_cos, of_sin, _, *of_xs = in_dims

        def mapped(x, of_x):
            tensors, axes = (cos, sin, x), (of_cos, of_sin, of_x)
            # Tables are broadcast from the right, and so the new axis comes first.
            rank = max(
                each.ndim - (axis is not None)
                for each, axis in zip(tensors, axes, strict=True)
            )

            def first(each, axis):
                each = each[None] if axis is None else each.movedim(axis, 0)
                ones = (1,) * (rank - each.ndim + 1)
                return each.reshape(each.shape[0], *ones, *each.shape[1:])

            *tables, wide = map(first, tensors, axes)
            wide = wide.expand(info.batch_size, *wide.shape[1:])
            (turned,) = _Transformed.apply(*tables, layout, wide)
            return turned

        return tuple(map(mapped, xs, of_xs)), (0,) * len(xs)


def _is_followed(x):
    """Whether it has a tangent, or is a batch of `torch.autograd.grad`: neither can be
    computed into what there is."""
    return _is_batched(x) or forward_ad.unpack_dual(x).tangent is not None


def _numbers(device):
    """How many numbers to turn at a time: memory that is new costs more than sums."""
    if device.type != "cpu":
        return sys.maxsize
    return _NUMBERS_PER_CORE * torch.get_num_threads()


# Whether `torch.vmap` or the like looks on; the long way is right in any case.
_is_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)
_functorch = getattr(torch._C, "_functorch", None)
_is_batched = getattr(_functorch, "is_legacy_batchedtensor", lambda x: True)
# A megabyte of float32, and as much again for what becomes of it.
_NUMBERS_PER_CORE = 2**18
