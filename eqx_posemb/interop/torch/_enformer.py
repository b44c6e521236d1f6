"""Enformer's features of the distance, as positional-embeddings-pytorch documents
them."""

import functools

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import nn, Tensor

from ..._checks import check_at_least
from ..._score import EnformerBasis
from ._fixed import Fixed
from ._positional import check_between, check_shapes, distances, Positional, products


class EnformerPositionalEmbedding(Positional):
    """Lets the query meet a learned mix of decays, windows and bumps.

    [`eqx_posemb.Enformer`][], DeepMind's features. The original has others, of the
    index of the key and not of distances; it sums over batch and heads, and runs for
    few widths only. Its projection has a bias, and DeepMind's has none, as here.

    Features stretch with the length: `max_length`, or that of the keys at hand, as
    DeepMind has it. Dropout acts on them.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import EnformerPositionalEmbedding

        embedding = EnformerPositionalEmbedding(num_heads=8, head_dim=64)
        q = k = torch.rand(2, 8, 10, 64)
        logits = embedding.forward_attn(q, k, torch.arange(10), torch.arange(10))
        weights = (embedding.scale * logits).softmax(dim=-1)
        ```
    """

    scale: float

    def __init__(
        self,
        *,
        num_heads: int,
        head_dim: int,
        dropout_p: float = 0.0,
        max_length: int | None = None,
        num_features: int | None = None,
    ):
        """**Arguments:**

        - `num_heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `dropout_p`: The probability of dropout.
        - `max_length`: What features are spread over, and no two tokens may be apart;
            `None` is the number of keys.
        - `num_features`: The number of features of a distance, a multiple of 6. By
            default as many as there are channels in a head, rounded down to one.

        **Raises:** a `ValueError` if a size is less than one, or `num_features` no
        multiple of 6.
        """
        check_at_least("num_heads", num_heads, 1)
        check_at_least("head_dim", head_dim, 1)
        super().__init__(head_dim**-0.5, dropout_p)
        if num_features is None:
            num_features = max(6, head_dim - head_dim % 6)
        self.heads, self.dim, self.features = num_heads, head_dim, num_features
        table = _table(num_features, 1 if max_length is None else max_length)
        self.table = None if max_length is None else Fixed(table)
        self.pos_embed = nn.Linear(num_features, num_heads * head_dim, bias=False)
        self.content_bias = nn.Parameter(torch.empty(1, num_heads, 1, head_dim))
        self.pos_embed_bias = nn.Parameter(torch.empty(num_heads, 1, head_dim))
        fans = (self.pos_embed.weight, num_features), (self.content_bias, num_heads)
        for parameter, fan_in in (*fans, (self.pos_embed_bias, num_heads)):
            # What is cut off at two standard deviations would lower the variance.
            std = (2 / fan_in) ** 0.5 / 0.87962566103423978
            nn.init.trunc_normal_(parameter, std=std, a=-2 * std, b=2 * std)

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Integer[Tensor, "*batch q"] | None = None,
        positions_k: Integer[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """As in every class; multiply by `scale`, `head_dim**-0.5`.

        **Raises:** as there, and a `ValueError` if positions are `max_length` or more
        apart.
        """
        check_shapes(q, k, positions_q, positions_k, self.heads, self.dim, True)
        logits = products(q, k)
        if self.table is None:
            length = max(k.shape[2], 1)
            table = torch.tensor(_table(self.features, length), device=q.device)
        else:
            table = self.table()
        weight, u, v = (
            # These two are outside of the scale.
            x.to(logits.dtype) * factor
            for x, factor in (
                (self.pos_embed.weight, 1),
                (self.content_bias, self.dim**0.5),
                (self.pos_embed_bias, self.dim**0.5),
            )
        )
        vectors = self.dropout(table.to(logits.dtype)) @ weight.T
        vectors = vectors.unflatten(-1, (self.heads, self.dim)).permute(1, 2, 0)
        of_distances = (q.to(logits.dtype) + v) @ vectors
        delta, end = distances(positions_q, positions_k, q, k), table.shape[0] // 2
        check_between("`positions_k` minus `positions_q`", delta, -end, end)
        row = (delta + end)[:, None].expand(*logits.shape)
        far = of_distances.gather(-1, row)
        return (logits + products(u, k) + far).to(q.dtype)


@functools.lru_cache(maxsize=16)
def _table(features: int, length: int) -> Float[np.ndarray, "distances features"]:
    """Of the distances from `1 - length` to `length - 1`."""
    return EnformerBasis(features, length, symmetric=False).table().astype(np.float32)
