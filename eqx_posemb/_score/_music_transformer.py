"""Music Transformer: a learned vector for each distance of the context."""

import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_count, check_positive
from ._relative import within
from ._rows import AbstractTable, Rows


class MusicTransformer(AbstractTable):
    r"""Relative attention of Music Transformer, Huang et al. 2019.

    It adds the product of the query with a learned vector for each distance of the
    context:

    $$s_{ij} = \frac{q_i \cdot E_{L - 1 - (p_i - p_j)}}{\sqrt{D}}
      \quad (p_j \le p_i), \qquad s_{ij} = 0 \quad (p_j > p_i)$$

    for the rows $E$ of a table (`weight`). Each head has one row for each of the $L$
    distances of the context (`length`), from the farthest to the query itself. $D$ is
    the number of channels of a head. Unlike [`eqx_posemb.Shaw`][], it does not clip
    distances. It was designed for music, where exact distances such as a bar matter.

    It has no vectors for future keys, so a causal mask must exclude them. A key that is
    `length` positions back or more raises an error, even if it is masked. tensor2tensor
    uses zero for such keys.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.MusicTransformer(
            heads=8, head_dim=64, length=2048, key=jax.random.key(0)
        )
        q = k = jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        assert score(q, k, p, p).shape == (8, 10, 10)
        ```

    ??? cite "Reference"

        [Music Transformer](https://arxiv.org/abs/1809.04281), Section 3.4.

        ```bibtex
        @inproceedings{huang2019music,
            author={Huang, Cheng-Zhi Anna and Vaswani, Ashish and Uszkoreit, Jakob and
                    Simon, Ian and Hawthorne, Curtis and Shazeer, Noam and Dai, Andrew
                    M. and Hoffman, Matthew D. and Dinculescu, Monica and Eck,
                    Douglas},
            title={Music Transformer: Generating Music with Long-Term Structure},
            booktitle={International Conference on Learning Representations},
            year={2019},
        }
        ```
    """

    traits = ("bounded", "causal")

    # The last row is the distance zero, as in the paper.
    weight: Float[Array, "heads length head_dim"]

    def __init__(
        self,
        heads: int,
        head_dim: int,
        length: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `length`: The number of distances, from 0 on.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size or `std` is not positive.
        """
        check_count("heads", heads, 1)
        check_count("head_dim", head_dim, 1)
        check_count("length", length, 1)
        check_positive("std", std)
        self.weight = std * jr.normal(key, (heads, length, head_dim))

    @property
    def length(self) -> int:
        """The number of distances from 0 on."""
        return self.weight.shape[1]

    def _rows(self, q, q_positions, k_positions, q_state):
        del q_state
        last = self.length - 1
        q = within(
            q,
            q_positions,
            k_positions,
            -last,
            None,
            f"`k_positions` must be at most {last} behind `q_positions`, to have a "
            "vector in the table of this `MusicTransformer`. Build it with a larger "
            "`length`, or choose a score without a table.",
        )
        return Rows(
            q,
            self.weight,
            lambda delta: last + delta,
            # The table has no rows for future keys, and their products are zero.
            inside=lambda delta: delta <= 0,
            scale=q.shape[-1] ** -0.5,
        )
