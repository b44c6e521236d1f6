"""A learned number for each bucket of distances."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._buckets import bucket, check_buckets
from .._checks import check_count, check_positive
from .._given import check_integers
from .._spread import look_up
from .._state_dicts import array, filled, only
from ._abstract import AbstractRelativeBias


class T5Bias(AbstractRelativeBias):
    r"""Relative position buckets of T5, Raffel et al. 2020.

    It adds a learned number for each head and each bucket of distances.

    Each near distance has its own bucket. Far distances share buckets that widen with
    the logarithm, and all distances beyond `max_distance` share the last bucket. So the
    bias is defined beyond the trained length, and often works there. With $n =
    |\delta|$ for the distance $\delta = p_k - p_q$, and $B$ buckets per direction, the
    first $E = \lfloor B / 2 \rfloor$ are exact:

    $$\text{bucket}(n) = \begin{cases} n & n < E \\
      \min\Big(B - 1,\; E + \Big\lfloor \frac{\ln (n / E)}{\ln (D / E)} (B - E)
      \Big\rfloor\Big) & n \ge E \end{cases}$$

    where $D$ is `max_distance`. Bidirectional attention uses half of the buckets for
    each direction. In the causal form, all future keys share bucket 0. T5's own models
    attend with `scale=1`, which [`eqx_posemb.make`][] sets.

    The host computes the first distance of each bucket in integers. So rounding a
    logarithm never moves a distance to another bucket.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.T5Bias(heads=8, key=jax.random.key(0))
        assert bias(jnp.arange(5), jnp.arange(7)).shape == (8, 5, 7)
        ```

    ??? cite "Reference"

        [Exploring the Limits of Transfer Learning with a Unified Text-to-Text
        Transformer](https://arxiv.org/abs/1910.10683), Section 2.1; the buckets follow
        the released code.

        ```bibtex
        @article{raffel2020exploring,
            author={Raffel, Colin and Shazeer, Noam and Roberts, Adam and Lee, Katherine
                    and Narang, Sharan and Matena, Michael and Zhou, Yanqi and Li, Wei
                    and Liu, Peter J.},
            title={Exploring the Limits of Transfer Learning with a Unified Text-to-Text
                   Transformer},
            journal={Journal of Machine Learning Research},
            volume={21},
            year={2020},
        }
        ```
    """

    # Buckets come first, as in `torch.nn.Embedding`.
    weight: Float[Array, "buckets heads"]
    max_distance: int = eqx.field(static=True)
    bidirectional: bool = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `num_buckets`: The number of buckets, for both directions together.
        - `max_distance`: All distances of at least this many positions share a bucket.
        - `bidirectional`: Whether keys may be in the future, as in an encoder. A
            decoder has `False`.
        - `std`: The standard deviation of the initial weights. transformers has
            `d_model ** -0.5`.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `heads` or `std` is not positive, if there are too
        few buckets, or if `max_distance` is within the exact buckets.
        """
        check_count("heads", heads, 1)
        check_positive("std", std)
        check_buckets(num_buckets, max_distance, bidirectional)
        self.weight = std * jr.normal(key, (num_buckets, heads))
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        max_distance: int = 128,
        bidirectional: bool = True,
    ) -> "T5Bias":
        """Builds a [`eqx_posemb.T5Bias`][] with the weights of a checkpoint.

        One of these names must be there, after `prefix`:

        - `relative_attention_bias.weight`, [buckets, heads]: transformers, in the first
            layer of each stack (`encoder.block.0.layer.0.SelfAttention.`,
            `decoder.block.0.layer.0.SelfAttention.`).
        - `relative_attention_bias`, [heads, buckets]: the original checkpoints
            (`encoder/block_000/layer_000/SelfAttention/`).
        - `rel_embedding`, [heads, buckets]: T5X (`encoder/relpos_bias/`).

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"SelfAttention.relative_attention_bias.weight": np.ones((32, 8))}
            bias = pe.T5Bias.from_state_dict(state, prefix="SelfAttention.")
            assert bias.weight.shape == (32, 8)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the name.
        - `max_distance`, `bidirectional`: as in [`eqx_posemb.T5Bias`][]; a checkpoint
            does not say. A decoder has `bidirectional=False`.

        **Returns:** the bias, in JAX's default float dtype. T5's own models attend with
        `PositionalEmbedding(bias=bias, scale=1)`.

        **Raises:** a `ValueError` if there is none of the names or more than one.
        """
        names = "relative_attention_bias.weight", "relative_attention_bias"
        name = only(state, prefix, *names, "rel_embedding")
        weight = array(state, name)
        # Only the table of `torch.nn.Embedding` has buckets first.
        if name != prefix + names[0]:
            weight = weight.T
        buckets, heads = weight.shape
        made = cls(
            heads,
            num_buckets=buckets,
            max_distance=max_distance,
            bidirectional=bidirectional,
            key=jr.key(0),
        )
        return filled(made, weight=weight)

    def buckets(self, delta: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The row of `weight` that holds each distance.
        """
        return bucket(
            delta, self.weight.shape[0], self.max_distance, self.bidirectional
        )

    def along(self, delta: Int[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query; integers.

        **Returns:**

        The bias of each distance, in the dtype of `weight`.

        **Raises:** a `ValueError` if distances are not integers.
        """
        positions = "q_positions` and `k_positions"
        check_integers(positions, delta, "to sort distances into buckets")
        return look_up(self.weight.T[:, None], self.buckets(delta)[None])[:, 0]
