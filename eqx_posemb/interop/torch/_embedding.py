"""A whole embedding as a module of PyTorch."""

from typing import Literal

import torch
from torch import Tensor

from ..._bundle import PositionalEmbedding
from ._parts import depths_of, scalar, TorchPart
from ._rotations import TorchRotary
from ._visible import visible


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
        self._native = (
            isinstance(rotary, TorchRotary)
            and rotary.exact
            and module.bias is None
            and module.score is None
        )

    def _place(self, name, parameter):
        """Nothing: the parts hold the parameters, under the names they have here."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds the encoding to tokens; without one they stay as they are.

        **Arguments:**

        - `x`: the tokens, [*batch, seq, dim].
        - `positions`: [seq, *axes], with or without the batch.

        **Returns:**

        `x + encoding(positions)`, in the dtype of `x`; added in at least float32.
        """
        if self.encoding is None:
            return x
        inputs = dict(x=x, positions=positions)
        return self._run("embed", inputs, depths_of(inputs))[0]

    def logits(
        self,
        q: Tensor,
        k: Tensor,
        q_positions: Tensor,
        k_positions: Tensor,
        *,
        length: int | Tensor | None = None,
        q_state: Tensor | None = None,
        k_state: Tensor | None = None,
    ) -> Tensor:
        """The finished logits: scaled, rotated, with bias and score; not masked.

        **Arguments:** as in [`eqx_posemb.PositionalEmbedding.logits`][], after the
        batch.

        **Returns:**

        The logits, [*batch, heads, q, k], in the dtype of `q`.
        """
        inputs = dict(q=q, k=k, q_positions=q_positions, k_positions=k_positions)
        inputs |= dict(length=scalar(length, q), q_state=q_state, k_state=k_state)
        return self._run("logits", inputs, depths_of(inputs))[0]

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
        window: int | tuple[int, int] | None = None,
        q_segments: Tensor | None = None,
        k_segments: Tensor | None = None,
        length: int | Tensor | None = None,
        q_state: Tensor | None = None,
        k_state: Tensor | None = None,
        soft_cap: float | None = None,
        implementation: Literal["auto", "dense", "blockwise"] = "auto",
        block_size: int | None = None,
    ) -> Tensor:
        """Softmax attention over the finished logits.

        **Arguments:** as in [`eqx_posemb.PositionalEmbedding.attend`][], after the
        batch; but

        - `mask`: [q, k], or [*batch, heads, q, k], where heads may be 1.
        - `implementation`: `"auto"` is PyTorch's `scaled_dot_product_attention` where
            there is no more than a rotation, which has no second derivatives, and JAX
            elsewhere; the other two are JAX's.

        **Returns:**

        The attended values, [*batch, heads, q, dim_v], in the dtype of `v`; zeros for
        a query that sees no key.
        """
        settings = dict(causal=bool(causal), window=window, soft_cap=soft_cap)
        plain = soft_cap is None and q_state is None and k_state is None
        plain = plain and implementation == "auto" and block_size is None
        if self._native and plain and q.dtype == k.dtype == v.dtype and q.ndim > 2:
            rules = dict(mask=mask, q_segments=q_segments, k_segments=k_segments)
            seen = visible(
                q_positions,
                k_positions,
                causal=causal,
                window=window,
                batch=q.ndim - 3,
                **rules,
            )
            return self._rotated(q, k, v, q_positions, k_positions, seen)
        inputs = dict(q=q, k=k, v=v, q_positions=q_positions, k_positions=k_positions)
        if mask is not None and mask.ndim > 2:
            mask = mask.expand(*mask.shape[:-3], q.shape[-3], *mask.shape[-2:])
        inputs |= dict(mask=mask, q_segments=q_segments, k_segments=k_segments)
        inputs |= dict(length=scalar(length, q), q_state=q_state, k_state=k_state)
        settings |= dict(implementation=implementation, block_size=block_size)
        return self._run("attend", inputs, depths_of(inputs), **settings)[0]

    def forward(self, *tensors: Tensor, **settings) -> Tensor:
        """The same as `attend`."""
        return self.attend(*tensors, **settings)

    def _rotated(self, q, k, v, q_positions, k_positions, seen):
        assert self.rotary is not None
        turn_q, turn_k = self.rotary(q_positions), self.rotary(k_positions)
        return torch.nn.functional.scaled_dot_product_attention(
            turn_q.queries(q),
            turn_k.keys(k),
            v,
            attn_mask=seen,
            scale=self._scale,
            enable_gqa=q.shape[-3] != k.shape[-3],
        )
