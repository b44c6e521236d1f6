"""Modules under the names of Zeta's documentation."""

import math

import torch
from jaxtyping import Float, Num
from torch import Tensor

from ..._checks import check_positive
from ..._frequencies import Geometric, Linear, YaRNFrequencies
from ..._rotary import log_zeta
from ...functional import get_mscale
from ...functional._xpos import rescaled
from ._angles import (
    Angles,
    computing_dtype,
    cos_sin,
    exact_dtype,
    ignore,
    radians,
    words_of,
)
from ._rotate import rotate
from ._shown import Shown


Tokens = Float[Tensor, "*batch seq dim"]
Keys = Float[Tensor, "*k_batch seq dim"]


class XPOS(Shown):
    r"""Rotates adjacent pairs of channels, and lets logits fade with distance.

    Queries are multiplied by $\zeta_j^{(t - c) / B}$ and keys (`downscale=True`) by the
    inverse, for the position $t$, the `scale_base` $B$, half of all tokens, rounded up,
    as the center $c$, and $\zeta_j$ as in [`eqx_posemb.rotations.XPosDecay`][]. It is
    for causal attention. The center moves with the length, so that keys must be rotated
    anew when tokens come.

    Zeta's values, but for its faults: `head_dim=None` takes the width of the input,
    angles are exact, and any leading axes are allowed.

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
        """For `head_dim` channels, or all channels of the input.

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
        """What a query is multiplied by, `scale_base` positions after the center."""
        if self.head_dim is None:
            raise ValueError(
                "`scale` must have a `head_dim` to be for, but got None. Name it when "
                "the module is made."
            )
        return _log_zeta(self.head_dim, torch.device("cpu")).exp().float()

    def forward(self, x: Tokens, offset: int = 0, downscale: bool = False) -> Tokens:
        """Queries, or keys with `downscale`, that come after `offset` tokens, rotated.

        **Raises:** a `ValueError` if the channels are odd or not `head_dim`, or if the
        growth overflows.
        """
        cos, sin, grown = self._tables(x, offset)
        return _scaled(x, cos, sin, 1 / grown if downscale else grown)

    def rotate_queries_and_keys(
        self, q: Tokens, k: Keys, offset: int = 0
    ) -> tuple[Tokens, Keys]:
        """Both, of the same tokens, as by calls; with tables that are made once.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        _check_same_tokens(q, k)
        self._check_width(k)
        cos, sin, grown = self._tables(q, offset)
        return _scaled(q, cos, sin, grown), _scaled(k, cos, sin, 1 / grown)

    def _tables(self, x, offset):
        """The cosine and the sine, and what queries grow by."""
        self._check_width(x)
        seq, dim = x.shape[-2:]
        positions = torch.arange(offset, offset + seq, device=x.device)
        center = (seq + offset + 1) // 2
        steepest = -math.log(0.4 / 1.4)
        if center * steepest / self.scale_base > math.log(torch.finfo(x.dtype).max):
            raise ValueError(
                "`x` and `offset` must make a sequence for which the growth of xPos "
                f"does not overflow {x.dtype}, but got {2 * center} positions. Raise "
                f"`scale_base`, {self.scale_base}."
            )
        dtype = computing_dtype(x.dtype)
        if self.angles is None:
            tables = cos_sin(positions, words_of(dim, 10_000, x.device), dtype)
        else:
            tables = self.angles(positions, dtype)
        return *tables, _growth(positions - center, dim, self.scale_base)

    def _check_width(self, x):
        if x.shape[-1] % 2 or self.head_dim not in (None, x.shape[-1]):
            wanted = "even" if self.head_dim is None else self.head_dim
            raise ValueError(
                "`x` must have shape [..., seq, dim] with `dim` as `head_dim`, "
                f"{wanted}, but got {tuple(x.shape)}."
            )


class RotaryEmbedding(Shown):
    r"""The angles of the first positions, and the growth of xPos.

    [`eqx_posemb.functional.rotary_embedding`][] in PyTorch, with a length for
    positions; each angle twice, for a rotation of halves. A float32 angle has lost its
    turns by position 100,000: `cos_sin` never holds one.

    Zeta's values, but for its faults: the results are two, on the device that is asked
    for, and in PyTorch's default dtype.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import RotaryEmbedding

        rotary_embedding = RotaryEmbedding(dim=64, use_xpos=True)
        freqs, scale = rotary_embedding(10, torch.device("cpu"))
        assert freqs.shape == scale.shape == (10, 64)
        cos, sin = rotary_embedding.cos_sin(torch.tensor([1_000_000]))
        ```
    """

    def __init__(
        self,
        dim: int,
        use_xpos: bool = False,
        scale_base: float = 512,
        interpolation_factor: float = 1.0,
        base: float = 10000,
        base_rescale_factor: float = 1.0,
    ):
        """**Arguments:** as [`eqx_posemb.functional.rotary_embedding`][].

        **Raises:** a `ValueError` if `dim` is odd, `interpolation_factor` less than
        one, or another number not positive.
        """
        super().__init__()
        check_positive("scale_base", scale_base)
        check_positive("base_rescale_factor", base_rescale_factor)
        self.dim = dim
        self.use_xpos = use_xpos
        self.scale_base = scale_base
        schedule = Geometric(dim, rescaled(base, base_rescale_factor, dim))
        self.angles = Angles(Linear(schedule, interpolation_factor).turns())
        ignore(self, "inv_freq", "scale")

    def forward(
        self, seq_len: int, device: torch.device | str
    ) -> tuple[Float[Tensor, "{seq_len} {self.dim}"], Tensor | float]:
        """The angles of `seq_len` positions in radians, [seq_len, dim], and the factors
        of queries, likewise, or 1.0 without xPos; keys have their inverse."""
        dtype = torch.get_default_dtype()
        frequencies = radians(self.angles.words().to(device))
        positions = torch.arange(seq_len, device=device)
        angles = _twice(positions[:, None] * frequencies).to(dtype)
        if not self.use_xpos:
            return angles, 1.0
        grown = _growth(positions - seq_len // 2, self.dim, self.scale_base)
        return angles, _twice(grown).to(dtype)

    def cos_sin(
        self, positions: Num[Tensor, "*shape"], dtype: torch.dtype | None = None
    ) -> tuple[Float[Tensor, "*shape dim"], Float[Tensor, "*shape dim"]]:
        """The cosine and the sine of the angles of integers or floats, on the device of
        the module. They are exact at every int32 position, in PyTorch's default dtype
        or another."""
        cos, sin = self.angles(positions, dtype or torch.get_default_dtype())
        return _twice(cos), _twice(sin)


class YarnEmbedding(Shown):
    """Rotates queries or keys, scaled by YaRN where the context needs it.

    A model that was fine-tuned for YaRN has one scaling factor,
    `max_position_embeddings / original_max_position_embeddings`, at all lengths. Other
    models use dynamic YaRN. They have no scaling up to `max_position_embeddings`, and
    the factor `seq_len / original_max_position_embeddings` beyond. Keys rotated for one
    length do not match queries rotated for another.

    Calling it applies it to the input, as Zeta's documentation has it. Zeta's code
    returns tables instead, which `tables` has here; its `finetuned=True` and its
    lengths beyond `max_position_embeddings` do not run.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import YarnEmbedding

        yarn = YarnEmbedding(dim=64, max_position_embeddings=8192, finetuned=True)
        q = yarn(torch.rand(2, 8, 10, 64))
        cos, sin = yarn.tables(q, seq_len=10)
        assert cos.shape == (1, 1, 10, 64)
        ```
    """

    def __init__(
        self,
        dim: int,
        max_position_embeddings: int = 2048,
        base: float = 10000,
        original_max_position_embeddings: int = 2048,
        extrapolation_factor: float = 1,
        attn_factor: float = 1,
        beta_fast: float = 32,
        beta_slow: float = 1,
        finetuned: bool = False,
        device: torch.device | str | None = None,
    ):
        """The two context lengths, in positions, belong to the model, and to the model
        before YaRN. `beta_fast`, `beta_slow` and `extrapolation_factor` are as in
        [`eqx_posemb.frequencies.YaRNFrequencies`][]. Scaled queries and keys are
        multiplied by `attn_factor`, in addition to YaRN's own factor. `finetuned`
        states whether the model was trained with the scaling, and `device` is the
        device of the module.

        **Raises:** a `ValueError` if the original context is the longer one, and as
        [`eqx_posemb.frequencies.YaRNFrequencies`][].
        """
        super().__init__()
        original = original_max_position_embeddings
        check_positive("attn_factor", attn_factor)
        check_positive("original_max_position_embeddings", original)
        if max_position_embeddings < original:
            raise ValueError(
                f"`max_position_embeddings` must be at least the original, {original}, "
                f"but got {max_position_embeddings}."
            )
        self.dim = dim
        self.max_position_embeddings = max_position_embeddings
        self.original_max_position_embeddings = original
        self.attn_factor = attn_factor
        self.finetuned = finetuned
        self._base = float(base)
        self._settings = (original, beta_slow, beta_fast, extrapolation_factor)
        schedule = Geometric(dim, self._base)
        # Wrong settings are to be found now, and not at the first long sequence.
        factor = self._stretch(max_position_embeddings)
        stretched = YaRNFrequencies(schedule, factor, *self._settings)
        turns = (stretched if finetuned else schedule).turns()
        self.angles = Angles(turns).to(device)
        ignore(self, "inv_freq")

    def forward(
        self, x: Tokens, seq_len: int | None = None, *, positions: Tensor | None = None
    ) -> Tokens:
        """Queries or keys, rotated in halves and computed in at least float32.

        The scaling is for a context of `seq_len` tokens, which is at least the number
        of tokens. `positions` are [..., seq], and start at 0 by default.

        **Raises:** a `ValueError` if `x` has other channels, or more tokens than
        `seq_len`.
        """
        return self._rotated((x,), seq_len, positions)[0]

    def rotate_queries_and_keys(
        self,
        q: Tokens,
        k: Keys,
        seq_len: int | None = None,
        *,
        positions: Tensor | None = None,
    ) -> tuple[Tokens, Keys]:
        """Both, of the same tokens, as by calls; with tables that are made once.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        _check_same_tokens(q, k)
        q, k = self._rotated((q, k), seq_len, positions)
        return q, k

    def tables(
        self, x: Float[Tensor, "*batch dim"], seq_len: int | None = None
    ) -> tuple[Float[Tensor, "1 1 length dim"], Float[Tensor, "1 1 length dim"]]:
        """Returns the tables of Zeta's code: the cosine and the sine of `seq_len`
        positions, times YaRN's factor. Each is [1, 1, seq_len, dim] for a rotation of
        halves, in the dtype of `x`. The default of `seq_len` is the number of tokens of
        `x`."""
        if seq_len is None:
            seq_len = x.shape[-2]
        positions = torch.arange(seq_len, device=x.device)
        cos, sin = self._cos_sin(positions, seq_len, computing_dtype(x.dtype))
        return _twice(cos)[None, None].to(x.dtype), _twice(sin)[None, None].to(x.dtype)

    def _rotated(self, inputs, seq_len, positions):
        x = inputs[0]
        seq = x.shape[-2]
        if seq_len is None:
            seq_len = seq
        for each in inputs:
            if each.shape[-1] != self.dim:
                raise ValueError(
                    f"`x` must have shape [..., seq, dim] with dim={self.dim}, but got "
                    f"{tuple(each.shape)}."
                )
        if seq_len < seq:
            raise ValueError(
                f"`seq_len` must be at least the {seq} tokens of `x`, but got "
                f"{seq_len}."
            )
        if positions is None:
            positions = torch.arange(seq, device=x.device)
        cos, sin = self._cos_sin(positions, seq_len, computing_dtype(x.dtype))
        return tuple(rotate(each, cos, sin, "halves") for each in inputs)

    def _cos_sin(self, positions, seq_len, dtype):
        stretch, fits = self._stretch(seq_len), seq_len <= self.max_position_embeddings
        if fits or self.finetuned:
            cos, sin = self.angles(positions, dtype)
        else:
            where = (self.dim, self._base, positions.device)
            words = words_of(*where, stretch, *self._settings)
            cos, sin = cos_sin(positions, words, dtype)
        if fits and not self.finetuned:
            return cos, sin
        scale = get_mscale(stretch) * self.attn_factor
        return cos * scale, sin * scale

    def _stretch(self, seq_len):
        length = self.max_position_embeddings if self.finetuned else seq_len
        return length / self.original_max_position_embeddings


def _check_same_tokens(q, k):
    if (q.shape[-2], q.dtype) != (k.shape[-2], k.dtype):
        raise ValueError(
            "`q` and `k` must be of the same tokens and dtype, but got "
            f"{q.dtype} of shape {tuple(q.shape)} and {k.dtype} of shape "
            f"{tuple(k.shape)}."
        )


def _scaled(x, cos, sin, factor):
    factor = factor.to(cos.dtype)
    return rotate(x, cos * factor, sin * factor, "adjacent")


def _growth(positions, dim, scale_base):
    """What queries are multiplied by, at positions that count from the center."""
    rates = _log_zeta(dim, positions.device)
    return (positions.unsqueeze(-1) * rates / scale_base).exp()


@torch.compiler.assume_constant_result
def _log_zeta(dim: int, device: torch.device) -> Tensor:
    return torch.tensor(log_zeta(dim), dtype=exact_dtype(device), device=device)


def _twice(columns):
    return torch.cat([columns, columns], dim=-1)
