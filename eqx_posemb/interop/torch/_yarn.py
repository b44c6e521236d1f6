"""YaRN, as Zeta's documentation has it."""

import torch
from jaxtyping import Float, Num
from torch import nn, Tensor

from ..._checks import check_positive
from ..._frequencies import Geometric, YaRNFrequencies
from ...functional import get_mscale
from . import _schedules
from ._angles import Angles, computing_dtype, cos_sin
from ._rotate import check_same_tokens, rotate_all
from ._state import ignore


class YarnEmbedding(nn.Module):
    """Rotates queries or keys, stretched by YaRN where the context needs it.

    Fine-tuned for YaRN, a model has one stretch, `max_position_embeddings /
    original_max_position_embeddings`, from the first position on. Otherwise it has none
    up to `max_position_embeddings`, and beyond as much as the length needs, `seq_len /
    original_max_position_embeddings`: dynamic YaRN. Keys rotated for one length do not
    fit queries rotated for another.

    Calling it applies it to the input, as Zeta's documentation has it. Zeta's code
    returns tables instead, which `tables` has here. Its faults are mended:
    `finetuned=True` and lengths beyond `max_position_embeddings` are possible, and no
    call changes what another returns.

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
        """**Arguments:**

        - `dim`: The number of channels.
        - `max_position_embeddings`: The context length, in positions, of the model.
        - `base`: The base of the frequencies.
        - `original_max_position_embeddings`: That of the model before YaRN.
        - `extrapolation_factor`: How much of fast frequencies is kept: 0 is plain
            interpolation.
        - `attn_factor`: What to multiply stretched queries and keys by, besides YaRN's
            own factor.
        - `beta_fast`: The number of turns above which frequencies are kept.
        - `beta_slow`: The number below which they are stretched in full.
        - `finetuned`: Whether the model was trained with the stretch.
        - `device`: Where the module is to be.

        **Raises:** a `ValueError` if the original context is the longer one, and as
        [`eqx_posemb.YaRNFrequencies`][].
        """
        super().__init__()
        check_positive("attn_factor", attn_factor)
        check_positive(
            "original_max_position_embeddings", original_max_position_embeddings
        )
        if max_position_embeddings < original_max_position_embeddings:
            raise ValueError(
                "`max_position_embeddings` must be at least the original, "
                f"{original_max_position_embeddings}, but got "
                f"{max_position_embeddings}."
            )
        self.dim = dim
        self.max_position_embeddings = max_position_embeddings
        self.original_max_position_embeddings = original_max_position_embeddings
        self.attn_factor = attn_factor
        self.finetuned = finetuned
        self._before = (dim, float(base))
        self._after = (beta_slow, beta_fast, extrapolation_factor)
        # Wrong settings are to be found now, and not at the first long sequence.
        schedule = self._stretched(self._stretch(max_position_embeddings))
        if not finetuned:
            schedule = schedule.base
        self.angles = Angles(schedule.turns()).to(device)
        ignore(self, "inv_freq")

    def forward(
        self,
        x: Float[Tensor, "*batch seq dim"],
        seq_len: int | None = None,
        *,
        positions: Num[Tensor, "*some seq"] | None = None,
    ) -> Float[Tensor, "*batch seq dim"]:
        """**Arguments:**

        - `x`: queries or keys.
        - `seq_len`: the context length that the stretch is for. By default, and at
            least, as many as there are tokens.
        - `positions`: those of the tokens, with as many leading axes as broadcast; from
            0 on by default.

        **Returns:**

        A tensor like `x`, rotated in halves; computed in at least float32.

        **Raises:** a `ValueError` if `x` has other channels, or more tokens than
        `seq_len`.
        """
        return self._rotated((x,), seq_len, positions)[0]

    def rotate_queries_and_keys(
        self,
        q: Float[Tensor, "*q_batch seq dim"],
        k: Float[Tensor, "*k_batch seq dim"],
        seq_len: int | None = None,
        *,
        positions: Num[Tensor, "*some seq"] | None = None,
    ) -> tuple[Float[Tensor, "*q_batch seq dim"], Float[Tensor, "*k_batch seq dim"]]:
        """Both as by a call, with tables that are made once.

        **Arguments:**

        - `q`, `k`: queries and keys of the same tokens.
        - `seq_len`, `positions`: as for a call.

        **Returns:**

        The two, rotated.

        **Raises:** as a call, and a `ValueError` if `q` and `k` differ in tokens or
        dtype.
        """
        check_same_tokens(q, k)
        q, k = self._rotated((q, k), seq_len, positions)
        return q, k

    def tables(
        self, x: Float[Tensor, "*batch dim"], seq_len: int | None = None
    ) -> tuple[Float[Tensor, "1 1 length dim"], Float[Tensor, "1 1 length dim"]]:
        """What Zeta's code, and its authors', return for a call.

        **Arguments:**

        - `x`: a tensor of the dtype and device to have.
        - `seq_len`: how many positions; by default as many as `x` has tokens.

        **Returns:**

        The cosine and the sine, each [1, 1, seq_len, dim] for a rotation of halves, and
        multiplied by YaRN's factor.
        """
        if seq_len is None:
            seq_len = x.shape[-2]
        positions = torch.arange(seq_len, device=x.device)
        tables = self._cos_sin(positions, seq_len, computing_dtype(x.dtype))
        cos, sin = (
            torch.cat([each, each], dim=-1)[None, None].to(x.dtype) for each in tables
        )
        return cos, sin

    def _rotated(self, inputs, seq_len, positions):
        x = inputs[0]
        seq = x.shape[-2]
        if seq_len is None:
            seq_len = seq
        for each in inputs:
            self._check(each, seq_len)
        if positions is None:
            positions = torch.arange(seq, device=x.device)
        cos, sin = self._cos_sin(positions, seq_len, computing_dtype(x.dtype))
        return rotate_all(inputs, cos, sin, "halves")

    def _cos_sin(self, positions, seq_len, dtype):
        fits = seq_len <= self.max_position_embeddings
        if fits or self.finetuned:
            cos, sin = self.angles(positions, dtype)
        else:
            factor = self._stretch(seq_len)
            fixed = _schedules.yarn(
                *self._before,
                factor,
                self.original_max_position_embeddings,
                *self._after,
                positions.device,
            )
            cos, sin = cos_sin(positions, fixed, dtype)
        if fits and not self.finetuned:
            return cos, sin
        scale = get_mscale(self._stretch(seq_len)) * self.attn_factor
        return cos * scale, sin * scale

    def _stretch(self, seq_len):
        length = self.max_position_embeddings if self.finetuned else seq_len
        return length / self.original_max_position_embeddings

    def _stretched(self, factor):
        dim, base = self._before
        original = self.original_max_position_embeddings
        return YaRNFrequencies(Geometric(dim, base), factor, original, *self._after)

    def _check(self, x, seq_len):
        if x.shape[-1] != self.dim:
            raise ValueError(
                f"`x` must have shape [..., seq, dim] with dim={self.dim}, but got "
                f"{tuple(x.shape)}."
            )
        if seq_len < x.shape[-2]:
            raise ValueError(
                f"`seq_len` must be at least the {x.shape[-2]} tokens of `x`, but got "
                f"{seq_len}."
            )


def linear_ramp_mask(min: float, max: float, dim: int) -> Float[Tensor, " {dim}"]:
    """A ramp from zero at the index `min` to one at `max`.

    [`eqx_posemb.functional.linear_ramp_mask`][] in PyTorch.

    !!! Example

        ```python
        from eqx_posemb.interop.torch import linear_ramp_mask

        assert linear_ramp_mask(1, 3, dim=5).tolist() == [0, 0, 0.5, 1, 1]
        ```

    **Arguments:**

    - `min`, `max`: the indices.
    - `dim`: the length of the ramp.

    **Returns:** a tensor `[dim]`, in PyTorch's default dtype.
    """
    width = 0.001 if min == max else max - min
    return ((torch.arange(dim, dtype=torch.get_default_dtype()) - min) / width).clamp(
        0, 1
    )
