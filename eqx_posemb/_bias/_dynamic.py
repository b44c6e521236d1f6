"""Dynamic position bias: a small network computes the bias from the distance."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_choice, check_count
from .._layers import linear_layer, uniform
from .._phase import as_float
from ._abstract import AbstractRelativeBias


# The distances whose hidden layers are in memory at a time.
_AT_ONCE = 2**15


class DynamicBias(AbstractRelativeBias):
    r"""Dynamic position bias (CrossFormer), Wang et al. 2022.

    A small network maps each distance to one bias per head:

    $$b(\delta) = W_n\, \mathrm{SiLU}( \cdots \mathrm{SiLU}(W_0\, x + \beta_0) \cdots)
      + \beta_n, \qquad x = -\delta \quad \text{or} \quad
      x = -\mathrm{sign}(\delta) \ln(1 + |\delta|)$$

    for the distance $\delta = p_k - p_q$, and weights $W_i$ and biases $\beta_i$ of
    `depth` hidden layers. The last layer has one output per head. A table learns each
    distance separately. The network learns a smooth function of the distance, and its
    size does not depend on the length. `distances="log"` compresses far distances, and
    extrapolates better.

    CrossFormer introduced it for images, with layer normalization and ReLU. This class
    follows x-transformers (`dynamic_pos_bias`), and takes its weights.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.DynamicBias(heads=8, width=128, key=jax.random.key(0))
        assert bias(jnp.arange(5), jnp.arange(7)).shape == (8, 5, 7)
        ```

    ??? cite "Reference"

        [CrossFormer: A Versatile Vision Transformer Hinging on Cross-scale
        Attention](https://arxiv.org/abs/2108.00154), Section 3.2; network and initial
        values as in x-transformers.

        ```bibtex
        @inproceedings{wang2022crossformer,
            author={Wang, Wenxiao and Yao, Lu and Chen, Long and Lin, Binbin and Cai,
                    Deng and He, Xiaofei and Liu, Wei},
            title={{CrossFormer}: A Versatile Vision Transformer Hinging on Cross-scale
                   Attention},
            booktitle={International Conference on Learning Representations},
            year={2022},
        }
        ```
    """

    # Layers differ in shape, so they are tuples and no stacked arrays.
    weights: tuple[Float[Array, "_ _"], ...]
    biases: tuple[Float[Array, " _"], ...]
    distances: Literal["linear", "log"] = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        width: int,
        *,
        depth: int = 2,
        distances: Literal["linear", "log"] = "linear",
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `width`: The number of channels of a hidden layer. x-transformers uses a
            quarter of the model's channels.
        - `depth`: The number of hidden layers.
        - `distances`: Whether the input of the network is the distance (`"linear"`) or
            its logarithm with the sign (`"log"`).
        - `key`: A `jax.random` key. It initializes the network.

        **Raises:** a `ValueError` if `heads`, `width` or `depth` is less than one, or
        `distances` is unknown.
        """
        check_count("heads", heads, 1)
        check_count("width", width, 1)
        check_count("depth", depth, 1)
        check_choice("distances", distances, ("linear", "log"))
        sizes = [1, *[width] * depth, heads]
        keys = (jr.split(each, depth + 1) for each in jr.split(key))
        layers = list(zip(*keys, sizes, sizes[1:], strict=False))
        self.weights = tuple(uniform(k, (out, n), n) for k, _, n, out in layers)
        self.biases = tuple(uniform(k, (out,), n) for _, k, n, out in layers)
        self.distances = distances

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The bias of each distance, in JAX's default float dtype.
        """
        delta = as_float(delta)
        if not isinstance(delta.size, int) or delta.size <= _AT_ONCE:
            return self._network(delta)
        parts = jnp.pad(delta, (0, -delta.size % _AT_ONCE)).reshape(-1, _AT_ONCE)
        found = jnp.moveaxis(jax.lax.map(self._network, parts), 1, 0)
        return found.reshape(found.shape[0], -1)[:, : delta.size]

    def _network(self, delta):
        # The network of x-transformers reads query minus key, and its weights depend on
        # the sign.
        x = -delta[None]
        if self.distances == "log":
            x = jnp.sign(x) * jnp.log1p(jnp.abs(x))
        *layers, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in layers:
            x = jax.nn.silu(linear_layer(weight, bias, x))
        return linear_layer(*last, x)
