"""Modules with the names of another library, and modules that add to tokens."""

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int, Integer, Num
from torch import nn, Tensor

from ..._checks import check_at_least
from ..._frequencies import Geometric
from ._angles import Angles, as_positions, computing_dtype


class Named(nn.Module):
    """A module that prints the arguments that it was made with, and loads the state
    dicts of the other library."""

    _derived: tuple[str, ...] = ()
    """Buffers of the other library, which follow from the settings here."""

    def __new__(cls, *args, **kwargs):
        """Keeps the arguments. A copy is made without any, and gets those kept."""
        made = super().__new__(cls)
        given = inspect.signature(cls).bind_partial(*args, **kwargs).arguments
        made.__dict__["_arguments"] = given
        return made

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name in self._derived:
            # Settings determine these buffers, and a strict load would report them as
            # unexpected.
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """The settings."""
        given = self.__dict__["_arguments"]
        return ", ".join(f"{name}={value!r}" for name, value in given.items())


class Positional(Named):
    """Tokens and logits without positions, to which a subclass adds a term.

    `scale * forward_attn(…)` equals the logits of the paper, even if the paper leaves a
    term unscaled. A `scale` of `None` means `1 / sqrt(head_dim)`.
    """

    scale: Any
    heads: Any
    dim: Any
    # Whether positions must be integers.
    _integers = False

    def __init__(self, scale=None, dropout_p=0.0, heads=None, dim=None):
        super().__init__()
        for name, size in ("num_heads", heads), ("head_dim", dim):
            if size is not None:
                check_at_least(name, size, 1)
        self.scale, self.heads, self.dim = scale, heads, dim
        self.dropout = nn.Dropout(dropout_p)

    def forward_input(
        self,
        input_: Float[Tensor, "batch seq dim"],
        positions: Num[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """Adds the encoding to the tokens, in their dtype. `positions` are [batch, seq]
        or [seq], and start at 0 by default."""
        return input_

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Num[Tensor, "*batch q"] | None = None,
        positions_k: Num[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """Computes the logits, in the dtype of `q`, before the mask and the `scale`.
        Positions are [batch, seq] or [seq]. Without positions, both start at 0, and the
        numbers of queries and keys must be equal.

        **Raises:** a `ValueError` if shapes do not fit, positions are missing, or one
        has no row in a table.
        """
        sizes = dict(heads=self.heads, dim=self.dim)
        fits = q.ndim == k.ndim == 4 and q.shape[:2] == k.shape[:2]
        fits = fits and q.shape[3] == k.shape[3] == (self.dim or q.shape[3])
        if not fits or q.shape[1] != (self.heads or q.shape[1]):
            known = [f"{name}={size}" for name, size in sizes.items() if size]
            needed = f" with {' and '.join(known)}" if known else ""
            raise ValueError(
                f"`q` and `k` must have shapes [batch, heads, seq, dim]{needed}, but "
                f"got {list(q.shape)} and {list(k.shape)}."
            )
        # Fewer queries than keys mean a cache, where default positions would silently
        # be wrong.
        if positions_q is None and positions_k is None and q.shape[2] == k.shape[2]:
            positions_q = positions_k = torch.arange(q.shape[2], device=q.device)
        at_q, at_k = self._at("q", q, positions_q), self._at("k", k, positions_k)
        dtype = computing_dtype(q.dtype)
        # All terms are added in at least float32, and the sum is rounded once.
        wide_q, wide_k = q.to(dtype), k.to(dtype)
        logits = wide_q @ wide_k.mT + self._added(wide_q, wide_k, at_q, at_k)
        return logits.to(q.dtype)

    def _added(self, q, k, at_q, at_k) -> Tensor | int:
        """What position adds to the products, [batch or 1, heads, q, k], of positions
        [batch or 1, seq]."""
        return 0

    def _at(self, name, x, positions):
        batch, _, seq, _ = x.shape
        shape = None if positions is None else tuple(positions.shape)
        if positions is None or shape not in ((batch, seq), (1, seq), (seq,)):
            raise ValueError(
                f"`positions_{name}` must have a position for each of the {seq} tokens "
                f"of `{name}`, [batch, seq] or [seq], but got {shape}. Without "
                "positions, queries and keys must have the same number of tokens."
            )
        name = f"positions_{name}"
        return torch.atleast_2d(as_positions(positions, name, self._integers))


def distances(at_q: Tensor, at_k: Tensor) -> Tensor:
    """Key minus query, [some, q, k]: negative looks back."""
    return at_k[:, None, :] - at_q[:, :, None]


def check_between(what: str, values: Int[Tensor, "..."], first: int, last: int) -> None:
    """Raises an error for values on a CPU that have no row in a table."""
    # On an accelerator a look at values would wait for the device, and the look-up has
    # an error of its own.
    if torch.compiler.is_compiling() or not values.is_cpu:
        return
    outside = (values < first) | (values > last)
    try:
        if not outside.any():
            return
    except RuntimeError:  # Under `vmap` there are no values.
        return
    raise ValueError(
        f"{what} must be between {first} and {last}, to have a row in the table, but "
        f"got {values[outside][0]}. Build the module with a larger `max_length`."
    )


class _Encoding(Positional):
    """Adds a vector for each position, with zeros at the position of padding."""

    def __init__(self, embed_dim: int, padding_idx: int | None):
        super().__init__()
        self.embed_dim, self.padding_idx = embed_dim, padding_idx

    def forward_input(self, input_, positions=None):
        if input_.shape[-1] != self.embed_dim:
            raise ValueError(
                f"`input_` must have shape [batch, seq, dim] with dim={self.embed_dim},"
                f" but got {list(input_.shape)}."
            )
        if positions is None:
            positions = torch.arange(input_.shape[-2], device=input_.device)
        dtype = computing_dtype(input_.dtype)
        return (input_.to(dtype) + self(positions, dtype)).to(input_.dtype)

    def _padded(self, encoding, positions):
        if self.padding_idx is None:
            return encoding
        return encoding.masked_fill((positions == self.padding_idx)[..., None], 0)


class SinusoidalPositionalEmbedding(_Encoding):
    """The sinusoids of Vaswani et al. 2017, added to tokens in fairseq's layout.

    It equals [`eqx_posemb.Sinusoidal`][] with `layout="tensor2tensor"`, with an
    unchanged odd last channel and without a maximum length.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import SinusoidalPositionalEmbedding

        embedding = SinusoidalPositionalEmbedding(embed_dim=64)
        x = embedding.forward_input(torch.rand(2, 10, 64))
        ```
    """

    _derived = ("_float_tensor",)

    def __init__(
        self,
        *,
        embed_dim: int,
        max_length: int | None = None,
        padding_idx: int | None = None,
    ):
        """For tokens of `embed_dim` channels. Zeros are added at the position of
        padding, `padding_idx`. `max_length` is ignored.

        **Raises:** a `ValueError` if `embed_dim` is less than four.
        """
        super().__init__(embed_dim, padding_idx)
        # fairseq leaves the last channel of an odd number zero.
        waves = embed_dim - embed_dim % 2
        self.angles = Angles(Geometric(waves, endpoint=True).turns())

    def forward(
        self, positions: Num[Tensor, "*batch seq"], dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch seq {self.embed_dim}"]:
        """The encoding at `positions`, in `dtype`."""
        cos, sin = self.angles(positions, dtype)
        odd = sin.new_zeros(*sin.shape[:-1], self.embed_dim % 2)
        return self._padded(torch.cat([sin, cos, odd], dim=-1), positions)


class LearnedPositionalEmbedding(_Encoding):
    """[`eqx_posemb.Learned`][] with fairseq's padding: a vector for each position.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import LearnedPositionalEmbedding

        embedding = LearnedPositionalEmbedding(max_length=512, embed_dim=64)
        x = embedding.forward_input(torch.rand(2, 10, 64))
        ```
    """

    def __init__(
        self, *, max_length: int, embed_dim: int, padding_idx: int | None = None
    ):
        """For `max_length` positions after the position of padding, `padding_idx`,
        which adds zeros and is not trained.

        **Raises:** a `ValueError` if `max_length` or `embed_dim` is less than one.
        """
        check_at_least("max_length", max_length, 1)
        check_at_least("embed_dim", embed_dim, 1)
        super().__init__(embed_dim, padding_idx)
        # In fairseq positions begin after the row of padding.
        rows = max_length + 1 + (padding_idx or 0)
        self.emb = nn.Embedding(rows, embed_dim, padding_idx=padding_idx)
        # fairseq initializes its tables with the same standard deviation.
        nn.init.normal_(self.emb.weight, std=embed_dim**-0.5)
        if padding_idx is not None:
            nn.init.zeros_(self.emb.weight[padding_idx])

    def forward(
        self, positions: Integer[Tensor, "*batch seq"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "*batch seq {self.embed_dim}"]:
        """The encoding at `positions`, by default in the dtype of the weights.

        **Raises:** a `ValueError` if positions are not integers, or one has no row.
        """
        positions = as_positions(positions, integers=True)
        check_between("`positions`", positions, 0, self.emb.num_embeddings - 1)
        rows = self._padded(self.emb(positions), positions)
        return rows if dtype is None else rows.to(dtype)
