"""FIRE: a learned function of the distance over the query's position."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_positive
from .._given import as_positions, Positions
from .._layers import linear_layer, uniform
from .._phase import as_float
from .._positions import distance
from ._abstract import AbstractBias


class FIRE(AbstractBias):
    r"""Functional interpolation for relative positions (FIRE), Li et al. 2024.

    It adds a learned function of the distance, divided by the query's position:

    $$b_h(i, j) = f_h\Big(\frac{\psi(|i - j|)}{\psi(\max(L, i)) + 10^{-6}}\Big), \qquad
      \psi(x) = \ln(|c|\, x + 1), \qquad L = |w|\, L_0$$

    for a query at position $i$ and a key at $j$. The network $f$ maps a number to one
    bias per head, with one hidden layer (`hidden_weight`, `hidden_bias`, ReLU,
    `out_weight`, `out_bias`). The numbers $c$ (`c`) and $w$ (`multiplier`) are learned,
    and $L_0$ is `threshold`. The fraction lies between 0 and 1 at every context length,
    so the network never extrapolates. The threshold keeps the fractions of short
    contexts small.

    The bias depends on the query's position, so positions must start at zero. Packed
    documents need [`eqx_posemb.positions.segment_positions`][]. FIRE is designed for
    causal attention. For future keys it uses the absolute distance, as the listing in
    the paper does. The fraction may then exceed one.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.FIRE(heads=8, key=jax.random.key(0))
        assert bias(jnp.arange(5), jnp.arange(5)).shape == (8, 5, 5)
        ```

    ??? cite "Reference"

        [Functional Interpolation for Relative Positions Improves Long Context
        Transformers](https://arxiv.org/abs/2310.04418), Section 3; sizes and initial
        values as in Appendix C and in the authors' listing.

        ```bibtex
        @inproceedings{li2024functional,
            author={Li, Shanda and You, Chong and Guruganesh, Guru and Ainslie, Joshua
                    and Ontanon, Santiago and Zaheer, Manzil and Sanghai, Sumit and
                    Yang, Yiming and Kumar, Sanjiv and Bhojanapalli, Srinadh},
            title={Functional Interpolation for Relative Positions Improves Long Context
                   Transformers},
            booktitle={International Conference on Learning Representations},
            year={2024},
        }
        ```
    """

    traits = ("absolute", "causal")

    hidden_weight: Float[Array, "width 1"]
    hidden_bias: Float[Array, " width"]
    out_weight: Float[Array, "heads width"]
    out_bias: Float[Array, " heads"]
    c: Float[Array, ""]
    multiplier: Float[Array, ""]
    # The threshold is in positions. It is static, and `multiplier` trains its factor.
    threshold: float = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        *,
        width: int = 32,
        c: float = 0.1,
        threshold: float = 512.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `width`: The number of hidden channels of the network.
        - `c`: The initial rate of the logarithm, measured per position.
        - `threshold`: All queries up to this position, times `multiplier`, have the
            same denominator. The paper uses a quarter of the trained length.
        - `key`: A `jax.random` key. It initializes the network.

        **Raises:** a `ValueError` if `heads` or `width` is less than one, or `c` or
        `threshold` not positive.
        """
        check_count("heads", heads, 1)
        check_count("width", width, 1)
        check_positive("c", c)
        check_positive("threshold", threshold)
        keys = jr.split(key, 4)
        self.hidden_weight = uniform(keys[0], (width, 1), 1)
        self.hidden_bias = uniform(keys[1], (width,), 1)
        self.out_weight = uniform(keys[2], (heads, width), width)
        self.out_bias = uniform(keys[3], (heads,), width)
        self.c = jnp.asarray(c, jnp.result_type(float))
        self.multiplier = jnp.asarray(1.0, jnp.result_type(float))
        self.threshold = float(threshold)

    @jax.named_scope("eqx_posemb.FIRE")
    def __call__(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries, counted from zero.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.
        """
        c, multiplier = as_float(self.c), as_float(self.multiplier)
        # Training may make `c` negative, and the absolute value keeps the logarithm
        # defined.
        squeeze = lambda x: jnp.log1p(jnp.abs(c) * x)
        far = jnp.abs(as_float(distance(q_positions, k_positions)))
        threshold = jnp.abs(multiplier) * self.threshold
        most = jnp.maximum(as_float(as_positions(q_positions)), threshold)
        # The authors add 1e-6 against a division by zero.
        fraction = squeeze(far) / (squeeze(most) + 1e-6)[:, None]
        hidden = linear_layer(self.hidden_weight, self.hidden_bias, fraction[None])
        return linear_layer(self.out_weight, self.out_bias, jax.nn.relu(hidden))
