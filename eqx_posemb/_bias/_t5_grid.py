"""T5's bias along each coordinate of a page."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .._checks import check_count, check_positive
from .._given import check_both, check_grid
from .._phase import as_float
from .._positions import distance
from .._sharding import sharded_as_pairs
from ._abstract import AbstractBias
from ._t5 import T5Bias


class T5GridBias(AbstractBias):
    r"""Spatial-aware bias of LayoutLMv2, Xu et al. 2021.

    It adds a learned number for the bucket of each coordinate's distance:

    $$b_h = c \sum_a T^a_{\mathrm{bucket}(\mathrm{trunc}(\rho\, \delta_a)),\, h}$$

    for the distance $\delta_a$ from query to key along axis $a$, a `resolution` $\rho$
    and a factor $c$ (`scale`). Each axis has a table with the buckets of
    [`eqx_posemb.T5Bias`][]. It relates words on one line or in one column of a page.
    Models add it to a bias of the reading order, which has its own positions.

    LayoutLMv2 and v3 use the left and the lower edge of a token's box, as integers
    below 1,000, with `num_buckets=64` and `max_distance=256`. LayoutLMv3 adds the bias
    before it scales, so its `scale` is `head_dim**-0.5`. UDOP uses the middle of the
    box, between 0 and 1, with `resolution=100` and `max_distance=100`.

    The tables have gradients here. In transformers, LayoutLM has none.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.T5GridBias(heads=8, key=jax.random.key(0))
        words = jnp.array([[50, 60], [190, 60], [50, 85]])
        assert bias(words, words).shape == (8, 3, 3)
        ```

    ??? cite "Reference"

        [LayoutLMv2: Multi-modal Pre-training for Visually-rich Document
        Understanding](https://arxiv.org/abs/2012.14740), Section 2.2.

        ```bibtex
        @inproceedings{xu2021layoutlmv2,
            author={Xu, Yang and Xu, Yiheng and Lv, Tengchao and Cui, Lei and Wei, Furu
                    and Wang, Guoxin and Lu, Yijuan and Florencio, Dinei and Zhang, Cha
                    and Che, Wanxiang and Zhang, Min and Zhou, Lidong},
            title={{LayoutLMv2}: Multi-modal Pre-training for Visually-rich Document
                   Understanding},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2021},
        }
        ```
    """

    biases: tuple[T5Bias, ...]
    # Coordinates between 0 and 1 need many steps of distance for each unit.
    resolution: float = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        *,
        axes: int = 2,
        num_buckets: int = 32,
        max_distance: int = 128,
        resolution: float = 1.0,
        scale: float = 1.0,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `axes`: The number of coordinates of a position.
        - `num_buckets`, `max_distance`: as in [`eqx_posemb.T5Bias`][]; distances are in
            the unit of positions times `resolution`.
        - `resolution`: How many steps of distance a unit of position has.
        - `scale`: What to multiply the bias by.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` as `T5Bias`, or if `axes`, `resolution` or `scale` is
        not positive.
        """
        check_count("axes", axes, 1)
        check_positive("resolution", resolution)
        check_positive("scale", scale)
        self.biases = tuple(
            T5Bias(
                heads,
                num_buckets=num_buckets,
                max_distance=max_distance,
                std=std,
                key=key,
            )
            for key in jr.split(key, axes)
        )
        self.resolution = float(resolution)
        self.scale = float(scale)

    @property
    def relative(self) -> bool:
        """True: the bias depends on distances alone."""
        return True

    @sharded_as_pairs
    @jax.named_scope("eqx_posemb.T5GridBias")
    def __call__(
        self, q_positions: Num[Array, "q axes"], k_positions: Num[Array, "k axes"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the coordinates of the queries, integers or floats.
        - `k_positions`: the coordinates of the keys.

        **Returns:**

        The bias of each pair, in the dtype of the tables.

        **Raises:** a `ValueError` if positions have another number of axes.
        """
        check_both(check_grid, q_positions, k_positions, len(self.biases))
        delta = self._steps(distance(q_positions, k_positions))
        shape = (self.biases[0].weight.shape[1], *delta.shape[:2])
        parts = [
            bias.along(delta[..., axis].ravel()).reshape(shape)
            for axis, bias in enumerate(self.biases)
        ]
        return self.scale * sum(parts[1:], parts[0])

    def _steps(self, delta: Num[Array, "q k axes"]) -> Int[Array, "q k axes"]:
        if self.resolution == 1 and jnp.issubdtype(delta.dtype, jnp.integer):
            return delta
        # UDOP rounds the difference, and not each coordinate.
        return jnp.trunc(as_float(delta) * self.resolution).astype(jnp.int32)
