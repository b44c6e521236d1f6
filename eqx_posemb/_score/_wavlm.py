"""WavLM: a learned number for each bucket of distances, with a gate of the token."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._buckets import bucket, check_buckets
from .._checks import check_count, check_positive
from .._given import check_state
from .._phase import as_float
from ._rows import AbstractTable, Rows


class WavLM(AbstractTable):
    r"""Gated relative position bias of WavLM, Chen et al. 2022.

    It adds a learned number for each bucket of distances, multiplied by a gate of the
    token:

    $$s_{ij} = \big(a_i (c_h b_i - 1) + 2\big)\, t_{h,\, \text{bucket}(p_j - p_i)},
      \qquad (a_i, b_i) = \sigma(W x_i^h + w)$$

    for the table $t$ (`weight`) over the bidirectional buckets of
    [`eqx_posemb.T5Bias`][]. The gate reads the channels $x_i^h$ of the hidden state for
    the head $h$. It lies between 1 and 2 for the initial $c_h = 1$. A token controls
    the weight of its distances, for example more in speech than in pauses.

    Give the hidden states, with `heads * head_dim` channels, to
    [`eqx_posemb.PositionalEmbedding.attend`][] as `q_state`. The model shares `weight`
    over all layers, and each layer has its own gate. The released code adds four
    projections for each of $a$ and $b$. This class has one projection by the sum of
    their weights.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.WavLM(heads=8, head_dim=64, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(score=score)
        x, q = jnp.ones((10, 512)), jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        assert embedding.logits(q, q, p, p, q_state=x).shape == (8, 10, 10)
        ```

    ??? cite "Reference"

        [WavLM: Large-Scale Self-Supervised Pre-Training for Full Stack Speech
        Processing](https://arxiv.org/abs/2110.13900), Section IV-A.

        ```bibtex
        @article{chen2022wavlm,
            author={Chen, Sanyuan and Wang, Chengyi and Chen, Zhengyang and Wu, Yu and
                    Liu, Shujie and Chen, Zhuo and Li, Jinyu and Kanda, Naoyuki and
                    Yoshioka, Takuya and Xiao, Xiong and others},
            title={{WavLM}: Large-Scale Self-Supervised Pre-Training for Full Stack
                   Speech Processing},
            journal={IEEE Journal of Selected Topics in Signal Processing},
            volume={16},
            year={2022},
        }
        ```
    """

    reads = ("q_state",)
    weight: Float[Array, "buckets heads"]
    gate_weight: Float[Array, "2 head_dim"]
    gate_bias: Float[Array, " 2"]
    # Factors start at one, so initial gates lie between 1 and 2.
    gate_scale: Float[Array, " heads"]
    max_distance: int = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        head_dim: int,
        *,
        num_buckets: int = 320,
        max_distance: int = 800,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `num_buckets`: The number of buckets, for both directions together.
        - `max_distance`: The distance, in positions, from which on all share a bucket.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size or `std` is not positive, or if
        `num_buckets` is odd or less than 4. The same if `max_distance` is within the
        exact buckets.
        """
        check_count("heads", heads, 1)
        check_count("head_dim", head_dim, 1)
        check_positive("std", std)
        check_buckets(num_buckets, max_distance, bidirectional=True)
        weight_key, gate_key = jr.split(key)
        self.weight = std * jr.normal(weight_key, (num_buckets, heads))
        self.gate_weight = std * jr.normal(gate_key, (2, head_dim))
        self.gate_bias = jnp.zeros(2)
        self.gate_scale = jnp.ones(heads)
        self.max_distance = max_distance

    def _rows(self, q, q_positions, k_positions, q_state):
        del q, q_positions, k_positions
        heads, head_dim = self.weight.shape[1], self.gate_weight.shape[1]
        x = as_float(check_state("q_state", q_state, heads * head_dim))
        x = x.reshape(x.shape[0], heads, head_dim)
        opened = jnp.einsum("qhd,gd->ghq", x, as_float(self.gate_weight))
        a, b = jax.nn.sigmoid(opened + as_float(self.gate_bias)[:, None, None])
        gate = a * (b * as_float(self.gate_scale)[:, None] - 1) + 2
        # A gate is a query with one channel, and a number of the table is a vector with
        # one channel.
        return Rows(
            gate[..., None],
            self.weight.T[..., None],
            lambda delta: bucket(delta, self.weight.shape[0], self.max_distance),
        )
