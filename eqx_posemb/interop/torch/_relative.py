"""Logits by distance, as positional-embeddings-pytorch documents them."""

import functools

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import nn, Tensor

from ..._buckets import check_buckets, thresholds
from ..._checks import check_at_least, check_positive
from ..._frequencies import Geometric
from ..._score import EnformerBasis, KEPT
from ._angles import Angles, Fixed
from ._positional import check_between, distances, Positional


class TransformerXLPositionalEmbedding(Positional):
    """Relative positions of Transformer-XL, Dai et al. 2019.

    [`eqx_posemb.TransformerXL`][] with the parameters of a layer. Distances have both
    signs. Dropout acts on the sinusoid as each query sees it.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import TransformerXLPositionalEmbedding

        sizes = dict(embed_dim=512, num_heads=8, head_dim=64)
        embedding = TransformerXLPositionalEmbedding(**sizes)
        q = k = torch.rand(2, 8, 10, 64)
        weights = (embedding.scale * embedding.forward_attn(q, k)).softmax(dim=-1)
        ```
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        head_dim: int,
        dropout_p: float = 0.0,
        clamp_len: int = -1,
    ):
        """The sinusoid has `embed_dim` channels, and distances beyond `clamp_len` count
        as this one, if it is positive.

        **Raises:** a `ValueError` if `embed_dim` is odd, or a size not positive.
        """
        super().__init__(head_dim**-0.5, dropout_p, num_heads, head_dim)
        self.angles = Angles(Geometric(embed_dim).turns())
        self.clamp_len = clamp_len
        self.r_net = nn.Linear(embed_dim, num_heads * head_dim, bias=False)
        self.r_w_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        self.r_r_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def _added(self, q, k, at_q, at_k):
        weight = self.r_net.weight.unflatten(0, (self.heads, self.dim)).to(q.dtype)
        seen = self.dropout((q + self.r_r_bias.to(q.dtype)) @ weight)
        of_sin, of_cos = seen.chunk(2, dim=-1)
        # The addition theorem needs no memory beyond the logits.
        cos_q, sin_q = self.angles(at_q[:, None], q.dtype)
        cos_k, sin_k = self.angles(at_k[:, None], q.dtype)
        near = (of_sin * sin_q + of_cos * cos_q) @ cos_k.mT
        near = near + (of_cos * sin_q - of_sin * cos_q) @ sin_k.mT
        if self.clamp_len > 0:
            end = torch.tensor([self.clamp_len], device=q.device)
            cos, sin = self.angles(end, q.dtype)
            even, odd = of_cos @ cos.mT, of_sin @ sin.mT
            delta = distances(at_q, at_k)[:, None]
            far = torch.where(delta < 0, even + odd, even - odd)
            near = torch.where(delta.abs() > self.clamp_len, far, near)
        return self.r_w_bias.to(q.dtype) @ k.mT + near


class T5PositionalEmbedding(Positional):
    """Relative bias of T5, Raffel et al. 2020: [`eqx_posemb.T5Bias`][].

    T5 does not scale its logits, and so `scale` is one.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import T5PositionalEmbedding

        embedding = T5PositionalEmbedding(num_heads=8)
        q = k = torch.rand(2, 8, 10, 64)
        weights = embedding.forward_attn(q, k).softmax(dim=-1)
        ```
    """

    _integers = True

    def __init__(
        self,
        *,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ):
        """**Arguments and errors:** as [`eqx_posemb.T5Bias`][]."""
        super().__init__(1.0, heads=num_heads)
        self.buckets = Buckets(num_buckets, max_distance, bidirectional)
        self.relative_attention_bias = nn.Embedding(num_buckets, num_heads)

    def _added(self, q, k, at_q, at_k):
        buckets = self.buckets(distances(at_q, at_k))
        return self.relative_attention_bias(buckets).permute(0, 3, 1, 2).to(q.dtype)


class Buckets(Fixed):
    """T5's buckets of distances, by their first distances in exact integers."""

    def __init__(self, buckets: int, max_distance: int, bidirectional: bool):
        check_buckets(buckets, max_distance, bidirectional)
        side = buckets // 2 if bidirectional else buckets
        firsts = [*range(1, side // 2), *thresholds(side, max_distance)]
        super().__init__(np.array(firsts, np.int64))
        self.side, self.bidirectional = side, bidirectional

    def forward(self, delta: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of each distance, key minus query."""
        far = delta.abs() if self.bidirectional else (-delta).clamp(min=0)
        # With `right=True` the first distance of a bucket belongs to that bucket.
        bucket = torch.bucketize(far, self.values.to(far.dtype), right=True)
        return bucket + self.side * ((delta > 0) & self.bidirectional)


class TUPE(Positional):
    """Untied positional encoding (TUPE), Ke et al. 2021.

    [`eqx_posemb.tupe`][], with the parameters of its authors' code: [CLS], at position
    0, has two rows of the table and two buckets of its own. All layers share the
    module. Dropout acts on the normalized rows.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import TUPE

        q = k = torch.rand(2, 8, 10, 64)
        embedding = TUPE(embed_dim=512, num_heads=8, max_length=128)
        weights = (embedding.scale * embedding.forward_attn(q, k)).softmax(dim=-1)
        ```
    """

    _integers = True

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
        """For `max_length` positions, and `embed_dim` channels of all heads and of a
        row. `rel_pos_embed` adds T5's bidirectional bias (TUPE-R), with `num_buckets`
        up to `max_distance`. The scale is for `pos_scale_factor` terms.

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
        dim = embed_dim // num_heads
        super().__init__((dim * pos_scale_factor) ** -0.5, dropout_p, num_heads, dim)
        self.has_cls_token = has_cls_token
        rows = torch.empty(max_length + has_cls_token, embed_dim)
        self.abs_pos_embed = nn.Parameter(rows)
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

    def _added(self, q, k, at_q, at_k):
        rows = self.dropout(_wide(self.ln, self.abs_pos_embed.to(q.dtype)))
        rows = _wide(self.in_proj, rows)
        of_q, of_k = rows.unflatten(-1, (2, self.heads, self.dim)).unbind(dim=-3)
        first = int(self.has_cls_token)
        check_between("`positions_q`", at_q, 0, of_q.shape[0] - first - 1)
        check_between("`positions_k`", at_k, 0, of_q.shape[0] - first - 1)
        bias = torch.einsum("bqhd,bkhd->bhqk", of_q[first:][at_q], of_k[first:][at_k])
        # The first two rows give the numbers of the row and of the column of [CLS].
        cls = (of_q[:2] * of_k[:2]).sum(dim=-1)
        if self.buckets is not None and self.rel_pos_embed is not None:
            # A caller multiplies the result by `scale`, and T5's bias is not scaled in
            # TUPE.
            weight = self.rel_pos_embed.weight.to(q.dtype) / self.scale
            buckets = self.buckets(distances(at_q, at_k))
            bias = bias + nn.functional.embedding(buckets, weight).permute(0, 3, 1, 2)
            # No distance has the first bucket of the future or the last bucket, so
            # [CLS] has both.
            cls = cls + weight[[weight.shape[0] // 2, -1]]
        if self.has_cls_token:
            from_cls, to_cls = cls[:, :, None, None]
            bias = torch.where(at_k[:, None, None, :] == 0, to_cls, bias)
            bias = torch.where(at_q[:, None, :, None] == 0, from_cls, bias)
        return bias


class EnformerPositionalEmbedding(Positional):
    """Relative positions of Enformer, Avsec et al. 2021.

    [`eqx_posemb.Enformer`][] with DeepMind's features, which scale with the length.
    Dropout acts on them.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import EnformerPositionalEmbedding

        embedding = EnformerPositionalEmbedding(num_heads=8, head_dim=64)
        q = k = torch.rand(2, 8, 10, 64)
        weights = (embedding.scale * embedding.forward_attn(q, k)).softmax(dim=-1)
        ```
    """

    _integers = True

    def __init__(
        self,
        *,
        num_heads: int,
        head_dim: int,
        dropout_p: float = 0.0,
        max_length: int | None = None,
        num_features: int | None = None,
    ):
        """The features are spread over `max_length` positions, by default as many as
        there are keys, and no two tokens may be further apart. Their number is a
        multiple of 6, by default from `head_dim`, rounded down.

        **Raises:** a `ValueError` if a size is less than one, or `num_features` no
        multiple of 6.
        """
        super().__init__(head_dim**-0.5, dropout_p, num_heads, head_dim)
        if num_features is None:
            num_features = max(6, head_dim - head_dim % 6)
        self.features = num_features
        table = _table(num_features, 1 if max_length is None else max_length)
        self.table = None if max_length is None else Fixed(table)
        self.pos_embed = nn.Linear(num_features, num_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        self.pos_embed_bias = nn.Parameter(torch.empty(num_heads, 1, head_dim))
        biases = (self.content_bias, num_heads), (self.pos_embed_bias, num_heads)
        for parameter, fan_in in ((self.pos_embed.weight, num_features), *biases):
            # Truncation at two standard deviations lowers the variance, and KEPT
            # corrects it.
            std = (2 / fan_in) ** 0.5 / KEPT
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)

    def _added(self, q, k, at_q, at_k):
        if self.table is None:
            host = _table(self.features, max(k.shape[2], 1))
            table = torch.tensor(host, device=q.device)
        else:
            table = self.table.values
        u, v = self.content_bias.to(q.dtype), self.pos_embed_bias.to(q.dtype)
        vectors = _wide(self.pos_embed, self.dropout(table.to(q.dtype)))
        vectors = vectors.unflatten(-1, (self.heads, self.dim)).permute(1, 2, 0)
        # A caller multiplies the result by `scale`, and DeepMind adds both biases
        # unscaled.
        of_distances = (q + v / self.scale) @ vectors
        delta, end = distances(at_q, at_k), table.shape[0] // 2
        check_between("`positions_k` minus `positions_q`", delta, -end, end)
        row = (delta + end)[:, None].expand(*q.shape[:3], k.shape[2])
        return (u / self.scale) @ k.mT + of_distances.gather(-1, row)


def _wide(module, x):
    """The module with its parameters in the dtype of `x`."""
    # Computing in half precision would round each term before the sum.
    wide = {name: each.to(x.dtype) for name, each in module.named_parameters()}
    return torch.func.functional_call(module, wide, x)


# Without `max_length` a call computes the table, for its number of keys.
@functools.lru_cache(maxsize=16)
def _table(features: int, length: int) -> Float[np.ndarray, "distances features"]:
    """Of the distances from `1 - length` to `length - 1`."""
    return EnformerBasis(features, length, symmetric=False).table().astype(np.float32)
