"""What goes by distance, as positional-embeddings-pytorch documents it."""

import numpy as np
import torch
from jaxtyping import Float, Int, Integer, Num
from torch import nn, Tensor

from ..._buckets import check_buckets, thresholds
from ..._checks import check_at_least
from ..._frequencies import Geometric
from ._angles import Angles, computing_dtype
from ._fixed import Fixed
from ._positional import (
    check_shapes,
    distances,
    each,
    Positional,
    products,
    shift_of_consecutive,
)


class TransformerXLPositionalEmbedding(Positional):
    """Lets the query meet a learned projection of the sinusoid of the distance.

    [`eqx_posemb.TransformerXL`][] with the parameters of a layer. The original shifts
    batch and heads in place of queries and keys, so that nothing goes by distance and
    examples mix; its `u` and `v` begin as whatever is in memory, and it fails for
    `dropout_p=0`. Here distances have both signs, for encoders, decoders and memory.

    Dropout acts on the sinusoid as each query sees it.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import TransformerXLPositionalEmbedding

        embedding = TransformerXLPositionalEmbedding(
            embed_dim=512, num_heads=8, head_dim=64
        )
        q, k = torch.rand(2, 8, 4, 64), torch.rand(2, 8, 10, 64)
        # Four new tokens after a memory of six.
        logits = embedding.forward_attn(q, k, torch.arange(6, 10), torch.arange(10))
        weights = (embedding.scale * logits).softmax(dim=-1)
        ```
    """

    scale: float

    def __init__(
        self,
        *,
        embed_dim: int,
        num_heads: int,
        head_dim: int,
        dropout_p: float = 0.0,
        clamp_len: int = -1,
    ):
        """**Arguments:**

        - `embed_dim`: The number of channels of the sinusoid.
        - `num_heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `dropout_p`: The probability of dropout.
        - `clamp_len`: The distance beyond which all count as this one, if it is
            positive.

        **Raises:** a `ValueError` if `embed_dim` is odd, or a size not positive.
        """
        check_at_least("num_heads", num_heads, 1)
        check_at_least("head_dim", head_dim, 1)
        super().__init__(head_dim**-0.5, dropout_p)
        self.angles = Angles(Geometric(embed_dim).turns())
        self.heads, self.dim, self.clamp_len = num_heads, head_dim, clamp_len
        self.r_net = nn.Linear(embed_dim, num_heads * head_dim, bias=False)
        self.r_w_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        self.r_r_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.02)

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Num[Tensor, "*batch q"] | None = None,
        positions_k: Num[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """As in every class; multiply by `scale`, `head_dim**-0.5`."""
        check_shapes(q, k, positions_q, positions_k, self.heads, self.dim)
        dtype = computing_dtype(q.dtype)
        u, v, weight = (
            x.to(dtype) for x in (self.r_w_bias, self.r_r_bias, self.r_net.weight)
        )
        wide, weight = q.to(dtype), weight.unflatten(0, (self.heads, self.dim))
        positions = each(positions_q, q), each(positions_k, k)
        drops = self.training and self.dropout.p > 0
        shift = None if drops else shift_of_consecutive(*positions)
        if shift is None:
            far = self._of_pairs(self.dropout((wide + v) @ weight), *positions)
        else:
            far = self._of_distances(wide + v, weight, shift, k.shape[2])
        return (products(wide + u, k) + far).to(q.dtype)

    def _of_distances(self, q, weight, shift, k_count):
        # A projection of `head_dim` channels for each distance, in place of one of
        # `embed_dim` for each query.
        q_count = q.shape[2]
        behind = torch.arange(q_count - 1, -k_count - 1, -1, device=q.device) - shift
        if self.clamp_len > 0:
            behind = behind.clamp(-self.clamp_len, self.clamp_len)
        cos, sin = self.angles(behind, q.dtype)
        far = q @ (weight @ torch.cat([sin, cos], dim=-1).T)
        # From distances to keys: cut into rows that are one shorter, each begins at
        # the distance of its first key.
        flat = far.flatten(2)[..., q_count - 1 : -1]
        return flat.unflatten(2, (q_count, -1))[..., :k_count]

    def _of_pairs(self, weights, positions_q, positions_k):
        # By the addition theorem: memory for no more than the logits.
        of_sin, of_cos = weights.chunk(2, dim=-1)
        cos_q, sin_q = (t[:, None] for t in self.angles(positions_q, weights.dtype))
        cos_k, sin_k = (
            t[:, None].transpose(-1, -2)
            for t in self.angles(positions_k, weights.dtype)
        )
        near = (of_sin * sin_q + of_cos * cos_q) @ cos_k
        near = near + (of_cos * sin_q - of_sin * cos_q) @ sin_k
        if self.clamp_len <= 0:
            return near
        end = torch.tensor([self.clamp_len], device=weights.device)
        cos, sin = self.angles(end, weights.dtype)
        even = (of_cos * cos).sum(dim=-1, keepdim=True)
        odd = (of_sin * sin).sum(dim=-1, keepdim=True)
        behind = positions_q[:, None, :, None] - positions_k[:, None, None, :]
        far = torch.where(behind > 0, even + odd, even - odd)
        return torch.where(behind.abs() > self.clamp_len, far, near)


class T5PositionalEmbedding(Positional):
    """Adds a learned number for each head and bucket of distances to the logits.

    [`eqx_posemb.T5Bias`][]. T5 does not scale its logits, and so `scale` is one. The
    original ignores positions and `max_distance`, and aligns queries with the first
    keys, which is wrong for decoding; a decoder has `bidirectional=False` here.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import T5PositionalEmbedding

        embedding = T5PositionalEmbedding(num_heads=8)
        q = k = torch.rand(2, 8, 10, 64)
        logits = embedding.forward_attn(q, k, torch.arange(10), torch.arange(10))
        ```
    """

    scale: float

    def __init__(
        self,
        *,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ):
        """**Arguments:**

        - `num_heads`: The number of heads.
        - `num_buckets`: The number of buckets, for both directions together.
        - `max_distance`: The distance from which on all share a bucket.
        - `bidirectional`: Whether keys may be in the future.

        **Raises:** a `ValueError` as [`eqx_posemb.T5Bias`][].
        """
        check_at_least("num_heads", num_heads, 1)
        super().__init__(1.0)
        self.heads = num_heads
        self.buckets = Buckets(num_buckets, max_distance, bidirectional)
        self.relative_attention_bias = nn.Embedding(num_buckets, num_heads)

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Integer[Tensor, "*batch q"] | None = None,
        positions_k: Integer[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """As in every class; `scale` is one."""
        check_shapes(q, k, positions_q, positions_k, self.heads, integers=True)
        logits, (q_count, k_count) = products(q, k), (q.shape[2], k.shape[2])
        shift = shift_of_consecutive(each(positions_q, q), each(positions_k, k))
        if shift is None:
            buckets = self.buckets(distances(positions_q, positions_k, q, k))
            bias = self.relative_attention_bias(buckets).permute(0, 3, 1, 2)
        else:
            # Each distance once, and the row of each query as a window of them.
            delta = torch.arange(1 - q_count, k_count, device=q.device) + shift
            along = self.relative_attention_bias(self.buckets(delta)).T
            bias = along.unfold(1, k_count, 1).flip(1)
        return (logits + bias.to(logits.dtype)).to(q.dtype)


class Buckets(nn.Module):
    """T5's buckets of distances, with their beginnings in exact integers."""

    def __init__(self, buckets: int, max_distance: int, bidirectional: bool):
        super().__init__()
        check_buckets(buckets, max_distance, bidirectional)
        self.side = buckets // 2 if bidirectional else buckets
        self.bidirectional = bidirectional
        self.firsts = Fixed(np.array(thresholds(self.side, max_distance), np.int64))

    def forward(self, delta: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """The bucket of each distance, key minus query."""
        far = delta.abs() if self.bidirectional else (-delta).clamp(min=0)
        exact = self.side // 2
        beyond = torch.bucketize(far, self.firsts().to(far.dtype), right=True)
        bucket = torch.where(far < exact, far, exact - 1 + beyond)
        return bucket + self.side * ((delta > 0) & self.bidirectional)
