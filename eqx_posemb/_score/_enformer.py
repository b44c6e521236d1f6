"""Enformer: products of the query with decays, windows and bumps of the distance."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count
from .._given import Positions
from .._phase import as_float
from .._positions import distance
from .._spread import look_up
from .._state_dicts import array, by_head, filled
from ._relative import AbstractBasis, AbstractRelative, within


# The standard deviation of a normal distribution truncated at two.
KEPT = 0.87962566103423978


class Enformer(AbstractRelative):
    r"""Relative positions of Enformer, Avsec et al. 2021.

    It adds the product of the query with a learned mix of decays, windows and bumps of
    the distance:

    $$s_{ij} = u_h \cdot k_j
      + \Big(\frac{q_i}{\sqrt{D}} + v_h\Big) \cdot W_h\, \phi(p_j - p_i)$$

    for the features $\phi$ of the distance and `weight` $W_h$ of shape `[head_dim,
    features]`. Each head has vectors `u` and `v`, as in [`eqx_posemb.TransformerXL`][].
    Here they are *not* divided by $\sqrt{D}$, where $D$ is `head_dim`. With $n$
    features of each kind for a context of $T$ positions (`length`) and $x = |p_j -
    p_i|$, the features are

    $$\begin{gathered}
      2^{-x / \lambda_k}, \quad \lambda_k \text{ geometric from } 8 \text{ to } T; \\
      [\,x < 2^k - 1\,]; \\
      \frac{\Gamma(x; \mu_k, \sigma) + 10^{-8}}{\max_{x' < T} \dots}, \quad
      \mu_k = \frac{k T}{n},\ \sigma = \frac{T}{2 n}
      \end{gathered}$$

    for $k = 1, \dots, n$ and the density of the gamma distribution with that mean and
    standard deviation. Unless `symmetric`, a second copy is multiplied by the sign of
    the distance, to tell the two sides apart.

    It was designed for DNA, where interactions span a hundred thousand base pairs. The
    features scale with `length`. To run at another length, build it for this length
    with the same weights. Distances of `length` and more have no features, and raise an
    error.

    The host computes the features in float64. In float32, as in DeepMind's code, the
    density of the gamma distribution is off by up to 2.5e-3 at $T = 1536$. They are
    normalized over positions, as in DeepMind's code. By default, enformer-pytorch
    normalizes over features, which is another function.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.Enformer(
            heads=8, head_dim=64, features=192, length=1536, key=jax.random.key(0)
        )
        q = k = jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        assert score(q, k, p, p).shape == (8, 10, 10)
        ```

    ??? cite "Reference"

        [Effective gene expression prediction from sequence by integrating long-range
        interactions](https://doi.org/10.1038/s41592-021-01252-x), Methods, "Model
        architecture"; the formulas follow the released code. After Transformer-XL, [Dai
        et al.](https://arxiv.org/abs/1901.02860), Section 3.3.

        ```bibtex
        @article{avsec2021effective,
            author={Avsec, {\v{Z}}iga and Agarwal, Vikram and Visentin, Daniel and
                    Ledsam, Joseph R. and Grabska-Barwinska, Agnieszka and Taylor, Kyle
                    R. and Assael, Yannis and Jumper, John and Kohli, Pushmeet and
                    Kelley, David R.},
            title={Effective gene expression prediction from sequence by integrating
                   long-range interactions},
            journal={Nature Methods},
            volume={18},
            year={2021},
        }
        ```
    """

    traits = ("bounded",)

    u: Float[Array, "heads head_dim"]
    v: Float[Array, "heads head_dim"]
    weight: Float[Array, "heads head_dim features"]
    # The basis has no parameters, so the same weights serve a basis of another length.
    basis: "EnformerBasis"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        features: int,
        length: int,
        *,
        symmetric: bool = False,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a query, 64 in Enformer.
        - `features`: The number of features of a distance: a multiple of 6, or of 3 if
            `symmetric`. Enformer has 192.
        - `length`: The context length, in positions, that the features are spread over.
        - `symmetric`: Whether the past and the future are alike.
        - `key`: A `jax.random` key. Initial values are truncated normal, of variance
            `2 / features` and, for `u` and `v`, `2 / heads`, as DeepMind has them.

        **Raises:** a `ValueError` if a size is not positive, or `features` no such
        multiple.
        """
        check_count("heads", heads, 1)
        check_count("head_dim", head_dim, 1)
        u_key, v_key, weight_key = jr.split(key, 3)
        self.basis = EnformerBasis(features, length, symmetric)
        self.u = _truncated_normal(u_key, (heads, head_dim), heads)
        self.v = _truncated_normal(v_key, (heads, head_dim), heads)
        self.weight = _truncated_normal(
            weight_key, (heads, head_dim, features), features
        )

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        length: int,
        *,
        prefix: str = "",
        symmetric: bool = False,
    ) -> "Enformer":
        """Builds a [`eqx_posemb.Enformer`][] with the weights of a checkpoint.

        The names of one of these must be there, after `prefix`:

        - DeepMind: `r_k_layer/w`, [features, heads * head_dim], and `r_w_bias` and
            `r_r_bias`, [1, heads, 1, head_dim].
        - enformer-pytorch: `to_rel_k.weight`, [heads * head_dim, features], and
            `rel_content_bias` and `rel_pos_bias`, [1, heads, 1, head_dim]. Weights that
            were trained with it, and not converted, expect its own normalization of the
            bumps.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {
                "r_k_layer/w": np.ones((12, 32)),
                "r_w_bias": np.ones((1, 4, 1, 8)),
                "r_r_bias": np.ones((1, 4, 1, 8)),
            }
            score = pe.Enformer.from_state_dict(state, length=1536)
            assert score.weight.shape == (4, 8, 12)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `length`, `symmetric`: as in [`eqx_posemb.Enformer`][]; a checkpoint does not
            say.
        - `prefix`: what comes before the names.

        **Returns:** the score, in JAX's default float dtype.

        **Raises:** a `ValueError` if a name is missing or an array does not fit.
        """
        if f"{prefix}to_rel_k.weight" in state:
            weight = array(state, f"{prefix}to_rel_k.weight")
            names = ("rel_content_bias", "rel_pos_bias")
        else:
            weight = array(state, f"{prefix}r_k_layer/w").T
            names = ("r_w_bias", "r_r_bias")
        u, v = (array(state, prefix + name)[0, :, 0] for name in names)
        heads, head_dim = u.shape
        made = cls(
            heads, head_dim, weight.shape[1], length, symmetric=symmetric, key=jr.key(0)
        )
        return filled(made, u=u, v=v, weight=by_head(weight, heads))

    def _scaled(self, q, q_positions, k_positions):
        most = self.basis.length - 1
        q = within(
            q,
            q_positions,
            k_positions,
            -most,
            most,
            f"`q_positions` and `k_positions` must be at most {most} apart, to be "
            "within the `length` of this `Enformer`. Build it with a larger one.",
        )
        # Enformer scales the query and not the sum, so `u` and `v` stay unscaled.
        return as_float(q) * q.shape[-1] ** -0.5, 1.0


class EnformerBasis(AbstractBasis):
    """Decays, windows and bumps, computed on the host."""

    features: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True)

    def __check_init__(self):
        check_count("length", self.length, 1)
        share = 3 if self.symmetric else 6
        if self.features < share or self.features % share:
            raise ValueError(
                f"`features` must be a multiple of {share} for "
                f"symmetric={self.symmetric}, to be shared out evenly among the kinds, "
                f"but got {self.features}."
            )

    def table(self) -> Float[np.ndarray, "distances features"]:
        """The features of all distances from `1 - length` to `length - 1`, in
        float64."""
        count = self.features // (3 if self.symmetric else 6)
        far = np.abs(np.arange(1 - self.length, self.length))
        x, k = np.arange(float(self.length))[:, None], np.arange(1.0, count + 1)
        half_lives = 2 ** np.linspace(3, math.log2(self.length), count)
        decays = 2 ** (-x / half_lives)
        windows = (x < 2**k - 1).astype(np.float64)
        features = np.concatenate([decays, windows, self._bumps(x, k)], axis=1)[far]
        if self.symmetric:
            return features
        sign = np.sign(np.arange(1 - self.length, self.length))[:, None]
        return np.concatenate([features, sign * features], axis=1)

    def along(self, delta: Int[Array, " n"]) -> Float[Array, "n features"]:
        # Padding of blocks may have distances beyond the table, and attention masks it.
        return self._table().at[delta + self.length - 1].get(mode="clip")

    def of_pairs(
        self,
        weights: Float[Array, "heads q features"],
        q_positions: Int[Positions, " q"],
        k_positions: Int[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        of_distances = jnp.einsum("hqf,nf->hqn", weights, self._table())
        row = distance(q_positions, k_positions) + self.length - 1
        return look_up(of_distances, row)

    def _table(self):
        return jnp.asarray(self.table(), jnp.result_type(float))

    def _bumps(self, x, k):
        # Mean and standard deviation are kT/n and T/2n, so that the shape is 4k².
        count = k.size
        shape, rate = 4 * k**2, 4 * k * count / self.length
        log_gamma = np.array([math.lgamma(each) for each in shape])
        # The density at zero is zero, so its logarithm is bypassed.
        log_x = np.log(np.where(x > 0, x, 1))
        # Powers and factorials of large shapes would overflow, and their logarithms do
        # not.
        density = np.exp(
            (shape - 1) * log_x - rate * x - log_gamma + shape * np.log(rate)
        )
        density = np.where(x > 0, density, 0) + 1e-8
        return density / density.max(axis=0)


def _truncated_normal(key, shape, fan_in):
    return (2 / fan_in) ** 0.5 / KEPT * jr.truncated_normal(key, -2, 2, shape)
