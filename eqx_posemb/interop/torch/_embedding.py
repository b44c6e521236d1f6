"""A whole embedding as a module of PyTorch."""

import functools
import operator
from typing import Any

import torch
from torch import Tensor

from ..._attention import reach_of
from ..._bundle import PositionalEmbedding
from ._angles import as_positions
from ._parts import TorchPart
from ._rotations import TorchRotary


class TorchEmbedding(TorchPart):
    """Everything that position does to attention, for tensors of PyTorch.

    `encoding`, `rotary`, `bias` and `score` are its parts, or `None`. A batch comes
    first everywhere; positions, masks and segments are those of each example, or
    shared.
    """

    rotary: TorchPart | None
    encoding: TorchPart | None

    def __init__(self, module: PositionalEmbedding, slots: dict[str, TorchPart]):
        super().__init__(module)
        for name in "encoding", "rotary", "bias", "score":
            setattr(self, name, slots.get(name))
        self._scale = module.scale
        rotary = slots.get("rotary")
        native = isinstance(rotary, TorchRotary) and rotary.exact
        self._native = native and module.bias is module.score is None

    def _place(self, name, parameter):
        """Nothing: the parts hold the parameters, under the names they have here."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds the encoding of positions [seq, *axes], with or without the batch, to
        tokens [*batch, seq, dim], in their dtype; without one they stay as they are."""
        if self.encoding is None:
            return x
        return self._run("embed", x=x, positions=positions)[0]

    def logits(
        self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor, **others
    ) -> Tensor:
        """The finished logits, [*batch, heads, q, k], in the dtype of `q`: scaled,
        rotated, with bias and score; not masked.

        **Arguments:** as in [`eqx_posemb.PositionalEmbedding.logits`][], after the
        batch.
        """
        at = dict(q_positions=q_positions, k_positions=k_positions)
        return self._run("logits", q=q, k=k, **at, **others)[0]

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_positions: Tensor,
        k_positions: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        implementation: str = "auto",
        **others: Any,
    ) -> Tensor:
        """Softmax attention over the finished logits.

        **Arguments:** as in [`eqx_posemb.PositionalEmbedding.attend`][], after the
        batch; but

        - `mask`: [q, k], or [*batch, heads, q, k], where heads may be 1.
        - `implementation`: `"auto"` is PyTorch's `scaled_dot_product_attention` where
            there is no more than a rotation, which has no second derivatives, and JAX
            elsewhere; `"dense"` and `"blockwise"` are JAX's.

        **Returns:**

        The attended values, [*batch, heads, q, dim_v], in the dtype of `v`; zeros for
        a query that sees no key.
        """
        at = dict(q_positions=q_positions, k_positions=k_positions)
        rules = {name: others.get(name) for name in _RULES}
        # Angles that are the same for every length read no `length`.
        rest = [x for name, x in others.items() if name not in (*_RULES, "length")]
        plain = implementation == "auto" and all(x is None for x in rest)
        plain = plain and q.dtype == k.dtype == v.dtype and q.ndim > 2
        if self.rotary is not None and self._native and plain:
            return torch.nn.functional.scaled_dot_product_attention(
                self.rotary(q_positions).queries(q),
                self.rotary(k_positions).keys(k),
                v,
                attn_mask=_seen(q.ndim - 3, mask, causal, **at, **rules),
                scale=self._scale,
                enable_gqa=q.shape[-3] != k.shape[-3],
            )
        if mask is not None and mask.ndim > 2:
            mask = mask.expand(*mask.shape[:-3], q.shape[-3], *mask.shape[-2:])
        others |= dict(causal=bool(causal), implementation=implementation)
        return self._run("attend", q=q, k=k, v=v, **at, mask=mask, **others)[0]

    def forward(self, *tensors: Tensor, **settings) -> Tensor:
        """The same as `attend`."""
        return self.attend(*tensors, **settings)


_RULES = "window", "q_segments", "k_segments"


def _seen(
    batch, mask, causal, q_positions, k_positions, window, q_segments, k_segments
) -> Tensor | None:
    """The conjunction of all rules, to be broadcast to [*batch, heads, q, k]; `None` if
    there is no rule."""
    seen = []
    if causal or window is not None:
        if q_positions.ndim not in (1, 1 + batch):
            raise ValueError(
                "`causal` and `window` compare positions of shape [*batch, seq], but "
                f"got {tuple(q_positions.shape)}: on a grid there is no order. Use "
                "`mask`."
            )
        q_positions = as_positions(q_positions, "q_positions")
        k_positions = as_positions(k_positions, "k_positions")
        delta = k_positions[..., None, :] - q_positions[..., None]
        if causal:
            seen.append(delta <= 0)
        if window is not None:
            back, ahead = reach_of(window)
            seen.append((-back <= delta) & (delta <= ahead))
    if (q_segments is None) != (k_segments is None):
        raise ValueError(
            "`q_segments` and `k_segments` go together, but got only one of them. In "
            "self-attention they are the same tensor."
        )
    if q_segments is not None:
        seen.append(q_segments[..., None] == k_segments[..., None, :])
    seen = [each.unsqueeze(-3) if each.ndim > 2 else each for each in seen]
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(
                "`mask` must be boolean, True where a query sees a key, but got "
                f"{mask.dtype}. Add numbers to logits by a bias."
            )
        seen.append(mask)
    return functools.reduce(operator.and_, seen) if seen else None
