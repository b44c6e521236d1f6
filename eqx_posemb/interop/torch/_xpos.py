"""xPos and its functions, as Zeta's documentation has them."""

import math

import torch
from jaxtyping import Float, Num
from torch import nn, Tensor

from ..._checks import check_positive
from ..._frequencies import Geometric
from . import _schedules
from ._angles import Angles, computing_dtype, cos_sin
from ._rotate import check_same_tokens, rotate
from ._state import ignore


class XPOS(nn.Module):
    r"""Rotates adjacent pairs of channels, and lets logits fade with distance.

    Queries are multiplied by $\zeta_j^{(t - c) / B}$ and keys (`downscale=True`) by the
    inverse, for the position $t$, the `scale_base` $B$, half of all tokens, rounded up,
    as the centre $c$, and $\zeta_j$ as in [`eqx_posemb.XPosDecay`][]. It is for causal
    attention: towards the future logits grow.

    Zeta's values, but for its faults: `head_dim=None`, its default, takes the width of
    the input; angles are exact and not rounded to the dtype of the module; any leading
    axes are allowed; and a sequence for which the growth overflows raises an error. Its
    centre moves with the length, so that keys must be rotated anew when tokens come.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import XPOS

        xpos = XPOS(head_dim=64)
        q, k = torch.rand(2, 10, 64), torch.rand(2, 10, 64)
        q, k = xpos(q), xpos(k, downscale=True)
        ```
    """

    def __init__(self, head_dim: int | None = None, scale_base: float = 512):
        """**Arguments:**

        - `head_dim`: The number of channels; `None` is that of the input.
        - `scale_base`: How many positions it takes to fade.

        **Raises:** a `ValueError` if `head_dim` is odd or `scale_base` not positive.
        """
        super().__init__()
        check_positive("scale_base", scale_base)
        self.head_dim = head_dim
        self.scale_base = scale_base
        self.angles = None if head_dim is None else Angles(Geometric(head_dim).turns())
        ignore(self, "scale")

    @property
    def scale(self) -> Float[Tensor, " half"]:
        """What a query is multiplied by, `scale_base` positions after the centre."""
        if self.head_dim is None:
            raise ValueError(
                "`scale` must have a `head_dim` to be for, but got None. Name it when "
                "the module is made."
            )
        return _schedules.xpos(self.head_dim, torch.device("cpu")).exp().float()

    def forward(
        self,
        x: Float[Tensor, "*batch seq dim"],
        offset: int = 0,
        downscale: bool = False,
    ) -> Float[Tensor, "*batch seq dim"]:
        """**Arguments:**

        - `x`: queries or keys.
        - `offset`: how many tokens come before them.
        - `downscale`: whether they are keys.

        **Returns:**

        A tensor like `x`; computed in at least float32.

        **Raises:** a `ValueError` if the channels are odd or not `head_dim`, or if the
        growth overflows.
        """
        tables, grown = self._tables(x, offset)
        return _rotated(x, tables, 1 / grown if downscale else grown)

    def rotate_queries_and_keys(
        self,
        q: Float[Tensor, "*q_batch seq dim"],
        k: Float[Tensor, "*k_batch seq dim"],
        offset: int = 0,
    ) -> tuple[Float[Tensor, "*q_batch seq dim"], Float[Tensor, "*k_batch seq dim"]]:
        """Both as by calls, with angles and growth that are computed once.

        **Arguments:**

        - `q`, `k`: queries and keys of the same tokens.
        - `offset`: how many tokens come before them.

        **Returns:**

        The two, rotated.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        check_same_tokens(q, k)
        self._check_width(k)
        tables, grown = self._tables(q, offset)
        return _rotated(q, tables, grown), _rotated(k, tables, 1 / grown)

    def _tables(self, x, offset):
        """The cosine and the sine, and what queries grow by."""
        self._check_width(x)
        seq, dim = x.shape[-2:]
        dtype = computing_dtype(x.dtype)
        positions = torch.arange(offset, offset + seq, device=x.device)
        if self.angles is None:
            tables = cos_sin(positions, _schedules.geometric(dim, x.device), dtype)
        else:
            tables = self.angles(positions, dtype)
        center = (seq + offset + 1) // 2
        self._check_growth(center, dim, x.dtype)
        return tables, growth(positions - center, dim, self.scale_base)

    def _check_width(self, x):
        if x.shape[-1] % 2 or self.head_dim not in (None, x.shape[-1]):
            wanted = "even" if self.head_dim is None else self.head_dim
            raise ValueError(
                "`x` must have shape [..., seq, dim] with `dim` as `head_dim`, "
                f"{wanted}, but got {tuple(x.shape)}."
            )

    def _check_growth(self, center, dim, dtype):
        steepest = -math.log(0.4 / 1.4)
        if center * steepest / self.scale_base > math.log(torch.finfo(dtype).max):
            raise ValueError(
                "`x` and `offset` must make a sequence for which the growth of xPos "
                f"does not overflow {dtype}, but got {2 * center} positions. Raise "
                f"`scale_base`, {self.scale_base}."
            )


def _rotated(x, tables, factor):
    cos, sin = (table * factor.to(table.dtype) for table in tables)
    return rotate(x, cos, sin, "adjacent")


def fixed_pos_embedding(
    x: Float[Tensor, "seq dim"],
) -> tuple[Float[Tensor, "seq dim"], Float[Tensor, "seq dim"]]:
    """The sine and cosine of every position, at as many frequencies as channels.

    [`eqx_posemb.functional.fixed_pos_embedding`][] in PyTorch. Zeta rounds angles to
    the dtype of `x`, which in bfloat16 leaves nothing of them; here the result is.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import apply_rotary_pos_emb, fixed_pos_embedding

        sin, cos = fixed_pos_embedding(torch.rand(10, 32))
        q = apply_rotary_pos_emb(torch.rand(2, 10, 64), sin, cos)
        ```

    **Arguments:**

    - `x`: a tensor of the shape, dtype and device to have.

    **Returns:** the sine and the cosine.
    """
    seq, dim = x.shape
    positions = torch.arange(seq, device=x.device)
    cos, sin = cos_sin(positions, _schedules.geometric(2 * dim, x.device), x.dtype)
    return sin, cos


def rotate_every_two(x: Float[Tensor, "... dim"]) -> Float[Tensor, "... dim"]:
    """Turns each adjacent pair by a right angle: from (a, b) to (-b, a).

    With any leading axes; Zeta takes the wrong axis unless there are two.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import rotate_every_two

        assert rotate_every_two(torch.tensor([1.0, 2.0])).tolist() == [-2, 1]
        ```

    **Arguments:**

    - `x`: a tensor with an even last axis.

    **Returns:** a tensor like `x`.

    **Raises:** a `ValueError` if the last axis is odd.
    """
    _check_even(x)
    return torch.stack([-x[..., 1::2], x[..., ::2]], dim=-1).flatten(-2)


def duplicate_interleave(m: Float[Tensor, "... n"]) -> Float[Tensor, "... twice"]:
    """Every column twice, side by side.

    With any leading axes; Zeta flattens those after the first.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import duplicate_interleave

        twice = duplicate_interleave(torch.tensor([[1.0, 2.0]]))
        assert twice.tolist() == [[1, 1, 2, 2]]
        ```

    **Arguments:**

    - `m`: a matrix, or a tensor of any shape.

    **Returns:** the tensor with a last axis of twice the length.
    """
    return torch.stack([m, m], dim=-1).flatten(-2)


def apply_rotary_pos_emb(
    x: Float[Tensor, "*batch seq dim"],
    sin: Float[Tensor, "rows columns"],
    cos: Float[Tensor, "rows columns"],
    scale: float | Float[Tensor, "rows columns"] = 1,
) -> Float[Tensor, "*batch seq dim"]:
    """Rotates adjacent pairs of channels by given sines and cosines.

    `sin` and `cos` have a column for each pair, as `fixed_pos_embedding` makes them
    from an input of half the channels, or one for each channel, as
    `duplicate_interleave` makes of those. Zeta's documentation applies tables for 1024
    channels to 256, which is an error; it means the example below.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import apply_rotary_pos_emb, fixed_pos_embedding

        input_tensor = torch.rand(16, 32, 256)
        sin, cos = fixed_pos_embedding(torch.rand(32, 128))
        output_tensor = apply_rotary_pos_emb(input_tensor, sin, cos, scale=1)
        ```

    **Arguments:**

    - `x`: queries or keys.
    - `sin`, `cos`: of the angle of each position and pair, or channel.
    - `scale`: what to multiply the result by; one number, or a tensor like `sin`.

    **Returns:** a tensor like `x`; computed in at least float32.

    **Raises:** a `ValueError` for other shapes.
    """
    _check_even(x)
    seq, dim = x.shape[-2:]
    if sin.shape != cos.shape or sin.shape not in ((seq, dim // 2), (seq, dim)):
        raise ValueError(
            "`sin` and `cos` must have a column for each pair of channels of `x`, "
            f"{[seq, dim // 2]}, or for each channel, {[seq, dim]}, but got "
            f"{list(sin.shape)} and {list(cos.shape)}. `fixed_pos_embedding` makes "
            "those of pairs from an input of half the channels."
        )
    dtype = computing_dtype(x.dtype)
    cos, sin = cos.to(dtype) * scale, sin.to(dtype) * scale
    if sin.shape[1] == dim // 2:
        return rotate(x, cos, sin, "adjacent")
    wide = x.to(dtype)
    return (wide * cos + rotate_every_two(wide) * sin).to(x.dtype)


def growth(
    positions: Num[Tensor, " seq"], dim: int, scale_base: float
) -> Float[Tensor, "seq half"]:
    """What queries are multiplied by, at positions that count from the centre."""
    rates = _schedules.xpos(dim, positions.device)
    return (positions.unsqueeze(-1) * rates / scale_base).exp()


def _check_even(x):
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(
            "`x` must have an even last axis, to be turned in pairs, but got shape "
            f"{tuple(x.shape)}."
        )
