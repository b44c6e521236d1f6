"""What is added to tokens, as positional-embeddings-pytorch documents it."""

import torch
from jaxtyping import Float, Integer, Num
from torch import nn, Tensor

from ..._checks import check_at_least
from ..._frequencies import Geometric
from ._angles import Angles, as_positions, computing_dtype
from ._positional import check_between, Positional
from ._state import ignore


class SinusoidalPositionalEmbedding(Positional):
    """Adds sines and cosines of the position to tokens, in fairseq's layout.

    [`eqx_posemb.Sinusoidal`][] with `layout="tensor2tensor"`: all sines, then all
    cosines. The original has a table, which some positions are beyond; here every one
    has its sines and cosines. The original loses its input and takes no `None` for
    `padding_idx`.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import SinusoidalPositionalEmbedding

        embedding = SinusoidalPositionalEmbedding(embed_dim=64)
        x = embedding.forward_input(torch.rand(2, 10, 64), torch.arange(10))
        ```
    """

    def __init__(
        self,
        *,
        embed_dim: int,
        max_length: int | None = None,
        padding_idx: int | None = None,
    ):
        """**Arguments:**

        - `embed_dim`: The number of channels of a token.
        - `max_length`: Ignored: there is no table.
        - `padding_idx`: The position of padding, which has zeros added. Others start
            after it in fairseq.

        **Raises:** a `ValueError` if `embed_dim` is less than four.
        """
        super().__init__()
        # An odd last channel stays as it is, as in fairseq.
        waves = embed_dim - embed_dim % 2
        self.angles = Angles(Geometric(waves, endpoint=True).turns())
        self.embed_dim = embed_dim
        self.padding_idx = padding_idx
        ignore(self, "_float_tensor")

    def forward(
        self, positions: Num[Tensor, "*batch seq"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch seq {self.embed_dim}"]:
        """**Arguments:**

        - `positions`: the positions of the tokens.
        - `dtype`: of the result.

        **Returns:**

        What to add to the tokens.
        """
        cos, sin = self.angles(positions, dtype)
        waves = torch.cat([sin, cos], dim=-1)
        encoding = nn.functional.pad(waves, (0, self.embed_dim % 2))
        return _without_padding(encoding, positions, self.padding_idx)

    def forward_input(
        self,
        input_: Float[Tensor, "batch seq dim"],
        positions: Num[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """As in every class: adds to tokens.

        **Raises:** a `ValueError` if tokens do not have `embed_dim` channels.
        """
        dtype = computing_dtype(input_.dtype)
        positions = _checked(input_, positions, self.embed_dim)
        return (input_.to(dtype) + self(positions, dtype)).to(input_.dtype)


class LearnedPositionalEmbedding(Positional):
    """Adds a learned vector for each position to tokens.

    The original cannot be made. With a `padding_idx` it lacks the last rows, as
    positions then start after it; here there are `max_length` rows from there on.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import LearnedPositionalEmbedding

        embedding = LearnedPositionalEmbedding(max_length=512, embed_dim=64)
        x = embedding.forward_input(torch.rand(2, 10, 64), torch.arange(10))
        ```
    """

    def __init__(
        self, *, max_length: int, embed_dim: int, padding_idx: int | None = None
    ):
        """**Arguments:**

        - `max_length`: The number of positions.
        - `embed_dim`: The number of channels of a token.
        - `padding_idx`: The position of padding, which has zeros added and is not
            trained; others start after it, as in fairseq.

        **Raises:** a `ValueError` if `max_length` or `embed_dim` is less than one.
        """
        super().__init__()
        check_at_least("max_length", max_length, 1)
        check_at_least("embed_dim", embed_dim, 1)
        self.embed_dim = embed_dim
        rows = max_length + 1 + (padding_idx or 0)
        self.emb = nn.Embedding(rows, embed_dim, padding_idx=padding_idx)
        nn.init.normal_(self.emb.weight, std=embed_dim**-0.5)
        if padding_idx is not None:
            nn.init.zeros_(self.emb.weight[padding_idx])

    def forward(
        self, positions: Integer[Tensor, "*batch seq"]
    ) -> Float[Tensor, "*batch seq {self.embed_dim}"]:
        """**Arguments:**

        - `positions`: the positions of the tokens.

        **Returns:**

        What to add to the tokens, in the dtype of the weights.

        **Raises:** a `ValueError` if positions are not integers, or one has no row.
        """
        positions = as_positions(positions, integers=True)
        check_between("`positions`", positions, 0, self.emb.num_embeddings - 1)
        return _without_padding(self.emb(positions), positions, self.emb.padding_idx)

    def forward_input(
        self,
        input_: Float[Tensor, "batch seq dim"],
        positions: Integer[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """As in every class: adds to tokens.

        **Raises:** as a call, and a `ValueError` if tokens do not have `embed_dim`
        channels.
        """
        dtype = computing_dtype(input_.dtype)
        encoding = self(_checked(input_, positions, self.embed_dim))
        return (input_.to(dtype) + encoding.to(dtype)).to(input_.dtype)


def _without_padding(encoding, positions, padding_idx):
    if padding_idx is None:
        return encoding
    return encoding.masked_fill((positions == padding_idx)[..., None], 0)


def _checked(input_, positions, dim):
    if input_.shape[-1] != dim:
        raise ValueError(
            f"`input_` must have shape [batch, seq, dim] with dim={dim}, but got "
            f"{list(input_.shape)}."
        )
    if positions is None:
        return torch.arange(input_.shape[-2], device=input_.device)
    return positions
