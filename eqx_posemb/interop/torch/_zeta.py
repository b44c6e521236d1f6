"""Modules under the names of Zeta's documentation."""

import math
from typing import Any

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
    radians,
    rotate,
    words_of,
)
from ._functions import twice
from ._positional import Named


Tokens = Float[Tensor, "*batch seq dim"]
Keys = Float[Tensor, "*k_batch seq dim"]
Table = Float[Tensor, "*shape dim"]


class XPOS(Named):
    """Extrapolatable rotary embedding (xPos), Sun et al. 2022, for causal attention.

    It equals [`eqx_posemb.xpos`][] in adjacent pairs, with half of the number of
    tokens, rounded up, as the center. The center moves with the length, so keys must be
    rotated again when tokens are added. It has Zeta's values with exact angles.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import XPOS

        xpos, q, k = XPOS(head_dim=64), torch.rand(2, 10, 64), torch.rand(2, 10, 64)
        q, k = xpos(q), xpos(k, downscale=True)
        ```
    """

    _derived = ("scale",)

    def __init__(self, head_dim: int | None = None, scale_base: float = 512):
        """For `head_dim` channels, or all channels of the input.

        **Raises:** a `ValueError` if `head_dim` is odd or `scale_base` not positive.
        """
        super().__init__()
        check_positive("scale_base", scale_base)
        self.head_dim, self.scale_base = head_dim, scale_base
        self.angles = None if head_dim is None else Angles(Geometric(head_dim).turns())

    @property
    def scale(self) -> Float[Tensor, " half"]:
        """The factor of a query `scale_base` positions after the center."""
        if self.head_dim is None:
            raise ValueError(
                "`scale` must have a `head_dim` to be for, but got None. Name it when "
                "the module is made."
            )
        return _growth(torch.ones(()), self.head_dim, 1).float()

    def forward(self, x: Tokens, offset: int = 0, downscale: bool = False) -> Tokens:
        """Queries, or keys with `downscale`, that come after `offset` tokens, rotated.

        **Raises:** a `ValueError` if the channels are odd or not `head_dim`, or if the
        growth overflows.
        """
        return self._rotated([x], [downscale], offset)[0]

    def rotate_queries_and_keys(
        self, q: Tokens, k: Keys, offset: int = 0
    ) -> tuple[Tokens, Keys]:
        """Rotates both as two calls do, with tables that are computed once.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        return self._rotated([q, k], [False, True], offset)

    def _rotated(self, inputs, downscale, offset) -> Any:
        wanted = "even" if self.head_dim is None else self.head_dim
        x = _checked(inputs, self.head_dim, f"`dim` as `head_dim`, {wanted}")
        seq, dim = x.shape[-2:]
        center = (seq + offset + 1) // 2
        steepest = -math.log(0.4 / 1.4)
        # A factor beyond the range of the dtype would give infinite queries.
        if center * steepest / self.scale_base > math.log(torch.finfo(x.dtype).max):
            raise ValueError(
                "`x` and `offset` must make a sequence for which the growth of xPos "
                f"does not overflow {x.dtype}, but got {2 * center} positions. Raise "
                f"`scale_base`, {self.scale_base}."
            )
        at = torch.arange(offset, offset + seq, device=x.device)
        # Without `head_dim`, only a call knows the number of channels.
        words = self.angles.values if self.angles else words_of(x.device, dim)
        cos, sin = cos_sin(at, words, computing_dtype(x.dtype))
        grown = _growth(at - center, dim, self.scale_base)
        # Keys shrink as queries grow, so their products fade with the distance.
        factors = (1 / grown if inverse else grown for inverse in downscale)
        pairs = zip(inputs, factors, strict=True)
        return tuple(rotate(x, cos * by, sin * by, "adjacent") for x, by in pairs)


class RotaryEmbedding(Named):
    """The angles of RoPE, Su et al. 2021, and the growth of xPos, twice for halves.

    It equals [`eqx_posemb.functional.rotary_embedding`][] at the first positions, on
    the given device, in PyTorch's default dtype. A float32 angle has lost its precision
    by position 100,000, and `cos_sin` avoids such angles.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import RotaryEmbedding

        rotary_embedding = RotaryEmbedding(dim=64, use_xpos=True)
        freqs, scale = rotary_embedding(10, torch.device("cpu"))
        cos, sin = rotary_embedding.cos_sin(torch.tensor([1_000_000]))
        ```
    """

    _derived = "inv_freq", "scale"

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
        self.dim, self.use_xpos, self.scale_base = dim, use_xpos, scale_base
        schedule = Geometric(dim, rescaled(base, base_rescale_factor, dim))
        self.angles = Angles(Linear(schedule, interpolation_factor).turns())

    def forward(
        self, seq_len: int, device: torch.device | str
    ) -> tuple[Float[Tensor, "{seq_len} {self.dim}"], Tensor | float]:
        """The angles of `seq_len` positions in radians, [seq_len, dim], and the factors
        of queries, likewise, or 1.0 without xPos; keys have their inverse."""
        dtype, at = torch.get_default_dtype(), torch.arange(seq_len, device=device)
        angles = at[:, None] * radians(self.angles.values.to(device))
        grown = _growth(at - seq_len // 2, self.dim, self.scale_base)
        return twice(angles).to(dtype), twice(grown).to(dtype) if self.use_xpos else 1.0

    def cos_sin(
        self, positions: Num[Tensor, "*shape"], dtype: torch.dtype | None = None
    ) -> tuple[Table, Table]:
        """The cosine and the sine of the angles of integers or floats, exact at every
        int32 position; in PyTorch's default dtype or another."""
        cos, sin = self.angles(positions, dtype or torch.get_default_dtype())
        return twice(cos), twice(sin)


class YarnEmbedding(Named):
    """Context extension (YaRN), Peng et al. 2023, of a rotation in halves.

    A model that was fine-tuned for YaRN has the scaling factor
    `max_position_embeddings / original_max_position_embeddings` at all lengths. Other
    models use dynamic YaRN: no scaling up to `max_position_embeddings`, and beyond it
    the factor `seq_len / original_max_position_embeddings`. Keys rotated for one length
    do not match queries rotated for another. Zeta's code returns `tables` instead.

    !!! Example

        ```python
        import torch
        from eqx_posemb.interop.torch import YarnEmbedding

        yarn = YarnEmbedding(dim=64, max_position_embeddings=8192, finetuned=True)
        q = yarn(torch.rand(2, 8, 10, 64))
        ```
    """

    _derived = ("inv_freq",)

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
        """`beta_fast`, `beta_slow` and `extrapolation_factor` are as in
        [`eqx_posemb.frequencies.YaRNFrequencies`][]. Scaled queries and keys are
        multiplied by `attn_factor`, in addition to YaRN's own factor.

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
        self.dim, self.attn_factor, self.finetuned = dim, attn_factor, finetuned
        self.max_position_embeddings = max_position_embeddings
        self.original_max_position_embeddings = original
        self._base = float(base)
        self._settings = (original, beta_slow, beta_fast, extrapolation_factor)
        # The constructor builds the schedule, so that it raises the error of a wrong
        # setting.
        factor, plain = self._stretch(max_position_embeddings), Geometric(dim, base)
        stretched = YaRNFrequencies(plain, factor, *self._settings)
        turns = (stretched if finetuned else plain).turns()
        self.angles = Angles(turns).to(device)

    def forward(
        self, x: Tokens, seq_len: int | None = None, *, positions: Tensor | None = None
    ) -> Tokens:
        """Queries or keys, rotated in halves and computed in at least float32.

        The scaling is for a context of `seq_len` tokens, by default the tokens of `x`.
        `positions` are [..., seq], and start at 0 by default.

        **Raises:** a `ValueError` if `x` has other channels, or more tokens than
        `seq_len`.
        """
        return self._rotated([x], seq_len, positions)[0]

    def rotate_queries_and_keys(
        self,
        q: Tokens,
        k: Keys,
        seq_len: int | None = None,
        *,
        positions: Tensor | None = None,
    ) -> tuple[Tokens, Keys]:
        """Rotates both as two calls do, with tables that are computed once.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        return self._rotated([q, k], seq_len, positions)

    def tables(
        self, x: Float[Tensor, "*batch dim"], seq_len: int | None = None
    ) -> tuple[Table, Table]:
        """The cosine and the sine of `seq_len` positions, by default the tokens of `x`,
        times YaRN's factor: [1, 1, seq_len, dim] in the dtype of `x`."""
        seq_len = x.shape[-2] if seq_len is None else seq_len
        tables = self._cos_sin(torch.arange(seq_len, device=x.device), seq_len, x.dtype)
        cos, sin = (twice(table)[None, None].to(x.dtype) for table in tables)
        return cos, sin

    def _rotated(self, inputs, seq_len, positions) -> Any:
        x = _checked(inputs, self.dim, f"dim={self.dim}")
        seq = x.shape[-2]
        seq_len = seq if seq_len is None else seq_len
        if seq_len < seq:
            raise ValueError(
                f"`seq_len` must be at least the {seq} tokens of `x`, but got "
                f"{seq_len}."
            )
        at = torch.arange(seq, device=x.device) if positions is None else positions
        cos, sin = self._cos_sin(at, seq_len, x.dtype)
        return tuple(rotate(each, cos, sin, "halves") for each in inputs)

    def _cos_sin(self, at, seq_len, dtype):
        words, scale, stretch = self.angles.values, 1.0, self._stretch(seq_len)
        long = seq_len > self.max_position_embeddings
        if long and not self.finetuned:
            # Dynamic YaRN has the scaling factor of each call.
            settings = (self.dim, self._base, stretch, *self._settings)
            words = words_of(at.device, *settings)
        if long or self.finetuned:
            scale = get_mscale(stretch) * self.attn_factor
        cos, sin = cos_sin(at, words, computing_dtype(dtype))
        return cos * scale, sin * scale

    def _stretch(self, seq_len):
        length = self.max_position_embeddings if self.finetuned else seq_len
        return length / self.original_max_position_embeddings


def _checked(inputs, dim, rule):
    """The first of one or two inputs, after checks of their shapes and dtypes."""
    q, k = inputs[0], inputs[-1]
    for x in inputs:
        if x.shape[-1] % 2 or dim not in (None, x.shape[-1]):
            raise ValueError(
                f"`x` must have shape [..., seq, dim] with {rule}, but got "
                f"{tuple(x.shape)}."
            )
    if (q.shape[-2], q.dtype) != (k.shape[-2], k.dtype):
        raise ValueError(
            f"`q` and `k` must be of the same tokens and dtype, but got {q.dtype} of "
            f"shape {tuple(q.shape)} and {k.dtype} of shape {tuple(k.shape)}."
        )
    return q


def _growth(positions, dim, scale_base):
    """What queries are multiplied by, at positions that count from the center."""
    device = positions.device
    rates = torch.as_tensor(log_zeta(dim), dtype=exact_dtype(device), device=device)
    return (positions.unsqueeze(-1) * rates / scale_base).exp()
