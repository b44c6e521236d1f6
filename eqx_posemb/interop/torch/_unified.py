"""Untied positions, as positional-embeddings-pytorch documents them."""

import torch
from jaxtyping import Float, Integer
from torch import nn, Tensor

from ..._checks import check_at_least, check_positive
from ._positional import (
    check_between,
    check_shapes,
    distances,
    each,
    Positional,
    products,
)
from ._relative import Buckets


class UnifiedPositionalEmbedding(Positional):
    r"""Adds products of positions that are projected apart from the content.

    [`eqx_posemb.tupe`][], with the parameters of its authors' code: [CLS], at position
    0, has two rows of the table and two buckets of its own for its numbers,

    $$\ell_{ij} = s\, (q_i \cdot k_j + p^Q_i \cdot p^K_j) + b(p_j - p_i), \qquad
      s = (2 d)^{-1/2}$$

    for heads of $d$ channels. `forward_attn` has $\ell / s$. Compute it in one layer,
    and in the others with the same module: TUPE shares it.

    The original cannot be made. Its content is not scaled and its `pos_scale_factor` is
    1, where the authors have 2; [CLS] is not there, and its column would win over its
    row. Dropout acts on the normalised rows.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import UnifiedPositionalEmbedding

        embedding = UnifiedPositionalEmbedding(
            embed_dim=512, num_heads=8, max_length=128, has_cls_token=True
        )
        q = k = torch.rand(2, 8, 10, 64)
        logits = embedding.forward_attn(q, k, torch.arange(10), torch.arange(10))
        weights = (embedding.scale * logits).softmax(dim=-1)
        ```
    """

    scale: float

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        max_length: int,
        dropout_p: float = 0.0,
        has_cls_token: bool = False,
        rel_pos_embed: bool = True,
        num_buckets: int = 32,
        max_distance: int = 128,
        pos_scale_factor: float = 2,
    ):
        """**Arguments:**

        - `embed_dim`: The number of channels of all heads, and of a row.
        - `num_heads`: The number of heads.
        - `max_length`: The number of positions.
        - `dropout_p`: The probability of dropout.
        - `has_cls_token`: Whether position 0 is [CLS].
        - `rel_pos_embed`: Whether to add T5's bias (TUPE-R) or not (TUPE-A).
        - `num_buckets`, `max_distance`: Of that bias, which is bidirectional.
        - `pos_scale_factor`: How many terms the scale is for.

        **Raises:** a `ValueError` if `num_heads` does not divide `embed_dim`, or a
        number is out of its range.
        """
        check_at_least("num_heads", num_heads, 1)
        check_at_least("max_length", max_length, 1)
        check_positive("pos_scale_factor", pos_scale_factor)
        if embed_dim < 1 or embed_dim % num_heads:
            raise ValueError(
                f"`embed_dim` must be a multiple of `num_heads`, {num_heads}, but got "
                f"{embed_dim}."
            )
        head_dim = embed_dim // num_heads
        super().__init__((head_dim * pos_scale_factor) ** -0.5, dropout_p)
        # What undoes the scale, for the bias that is outside of it.
        self._outside = (head_dim * pos_scale_factor) ** 0.5
        self.heads, self.dim, self.has_cls_token = num_heads, head_dim, has_cls_token
        rows = max_length + has_cls_token
        self.abs_pos_embed = nn.Parameter(torch.empty(rows, embed_dim))
        self.ln = nn.LayerNorm(embed_dim)
        self.in_proj = nn.Linear(embed_dim, 2 * embed_dim)
        self.buckets = self.rel_pos_embed = None
        if rel_pos_embed:
            self.buckets = Buckets(num_buckets, max_distance, bidirectional=True)
            self.rel_pos_embed = nn.Embedding(num_buckets + 1, num_heads)
            nn.init.normal_(self.rel_pos_embed.weight, std=0.02)
        nn.init.normal_(self.abs_pos_embed, std=0.02)
        nn.init.normal_(self.in_proj.weight, std=0.02)
        nn.init.zeros_(self.in_proj.bias)

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Integer[Tensor, "*batch q"] | None = None,
        positions_k: Integer[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """As in every class; multiply by `scale`.

        **Raises:** as there, and a `ValueError` for a position without a row.
        """
        check_shapes(q, k, positions_q, positions_k, self.heads, self.dim, True)
        logits = products(q, k)
        rows = nn.functional.layer_norm(
            self.abs_pos_embed.to(logits.dtype),
            self.ln.normalized_shape,
            self.ln.weight.to(logits.dtype),
            self.ln.bias.to(logits.dtype),
            self.ln.eps,
        )
        projected = nn.functional.linear(
            self.dropout(rows),
            self.in_proj.weight.to(logits.dtype),
            self.in_proj.bias.to(logits.dtype),
        )
        at_q, at_k = each(positions_q, q), each(positions_k, k)
        of_q, of_k = projected.unflatten(-1, (2, self.heads, self.dim)).unbind(dim=-3)
        for name, at in ("positions_q", at_q), ("positions_k", at_k):
            last = of_q.shape[0] - self.has_cls_token - 1
            check_between(f"`{name}`", at, 0, last)
        look_up = lambda of, at: nn.functional.embedding(
            at, of[self.has_cls_token :].flatten(1)
        ).unflatten(-1, (self.heads, self.dim))
        bias = torch.einsum("bqhd,bkhd->bhqk", look_up(of_q, at_q), look_up(of_k, at_k))
        bias = bias + self._relative(distances(positions_q, positions_k, q, k), bias)
        if self.has_cls_token:
            from_cls, to_cls = self._of_cls(of_q, of_k)
            bias = torch.where(at_k[:, None, None, :] == 0, to_cls, bias)
            bias = torch.where(at_q[:, None, :, None] == 0, from_cls, bias)
        return (logits + bias).to(q.dtype)

    def _relative(self, delta, like):
        if self.buckets is None or self.rel_pos_embed is None:
            return torch.zeros_like(like[:1, :, :1, :1])
        bias = self.rel_pos_embed(self.buckets(delta)).permute(0, 3, 1, 2)
        return bias.to(like.dtype) * self._outside

    def _of_cls(self, of_q, of_k):
        """The numbers of its row, and of its column."""
        numbers = (of_q[:2] * of_k[:2]).sum(dim=-1)
        if self.rel_pos_embed is not None:
            # Two buckets that no distance has: the first of the future, and the last.
            last = self.rel_pos_embed.num_embeddings - 1
            rows = self.rel_pos_embed.weight[[last // 2, last]]
            numbers = numbers + rows.to(numbers.dtype) * self._outside
        return numbers[:, :, None, None]
