"""FoPE: several frequencies for each pair of channels."""

import math
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_positive, require
from .._frequencies import Geometric
from .._given import check_sequence, Positions
from .._phase import as_float, cos_sin
from ._abstract import AbstractRotary
from ._pairing import check_layout, Layout
from ._rotation import once, Rotation


class FoPE(AbstractRotary):
    r"""Fourier position embedding (FoPE), Hua et al. 2025.

    It turns each pair of channels at a mixture of frequencies:

    $$\cos \alpha_{h, i}(p) = \sum_j C_{h, j, i} \cos(p\, \omega_j), \qquad
      \sin \alpha_{h, i}(p) = \sum_j S_{h, j, i} \sin(p\, \omega_j)$$

    for the position $p$, the frequencies $\omega$ of [`eqx_posemb.rope`][] and weights
    $C$ and $S$ (`cosines`, `sines`) of each head $h$, which start near the identity.
    Layers and activations mix frequencies, which disturbs a pair with a single
    frequency. A mixture is robust to other frequencies. A frequency that does not turn
    once within the trained `length` is undertrained, so it is set to zero, and its pair
    passes through.

    It is not a rotation, since the mixtures are not the cosine and sine of one angle.
    Logits depend on more than the distance. The authors keep the weights as drawn. To
    do the same, exclude both arrays from training.

    The listing of the paper uses a sine of one for zeroed frequencies. Here it is zero,
    as in later code, so these channels pass through unchanged.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        fope = pe.FoPE(64, heads=8, length=512, key=jax.random.key(0))
        q = fope(jnp.arange(10)).queries(jnp.ones((8, 10, 64)))
        ```

    ??? cite "Reference"

        [Fourier Position Embedding: Enhancing Attention's Periodic Extension for Length
        Generalization](https://arxiv.org/abs/2412.17739), Section 4.

        ```bibtex
        @inproceedings{hua2025fourier,
            author={Hua, Ermo and Jiang, Che and Lv, Xingtai and Zhang, Kaiyan and
                    Ding, Ning and Sun, Youbang and Qi, Biqing and Fan, Yuchen and
                    Zhu, Xuekai and Zhou, Bowen},
            title={Fourier Position Embedding: Enhancing Attention's Periodic Extension
                   for Length Generalization},
            booktitle={International Conference on Machine Learning},
            year={2025},
        }
        ```
    """

    traits = ("absolute",)

    frequencies: Geometric
    # Optimizers train both matrices by default, and the authors keep them as drawn.
    cosines: Float[Array, "heads kept kept"]
    sines: Float[Array, "heads kept kept"]
    pairing: Layout = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        length: float,
        theta: float = 10_000.0,
        std: float = 0.3,
        pairing: Layout = "halves",
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `heads`: The number of heads.
        - `length`: The trained context length, in positions. Frequencies without a full
            turn in it are set to zero.
        - `theta`: The base of the frequencies.
        - `std`: The strength of the initial mixture: the standard deviation of the sum
            over all other frequencies of a pair.
        - `pairing`: `"halves"` or `"adjacent"`.
        - `key`: A `jax.random` key for the weights.

        **Raises:** a `ValueError` if `dim` is odd, or if `heads`, `length`, `theta` or
        `std` is not positive. The same if no frequency turns within `length`, or if
        `pairing` is unknown.
        """
        check_count("heads", heads, 1)
        check_positive("length", length)
        check_positive("std", std)
        check_layout(pairing, dim)
        self.frequencies = Geometric(dim, theta)
        # With a base above one, frequencies descend, so the kept frequencies are the
        # first ones.
        kept = int(np.sum(self.frequencies() * length >= 2 * math.pi))
        rule = "be at least 2π, for one frequency to turn once within it"
        require(kept != 0, "length", rule, length)
        self.cosines, self.sines = _start(key, (heads, kept, kept), std)
        self.pairing = pairing

    @jax.named_scope("eqx_posemb.FoPE")
    def __call__(self, positions: Num[Positions, " seq"]) -> Rotation:
        """**Arguments:**

        - `positions`: the position of each token: integers, or floats in the same unit.

        **Returns:**

        A [`eqx_posemb.rotations.Rotation`][] with tables for each head.

        **Raises:** a `ValueError` if `positions` is not one-dimensional.
        """
        check_sequence("positions", positions, "for one angle to each frequency")
        kept = self.cosines.shape[-1]
        turns = jax.tree.map(lambda word: word[:kept], self.frequencies.turns())
        cos, sin = cos_sin(positions, turns)
        mix = lambda table, weight: jnp.einsum("sj,hji->hsi", table, as_float(weight))
        rest = ((0, 0), (0, 0), (0, self.frequencies.pairs - kept))
        # A cosine of one and a sine of zero pass the remaining channels through.
        cos = jnp.pad(mix(cos, self.cosines), rest, constant_values=1)
        sin = jnp.pad(mix(sin, self.sines), rest)
        cos, sin = once(cos, sin)
        return Rotation(cos, sin, None, self.frequencies.dim, self.pairing)


# One program draws both arrays: drawn one operation at a time they take 2 ms.
@partial(jax.jit, static_argnames=("shape", "std"))
def _start(key, shape, std):
    """Weights that keep each frequency and mix in the others."""
    # The root of the number of terms makes `std` the deviation of the whole mixture.
    *_, kept = shape
    start = lambda key: (
        std / math.sqrt(kept) * jr.normal(key, shape) + np.eye(kept)[None]
    )
    cosine_key, sine_key = jr.split(key)
    return start(cosine_key), start(sine_key)
