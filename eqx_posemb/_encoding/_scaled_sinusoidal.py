"""Sines and cosines of the position, with a learned amplitude."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_positive
from .._given import Positions
from .._phase import as_float
from ._abstract import AbstractEncoding
from ._sinusoidal import Sinusoidal


class ScaledSinusoidal(AbstractEncoding):
    r"""Scaled sinusoidal encoding, Li et al. 2019.

    It adds sines and cosines of the position, times a learned number:

    $$e(p) = \alpha \, s(p)$$

    for the encoding $s$ of [`eqx_posemb.Sinusoidal`][] and a single parameter $\alpha$.
    Sines of size one are large compared with small token embeddings. The original
    transformer therefore multiplies tokens by $\sqrt d$. Here the balance is learned.
    Transformer TTS and FastSpeech 2 start with $\alpha = 1$. x-transformers starts with
    $1 / \sqrt d$, and has sines and cosines in one half each.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.ScaledSinusoidal(dim=64)
        assert encoding.scale == 0.125
        x = jnp.ones((10, 64)) + encoding(jnp.arange(10))
        ```

    ??? cite "Reference"

        [Neural Speech Synthesis with Transformer
        Network](https://arxiv.org/abs/1809.08895), Section 3.2; initial value as in
        x-transformers.

        ```bibtex
        @inproceedings{li2019neural,
            author={Li, Naihan and Liu, Shujie and Liu, Yanqing and Zhao, Sheng and Liu,
                    Ming},
            title={Neural Speech Synthesis with Transformer Network},
            booktitle={AAAI Conference on Artificial Intelligence},
            year={2019},
        }
        ```
    """

    # The factor is an array and trained, unlike the frequencies.
    scale: Float[Array, ""]
    waves: Sinusoidal

    def __init__(
        self,
        dim: int,
        theta: float = 10_000.0,
        layout: Literal[
            "interleaved", "concatenated", "tensor2tensor", "diffusion"
        ] = "concatenated",
        *,
        scale: float | None = None,
    ):
        """**Arguments:**

        - `dim`, `theta`, `layout`: as in [`eqx_posemb.Sinusoidal`][].
        - `scale`: The initial value of the factor. The default is `dim ** -0.5`.

        **Raises:** a `ValueError` as `Sinusoidal`, or if `scale` is not positive.
        """
        self.waves = Sinusoidal(dim, theta, layout)
        if scale is not None:
            check_positive("scale", scale)
        self.scale = jnp.array(dim**-0.5 if scale is None else float(scale))

    @jax.named_scope("eqx_posemb.ScaledSinusoidal")
    def __call__(
        self, positions: Num[Positions, " seq"]
    ) -> Float[Array, "seq {self.waves.dim}"]:
        """**Arguments:**

        - `positions`: the positions of the tokens, integers or floats.

        **Returns:**

        What to add to the tokens, in JAX's default float dtype.
        """
        return as_float(self.scale) * self.waves(positions)
