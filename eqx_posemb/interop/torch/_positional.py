"""What the modules with `forward_input` and `forward_attn` have in common."""

from typing import Any

import torch
from jaxtyping import Float, Int, Num, Shaped
from torch import nn, Tensor

from ._angles import as_positions, computing_dtype


class Positional(nn.Module):
    """Tokens and logits as they are without position: what a subclass adds to.

    Logits come before scaling: `scale * forward_attn(…)` are those of the paper, also
    where the paper leaves a term unscaled. A `scale` of `None` is the usual
    `1 / sqrt(head_dim)`.
    """

    def __init__(self, scale: float | None = None, dropout_p: float = 0.0):
        super().__init__()
        self.scale = scale
        self.dropout = nn.Dropout(dropout_p)

    def forward_input(
        self,
        input_: Float[Tensor, "batch seq dim"],
        positions: Num[Tensor, "*batch seq"] | None = None,
    ) -> Float[Tensor, "batch seq dim"]:
        """**Arguments:**

        - `input_`: the tokens.
        - `positions`: their positions, [batch, seq] or [seq]; from 0 on by default.

        **Returns:**

        The tokens with what is added to them, in their dtype.
        """
        return input_

    def forward_attn(
        self,
        q: Float[Tensor, "batch heads q dim"],
        k: Float[Tensor, "batch heads k dim"],
        positions_q: Num[Tensor, "*batch q"] | None = None,
        positions_k: Num[Tensor, "*batch k"] | None = None,
    ) -> Float[Tensor, "batch heads q k"]:
        """**Arguments:**

        - `q`: the queries.
        - `k`: the keys.
        - `positions_q`: the positions of the queries, [batch, q] or [q]; from 0 on by
            default.
        - `positions_k`: those of the keys, likewise. Either both or, for as many keys
            as queries, neither.

        **Returns:**

        The logits, in the dtype of `q`: not masked, and not multiplied by `scale` yet.

        **Raises:** a `ValueError` if shapes do not fit, or positions are missing.
        """
        check_shapes(q, k, positions_q, positions_k)
        return products(q, k).to(q.dtype)


def products(q, k):
    """Of queries and keys, in at least float32."""
    dtype = computing_dtype(q.dtype)
    return q.to(dtype) @ k.to(dtype).transpose(-1, -2)


def check_shapes(q, k, positions_q, positions_k, heads=None, dim=None, integers=False):
    """Whether all fit, positions are integers where they must be, and none missing."""
    fits = q.ndim == k.ndim == 4 and q.shape[:2] == k.shape[:2]
    fits = fits and q.shape[3] == k.shape[3] == (dim or q.shape[3])
    if not fits or q.shape[1] != (heads or q.shape[1]):
        sizes = dict(heads=heads, dim=dim)
        known = [f"{name}={size}" for name, size in sizes.items() if size is not None]
        needed = " with " + " and ".join(known) if known else ""
        raise ValueError(
            f"`q` and `k` must have shapes [batch, heads, seq, dim]{needed}, but got "
            f"{list(q.shape)} and {list(k.shape)}."
        )
    if positions_q is None and positions_k is None and q.shape[2] == k.shape[2]:
        return
    for name, x, positions in ("q", q, positions_q), ("k", k, positions_k):
        batch, _, seq, _ = x.shape
        shape = None if positions is None else tuple(positions.shape)
        if positions is None or shape not in ((batch, seq), (1, seq), (seq,)):
            raise ValueError(
                f"`positions_{name}` must have a position for each of the {seq} tokens "
                f"of `{name}`, [batch, seq] or [seq], but got {shape}. Without "
                "positions there must be as many queries as keys."
            )
        as_positions(positions, f"positions_{name}", integers)


def each(
    positions: Num[Tensor, "*batch seq"] | None, x: Float[Tensor, "batch heads seq dim"]
) -> Num[Tensor, "some seq"]:
    """Positions with a batch axis; from 0 on by default."""
    if positions is None:
        positions = torch.arange(x.shape[2], device=x.device)
    positions = as_positions(positions)
    return positions if positions.ndim == 2 else positions[None]


def distances(positions_q, positions_k, q, k) -> Int[Tensor, "some q k"]:
    """Key minus query: negative looks back."""
    q, k = each(positions_q, q), each(positions_k, k)
    return k[:, None, :] - q[:, :, None]


def shift_of_consecutive(
    positions_q: Num[Tensor, "some q"], positions_k: Num[Tensor, "some k"]
) -> int | None:
    """The first key minus the first query, if both are integers that go up by one and
    it is the same for all examples; None if not, and where there are no values."""
    q, k = positions_q, positions_k
    shifts = k[:, :1] - q[:, :1]
    if shifts.is_floating_point() or not shifts.numel():
        return None
    follow = (q.diff() == 1).all() & (k.diff() == 1).all()
    follow = follow & (shifts == shifts[0]).all()
    return known(shifts[0, 0]) if known(follow) else None


def check_between(what: str, values: Int[Tensor, "..."], first: int, last: int) -> None:
    """Raises an error for what has no row in a table, where there are values.

    On an accelerator a look at them would wait for all that is not computed yet: there
    the look-up has an error of its own.
    """
    if not values.is_cpu:
        return
    outside = (values < first) | (values > last)
    if known(outside.any()):
        raise ValueError(
            f"{what} must be between {first} and {last}, to have a row in the table, "
            f"but got {values[outside][0]}. Build the module with a larger "
            "`max_length`."
        )


def known(value: Shaped[Tensor, ""]) -> Any:
    """The number of a tensor, or None where a program is compiled or traced for all
    values, and where there are none: on the meta device, under `vmap`."""
    traced = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    if torch.compiler.is_compiling() or traced:
        return None
    try:
        return value.item()
    except RuntimeError:
        return None
