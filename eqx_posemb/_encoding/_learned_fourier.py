"""Waves with learned directions and wavelengths, and a small network over them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_count, check_even, check_positive
from .._given import as_positions, check_grid
from .._layers import linear_layer, uniform
from .._phase import as_float
from ._abstract import AbstractEncoding


class LearnedFourier(AbstractEncoding):
    r"""Learnable Fourier features, Li et al. 2021.

    A small network maps cosines and sines of learned frequencies to an encoding:

    $$r = \tfrac{1}{\sqrt{F}} \big(\cos W_r p,\; \sin W_r p\big), \qquad
      e(p) = W_2\, \mathrm{GELU}(W_1 r + b_1) + b_2$$

    for the coordinates $p$ of a position, $F$ features and a hidden layer of $H$ units.
    At first, inner products of the features are a Gaussian kernel of the Euclidean
    distance, of width $\gamma$. Concatenated axes cannot give such a kernel. The
    encoding has few parameters, and is defined for any point, also between the cells of
    a grid.

    Axes may form groups, such as the two corners of a box. Groups share the network,
    and each group has an equal share of the channels.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        encoding = pe.LearnedFourier(64, axes=2, key=jax.random.key(0))
        assert encoding(pe.positions.grid_positions((4, 5))).shape == (20, 64)
        ```

    ??? cite "Reference"

        [Learnable Fourier Features for Multi-Dimensional Spatial Positional
        Encoding](https://arxiv.org/abs/2106.02795), Section 3.1 and Algorithm 1.

        ```bibtex
        @inproceedings{li2021learnable,
            author={Li, Yang and Si, Si and Li, Gang and Hsieh, Cho-Jui and Bengio,
                    Samy},
            title={Learnable {F}ourier Features for Multi-Dimensional Spatial Positional
                   Encoding},
            booktitle={Advances in Neural Information Processing Systems},
            year={2021},
        }
        ```
    """

    # Frequencies are in radians per unit of position, and all groups of axes share
    # them.
    waves: Float[Array, "half coordinates"]
    hidden_weight: Float[Array, "hidden features"]
    hidden_bias: Float[Array, " hidden"]
    weight: Float[Array, "share hidden"]
    bias: Float[Array, " share"]
    groups: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        axes: int = 2,
        features: int | None = None,
        hidden: int = 32,
        gamma: float = 10.0,
        groups: int = 1,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a token.
        - `axes`: The number of coordinates of a position.
        - `features`: The number of cosines and sines together. The default is `dim`.
        - `hidden`: The number of units of the hidden layer.
        - `gamma`: The distance over which initial encodings stay similar, in units of
            position. Frequencies start with the standard deviation `1 / gamma`, in
            radians. The paper states the variance, and one common implementation uses
            it as the standard deviation.
        - `groups`: How many groups of axes there are.
        - `key`: A `jax.random` key. It initializes frequencies and weights. Weights are
            uniform within one over the square root of the number of inputs.

        **Raises:** a `ValueError` if a size or `gamma` is not positive, if `features`
        is odd, or if `groups` divides `axes` or `dim` unevenly.
        """
        features = dim if features is None else features
        sizes = dict(dim=dim, axes=axes, hidden=hidden, groups=groups)
        for name, value in sizes.items():
            check_count(name, value, 1)
        check_positive("gamma", gamma)
        check_even("features", features, "for every cosine to have its sine")
        if axes % groups or dim % groups:
            raise ValueError(
                "`groups` must divide `axes` and `dim`, to deal them out, but got "
                f"{groups} for {axes} axes and {dim} channels."
            )
        keys = jr.split(key, 5)
        self.waves = jr.normal(keys[0], (features // 2, axes // groups)) / gamma
        self.hidden_weight = uniform(keys[1], (hidden, features), features)
        self.hidden_bias = uniform(keys[2], (hidden,), features)
        self.weight = uniform(keys[3], (dim // groups, hidden), hidden)
        self.bias = uniform(keys[4], (dim // groups,), hidden)
        self.groups = groups

    @jax.named_scope("eqx_posemb.LearnedFourier")
    def __call__(self, positions: Num[Array, "seq axes"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the coordinates of the tokens, integers or floats.

        **Returns:**

        What to add to the tokens, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions have another number of axes.
        """
        axes = self.groups * self.waves.shape[1]
        check_grid("positions", positions, axes)
        points = as_float(as_positions(positions)).reshape(-1, self.waves.shape[1])
        # Rounded factors would lose the fraction of a turn at large coordinates.
        angles = linear_layer(self.waves, None, points.T)
        features = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        features = features * features.shape[0] ** -0.5
        hidden = linear_layer(self.hidden_weight, self.hidden_bias, features)
        # PyTorch's GELU is exact by default, and JAX's is an approximation.
        hidden = jax.nn.gelu(hidden, approximate=False)
        vectors = linear_layer(self.weight, self.bias, hidden).T
        return vectors.reshape(positions.shape[0], self.groups * self.bias.size)
