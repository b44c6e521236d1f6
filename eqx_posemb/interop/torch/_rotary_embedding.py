"""Angles of positions, as Zeta's documentation has them."""

import torch
from jaxtyping import Float
from torch import nn, Tensor

from ..._checks import check_positive
from ..._frequencies import Geometric, Linear
from ...functional._xpos import rescaled
from ._angles import Angles, radians
from ._state import ignore
from ._xpos import growth


class RotaryEmbedding(nn.Module):
    r"""The angles of the first positions, and the growth of xPos.

    [`eqx_posemb.functional.rotary_embedding`][] in PyTorch, with a length for
    positions; each angle twice, for a rotation of halves.

    Zeta's values, but for its faults: the result is on the device that is asked for; it
    has PyTorch's default dtype whatever became of the module, where Zeta's are spoiled
    by `.half()`; two channels are possible, and an odd number is an error. Zeta's
    documentation calls the two results concatenated: they are a pair.

    A float32 angle has lost its turns by position 100,000. `cos_sin` never holds one.

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
        """**Arguments:**

        - `dim`: The number of rotated channels.
        - `use_xpos`: Whether to have the growth of xPos, too. It goes by positions as
            they are, also where those of angles are divided.
        - `scale_base`: How many positions it takes to fade.
        - `interpolation_factor`: What to divide positions by.
        - `base`: The base of the frequencies.
        - `base_rescale_factor`: What the slowest frequency is to be divided by.

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
        """**Arguments:**

        - `seq_len`: the number of positions.
        - `device`: where the result is to be.

        **Returns:**

        The angles in radians, [seq_len, dim], and the factors of queries, likewise, or
        1.0 without xPos; keys have their inverse.
        """
        dtype = torch.get_default_dtype()
        frequencies = radians(self.angles.words().to(device))
        positions = torch.arange(seq_len, device=device)
        angles = (positions[:, None] * frequencies).to(dtype)
        if not self.use_xpos:
            return torch.cat([angles, angles], dim=-1), 1.0
        grown = growth(positions - seq_len // 2, self.dim, self.scale_base).to(dtype)
        return torch.cat([angles, angles], dim=-1), torch.cat([grown, grown], dim=-1)

    def cos_sin(
        self, positions: Tensor, dtype: torch.dtype | None = None
    ) -> tuple[Tensor, Tensor]:
        """**Arguments:**

        - `positions`: integers or floats, of any shape, on the device of the module.
        - `dtype`: of the result; PyTorch's default if it is `None`.

        **Returns:**

        The cosine and the sine of their angles, [..., dim], right at every int32
        position.
        """
        tables = self.angles(positions, dtype or torch.get_default_dtype())
        cos, sin = (torch.cat([table, table], dim=-1) for table in tables)
        return cos, sin
