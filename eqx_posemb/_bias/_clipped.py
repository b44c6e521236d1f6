"""Clipped distances: a learned number for each distance up to a maximum."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count, check_positive
from .._given import check_integers
from .._spread import look_up
from ._abstract import AbstractRelativeBias


class ClippedBias(AbstractRelativeBias):
    r"""Clipped relative positions (AlphaFold's relpos), Jumper et al. 2021.

    It adds a learned number for each head and each distance, and clips the distance:

    $$b_h(\delta) = W_{h,\; k + \min(\max(-\delta, -k), k)}$$

    for the distance $\delta = p_k - p_q$, a table $W$ (`weight`) and $k$ =
    `max_distance`. Each near distance has its own row, and all far distances of one
    direction share a row. So the bias is defined at any length. It is finer than
    [`eqx_posemb.T5Bias`][] up to $k$, and constant beyond. To separate the chains of a
    protein, put a gap of more than $k$ positions between chains.

    AlphaFold adds a row to the features of a pair, and each layer projects its bias
    from these features. This class composes both steps. [`eqx_posemb.Shaw`][]
    multiplies the same rows with the query.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.ClippedBias(heads=8, max_distance=32, key=jax.random.key(0))
        far = bias(jnp.array([0]), jnp.array([32, 33, 500]))[:, 0]
        assert (far == far[:, :1]).all()
        ```

    ??? cite "Reference"

        [Highly accurate protein structure prediction with
        AlphaFold](https://doi.org/10.1038/s41586-021-03819-2), Supplementary Algorithm
        4; clipping as in [Self-Attention with Relative Position
        Representations](https://arxiv.org/abs/1803.02155), Section 3.2.

        ```bibtex
        @article{jumper2021highly,
            author={Jumper, John and Evans, Richard and Pritzel, Alexander and others},
            title={Highly accurate protein structure prediction with {AlphaFold}},
            journal={Nature},
            volume={596},
            year={2021},
        }
        ```
    """

    # The middle row is distance zero, and later rows are keys further in the past.
    weight: Float[Array, "rows heads"]

    def __init__(
        self,
        heads: int,
        *,
        max_distance: int = 32,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `max_distance`: All distances of at least this many positions share a row.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `heads` or `max_distance` is less than one, or
        `std` is not positive.
        """
        check_count("heads", heads, 1)
        check_count("max_distance", max_distance, 1)
        check_positive("std", std)
        self.weight = std * jr.normal(key, (2 * max_distance + 1, heads))

    @property
    def max_distance(self) -> int:
        """All distances of at least this many positions share a row."""
        return self.weight.shape[0] // 2

    def along(self, delta: Int[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query; integers.

        **Returns:**

        The bias of each distance, in the dtype of `weight`.

        **Raises:** a `ValueError` if distances are not integers.
        """
        positions = "q_positions` and `k_positions"
        check_integers(positions, delta, "to look distances up in a table")
        far = self.max_distance
        rows = far + jnp.clip(-delta, -far, far)
        return look_up(self.weight.T[:, None], rows[None])[:, 0]
