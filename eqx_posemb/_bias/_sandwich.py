"""The inner product of sinusoidal encodings, as a bias."""

import decimal
from decimal import Decimal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._checks import as_number, check_count, check_even, check_positive
from .._given import Positions
from .._low_rank import Factors
from .._phase import cos_sin, HOST_PRECISION, Turns
from ._abstract import AbstractRelativeBias


class Sandwich(AbstractRelativeBias):
    r"""Sandwich, Chi et al. 2023.

    It adds the inner product of two sinusoidal encodings, which falls with the
    distance:

    $$b_h(\delta) = \frac{H}{8 h} \sum_{i=1}^{\bar d / 2}
      \big( \cos(\delta\, \theta^{-2i / \bar d}) - 1 \big)$$

    for the distance $\delta = p_k - p_q$, the head $h = 1, \dots, H$ and a width $\bar
    d$ (`dim`), which is independent of the model. The sum is the inner product of the
    [`eqx_posemb.Sinusoidal`][] encodings of query and key, minus its value at distance
    zero. The penalty grows like a logarithm, with ripples. It has no parameters, and
    extrapolates like [`eqx_posemb.ALiBi`][] with a longer range.

    The paper omits the $-1$, a constant that does not change the softmax. As in the
    paper, the sum starts at $i = 1$; encodings start at 0.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.Sandwich(heads=8)(jnp.array([100]), jnp.arange(101))[:, 0]
        assert (bias[:, -1] == 0).all() and (bias[:, :-1] < 0).all()
        ```

    ??? cite "Reference"

        [Dissecting Transformer Length Extrapolation via the Lens of Receptive Field
        Analysis](https://arxiv.org/abs/2212.10356), Section 5.

        ```bibtex
        @inproceedings{chi2023dissecting,
            author={Chi, Ta-Chung and Fan, Ting-Han and Rudnicky, Alexander I. and
                    Ramadge, Peter J.},
            title={Dissecting Transformer Length Extrapolation via the Lens of Receptive
                   Field Analysis},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2023},
        }
        ```
    """

    heads: int = eqx.field(static=True)
    # The width belongs to the bias, and is independent of the channels of a head.
    dim: int = eqx.field(static=True, default=128)
    theta: float = eqx.field(static=True, default=10_000.0, converter=as_number)

    def __check_init__(self):
        check_count("heads", self.heads, 1)
        check_even("dim", self.dim, "to have a cosine for each frequency")
        check_positive("theta", self.theta)

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        cos, _ = cos_sin(delta, _frequencies(self.dim, self.theta))
        lost = jnp.sum(cos - 1, axis=-1)
        return self._slopes()[:, None] * lost[None]

    def low_rank(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Factors:
        r"""The bias as a sum of products: $\cos(\delta \omega) = \cos(p_i \omega)
        \cos(p_j \omega) + \sin(p_i \omega) \sin(p_j \omega)$.

        Queries and keys get `dim + 1` channels. With the paper's 128, this is more than
        a head has.

        !!! Example

            ```python
            import jax.numpy as jnp
            import eqx_posemb as pe

            bias, p = pe.Sandwich(heads=8, dim=16), jnp.arange(5)
            q, k = bias.low_rank(p, p)
            assert q.shape == (8, 5, 17) and k.shape == (1, 5, 17)
            assert jnp.allclose(q @ k.swapaxes(1, 2), bias(p, p), atol=1e-5)
            ```

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Channels of queries `[heads, q, dim + 1]` and of keys `[1, k, dim + 1]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].
        """
        frequencies = _frequencies(self.dim, self.theta)

        def channels(positions, first):
            cos, sin = cos_sin(positions, frequencies)
            return jnp.concatenate([jnp.full_like(cos[:, :1], first), cos, sin], -1)

        # The constant channel comes first, since it is large and cancels against the
        # cosines.
        of_q = (
            self._slopes()[:, None, None] * channels(q_positions, -self.dim / 2)[None]
        )
        return of_q, channels(k_positions, 1.0)[None]

    def _slopes(self):
        return jnp.array([self.heads / (8 * (h + 1)) for h in range(self.heads)])


Sandwich.__init__.__doc__ = """**Arguments:**

- `heads`: The number of heads.
- `dim`: Twice the number of cosines. The paper has 128 for models of any size.
- `theta`: The base of the frequencies.

**Raises:** a `ValueError` if `heads` is less than one, `dim` not even and positive, or
`theta` not positive.
"""


def _frequencies(dim, theta):
    with decimal.localcontext(HOST_PRECISION):
        # The sum of the paper starts at the second frequency of `Geometric`.
        step = Decimal(theta) ** (Decimal(-2) / dim)
        exact = [step**i for i in range(1, dim // 2 + 1)]
    return Turns.from_radians(np.array(exact, dtype=object))
