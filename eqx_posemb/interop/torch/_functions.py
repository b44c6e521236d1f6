"""Functions of [`eqx_posemb.functional`][] for tensors, under Zeta's names."""

import torch
from jaxtyping import Float
from torch import Tensor

from ...functional._xpos import check_pairs
from ._angles import computing_dtype, cos_sin, rotate, words_of


Tokens = Float[Tensor, "*batch seq dim"]
Table = Float[Tensor, "rows columns"]


def fixed_pos_embedding(x: Table) -> tuple[Table, Table]:
    """[`eqx_posemb.functional.fixed_pos_embedding`][] in the dtype of `x`.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import fixed_pos_embedding

        sin, cos = fixed_pos_embedding(torch.rand(10, 32))
        ```
    """
    seq, dim = x.shape
    positions = torch.arange(seq, device=x.device)
    # Each channel of `x` has a frequency of its own, as in Zeta, so the schedule has
    # twice the channels.
    cos, sin = cos_sin(positions, words_of(x.device, 2 * dim), x.dtype)
    return sin, cos


def rotate_every_two(x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
    """[`eqx_posemb.functional.rotate_every_two`][]: from (a, b) to (-b, a).

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import rotate_every_two

        assert rotate_every_two(torch.tensor([1.0, 2.0])).tolist() == [-2, 1]
        ```

    **Raises:** a `ValueError` if the last axis is odd.
    """
    check_pairs(x)
    return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)


def duplicate_interleave(m: Float[Tensor, "... n"]) -> Float[Tensor, "... twice"]:
    """[`eqx_posemb.functional.duplicate_interleave`][] with any leading axes.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import duplicate_interleave

        assert duplicate_interleave(torch.tensor([1.0, 2.0])).tolist() == [1, 1, 2, 2]
        ```
    """
    return m.repeat_interleave(2, dim=-1)


def twice(columns: Tensor) -> Tensor:
    """The table with every column again after the last one."""
    return torch.cat([columns, columns], dim=-1)


def apply_rotary_pos_emb(
    x: Tokens, sin: Table, cos: Table, scale: float | Table = 1
) -> Tokens:
    """Rotates adjacent pairs of channels by given sines and cosines, times `scale`.

    `sin` and `cos` have a column for each pair, which `fixed_pos_embedding` makes from
    half of the channels, or for each channel, which `duplicate_interleave` makes.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import apply_rotary_pos_emb, fixed_pos_embedding

        sin, cos = fixed_pos_embedding(torch.rand(32, 128))
        turned = apply_rotary_pos_emb(torch.rand(16, 32, 256), sin, cos)
        ```

    **Raises:** a `ValueError` for other shapes.
    """
    check_pairs(x)
    seq, dim = x.shape[-2:]
    if sin.shape != cos.shape or sin.shape not in ((seq, dim // 2), (seq, dim)):
        raise ValueError(
            "`sin` and `cos` must have a column for each pair of channels of `x`, "
            f"{[seq, dim // 2]}, or for each channel, {[seq, dim]}, but got "
            f"{list(sin.shape)} and {list(cos.shape)}. `fixed_pos_embedding` makes "
            "a column for each pair from an input of half the channels."
        )
    dtype = computing_dtype(x.dtype)
    cos, sin = cos.to(dtype) * scale, sin.to(dtype) * scale
    if sin.shape[1] == dim // 2:
        return rotate(x, cos, sin, "adjacent")
    wide = x.to(dtype)
    return (wide * cos + rotate_every_two(wide) * sin).to(x.dtype)


def linear_ramp_mask(min: float, max: float, dim: int) -> Float[Tensor, " {dim}"]:
    """[`eqx_posemb.functional.linear_ramp_mask`][] in PyTorch's default dtype.

    !!! Example

        ```python
        from eqx_posemb.interop.torch import linear_ramp_mask

        assert linear_ramp_mask(1, 3, dim=5).tolist() == [0, 0, 0.5, 1, 1]
        ```
    """
    # YaRN's code widens an empty ramp to 0.001, against a division by zero.
    width = 0.001 if min == max else max - min
    index = torch.arange(dim, dtype=torch.get_default_dtype())
    return ((index - min) / width).clamp(0, 1)
