"""Sines and cosines of the position, added to tokens."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import (
    as_number,
    check_choice,
    check_count,
    check_finite,
    check_positive,
    require,
)
from .._frequencies import Geometric
from .._given import check_sequence, in_common, Positions
from .._phase import cos_sin
from ._abstract import AbstractEncoding


class Sinusoidal(AbstractEncoding):
    r"""Sinusoidal positional encoding, Vaswani et al. 2017.

    It adds sines and cosines of the position, at geometrically spaced frequencies.

    Each position has its own pattern at any length, without parameters, and a shift of
    positions rotates the pattern. In practice a model does not extrapolate with it,
    since patterns beyond the trained length are new.

    $$e(p) = (\sin \omega_0 p, \cos \omega_0 p, \sin \omega_1 p, \dots), \qquad
      \omega_m = \theta^{-2m/d}$$

    for a position $p$, $d$ channels (`dim`) and the base $\theta$. That is the paper's
    layout. Four are in use, with $h = \lfloor d / 2 \rfloor$ pairs, and they are not
    interchangeable:

    | `layout` | channels | $\omega_m$ | used by |
    |---|---|---|---|
    | `"interleaved"` | sine, cosine, … | $\theta^{-2m/d}$ | the paper, DistilBERT |
    | `"concatenated"` | sines, cosines | $\theta^{-2m/d}$ | Marian, Transformer-XL |
    | `"tensor2tensor"` | sines, cosines | $\theta^{-m/(h-1)}$ | fairseq, Whisper |
    | `"diffusion"` | cosines, sines | $\theta^{-m/h}$ | Stable Diffusion's time steps |

    Time steps in diffusers have two switches, `flip_sin_to_cos` and
    `downscale_freq_shift`: (false, 0) is `"concatenated"`, (false, 1) is
    `"tensor2tensor"`, (true, 0) is `"diffusion"`, and the rare (true, 1) is
    `"tensor2tensor"` with its halves exchanged by `jnp.roll(…, dim // 2, axis=-1)`.

    Positions count from `offset`. fairseq, M2M-100 and XGLM have rows for padding
    before the first position, and an `offset` of 2.

    An odd `dim` leaves the last channel zero, as in fairseq and diffusers.
    `"interleaved"` raises an error for an odd `dim`.

    Not to be confused with rotary embeddings, which use the same frequencies to turn
    queries and keys instead.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.Sinusoidal(dim=64)
        x = jnp.ones((10, 64)) + encoding(jnp.arange(10))
        ```

    ??? cite "Reference"

        [Attention Is All You Need](https://arxiv.org/abs/1706.03762), Section 3.5. The
        released code, tensor2tensor, has another layout; both are here.

        ```bibtex
        @inproceedings{vaswani2017attention,
            author={Vaswani, Ashish and Shazeer, Noam and Parmar, Niki and Uszkoreit,
                    Jakob and Jones, Llion and Gomez, Aidan N. and Kaiser, {\L}ukasz
                    and Polosukhin, Illia},
            title={Attention Is All You Need},
            booktitle={Advances in Neural Information Processing Systems},
            year={2017},
        }
        ```
    """

    dim: int = eqx.field(static=True)
    theta: float = eqx.field(static=True, default=10_000.0, converter=as_number)
    layout: Literal["interleaved", "concatenated", "tensor2tensor", "diffusion"] = (
        eqx.field(static=True, default="interleaved")
    )
    offset: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        check_positive("theta", self.theta)
        check_finite("offset", self.offset)
        check_choice(
            "layout",
            self.layout,
            ("interleaved", "concatenated", "tensor2tensor", "diffusion"),
        )
        least = 4 if self.layout == "tensor2tensor" else 2
        check_count("dim", self.dim, least)
        rule = "be even for `layout='interleaved'`, for every sine to have its cosine"
        fine = self.layout != "interleaved" or self.dim % 2 == 0
        require(fine, "dim", rule, self.dim)

    @property
    def frequencies(self) -> Geometric:
        """The schedule of frequencies."""
        return Geometric(
            self.dim - self.dim % 2,
            self.theta,
            # tensor2tensor divides the exponents by one less than the number of
            # frequencies.
            endpoint=self.layout == "tensor2tensor",
        )

    @jax.named_scope("eqx_posemb.Sinusoidal")
    def __call__(
        self, positions: Num[Positions, " seq"]
    ) -> Float[Array, "seq {self.dim}"]:
        """**Arguments:**

        - `positions`: the positions of the tokens, integers or floats.

        **Returns:**

        What to add to the tokens, in JAX's default float dtype, exact to 1e-7 at every
        int32 position.
        """
        (positions,) = in_common(positions)
        check_sequence("positions", positions, "for one angle to each frequency")
        if self.offset:
            positions = positions + self.offset
        cos, sin = cos_sin(positions, self.frequencies.turns())
        if self.layout == "interleaved":
            return jnp.stack([sin, cos], axis=-1).reshape(-1, self.dim)
        parts = [cos, sin] if self.layout == "diffusion" else [sin, cos]
        # fairseq leaves the last channel of an odd number zero.
        return jnp.pad(jnp.concatenate(parts, axis=-1), [(0, 0), (0, self.dim % 2)])


Sinusoidal.__init__.__doc__ = """**Arguments:**

- `dim`: The number of channels of a token.
- `theta`: The base. The longest wavelength is about `2π * theta` positions.
- `layout`: Where the sines and cosines go, and how the frequencies are spaced.
- `offset`: What is added to positions.

**Raises:** a `ValueError` if `layout` is unknown, if `dim` is too small or, for
`"interleaved"`, odd, or if `theta` is not positive.
"""
