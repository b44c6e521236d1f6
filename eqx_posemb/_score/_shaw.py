"""Shaw: a learned vector for each distance up to a maximum."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_between, check_count, check_positive
from .._given import Positions
from .._phase import as_float
from .._positions import distance
from .._sharding import compiler_sharded, mesh_axes
from .._state_dicts import array, filled
from ._relative import check_whole
from ._rows import AbstractTable, Rows


class Shaw(AbstractTable):
    r"""Relative position representations, Shaw et al. 2018.

    It adds the product of the query with a learned vector for the clipped distance:

    $$s_{ij} = \frac{q_i \cdot a_{\mathrm{clip}(p_j - p_i,\, -b,\, f) + b}}{\sqrt{D}}$$

    for the rows $a$ of a table (`weight`), which all heads share. Each distance from
    $b$ positions `back` to $f$ `ahead` has a row, and farther distances use the last
    row of their direction. $D$ is the number of channels of a head. It is the first
    relative embedding, and models local order well. Beyond the trained length it stays
    defined, as distances are clipped.

    The paper also adds vectors to the values, and finds that they make no difference.
    [`eqx_posemb.functional.shaw_values`][] computes them. Wav2Vec2-BERT, SeamlessM4T v2
    and SpeechT5 use vectors for the keys alone. The first two have 64 distances back
    and 8 ahead.

    [`eqx_posemb.MusicTransformer`][] differs: its table covers the whole context, and
    each head has its own.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.Shaw(head_dim=64, back=64, ahead=8, key=jax.random.key(0))
        q = k = jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        assert score(q, k, p, p).shape == (8, 10, 10)
        ```

    ??? cite "Reference"

        [Self-Attention with Relative Position
        Representations](https://arxiv.org/abs/1803.02155), Section 3.2.

        ```bibtex
        @inproceedings{shaw2018self,
            author={Shaw, Peter and Uszkoreit, Jakob and Vaswani, Ashish},
            title={Self-Attention with Relative Position Representations},
            booktitle={Conference of the North {A}merican Chapter of the Association for
                       Computational Linguistics},
            year={2018},
        }
        ```
    """

    # Row `back` is the distance zero, and later rows are keys ahead.
    weight: Float[Array, "rows head_dim"]
    back: int = eqx.field(static=True)

    def __init__(
        self,
        head_dim: int,
        *,
        back: int = 16,
        ahead: int = 16,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `head_dim`: The number of channels of a head.
        - `back`: The number of positions back with rows of their own.
        - `ahead`: The number of positions ahead with rows of their own.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `head_dim` or `std` is not positive, or `back` or
        `ahead` negative.
        """
        check_count("head_dim", head_dim, 1)
        check_count("back", back, 0)
        check_count("ahead", ahead, 0)
        check_positive("std", std)
        self.weight = std * jr.normal(key, (back + ahead + 1, head_dim))
        self.back = back

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Any], back: int, *, prefix: str = ""
    ) -> "Shaw":
        """Builds a [`eqx_posemb.Shaw`][] with the weights of a checkpoint.

        This name must be there, after `prefix`:

        - `distance_embedding.weight`, [rows, head_dim]: Wav2Vec2-BERT and SeamlessM4T
            v2 in transformers (`encoder.layers.0.self_attn.`).

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"distance_embedding.weight": np.ones((73, 64))}
            assert pe.Shaw.from_state_dict(state, back=64).ahead == 8
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `back`: as in [`eqx_posemb.Shaw`][] (`left_max_position_embeddings`).
        - `prefix`: what comes before the name.

        **Returns:** the score, in JAX's default float dtype.

        **Raises:** a `ValueError` if the name is missing or `back` not a row of the
        array.
        """
        weight = array(state, f"{prefix}distance_embedding.weight")
        made = cls(
            weight.shape[1], back=back, ahead=weight.shape[0] - back - 1, key=jr.key(0)
        )
        return filled(made, weight=weight)

    @property
    def ahead(self) -> int:
        """The largest distance ahead with a row of its own."""
        return self.weight.shape[0] - self.back - 1

    def _rows(self, q, q_positions, k_positions, q_state):
        del q_positions, k_positions, q_state
        row = lambda delta: jnp.clip(delta, -self.back, self.ahead) + self.back
        return Rows(q, self.weight, row, scale=q.shape[-1] ** -0.5)


def shaw_values(
    weights: Float[Array, "heads q k"],
    table: Float[Array, "rows dim_v"],
    q_positions: Int[Positions, " q"],
    k_positions: Int[Positions, " k"],
    *,
    back: int,
) -> Float[Array, "heads q dim_v"]:
    r"""The values of relative positions, Shaw et al. 2018.

    They are added to the attended values, with a learned vector for each distance:

    $$o_i = \sum_j w_{ij}\, a_{\mathrm{clip}(p_j - p_i,\, -b,\, f) + b}$$

    for the attention weights $w$, after the softmax, and a table $a$ as in
    [`eqx_posemb.Shaw`][]. It needs the attention weights. The weights of each row of
    the table are summed first, so no vector is materialized for each pair.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        embedding = pe.PositionalEmbedding(score=pe.Shaw(64, key=jax.random.key(0)))
        table = 0.02 * jax.random.normal(jax.random.key(1), (33, 64))
        q = k = v = jnp.ones((8, 10, 64))
        p = jnp.arange(10)

        logits = embedding.logits(q, k, p, p)
        weights = jax.nn.softmax(logits)
        out = weights @ v + pe.functional.shaw_values(weights, table, p, p, back=16)
        assert out.shape == (8, 10, 64)
        ```

    **Arguments:**

    - `weights`: the attention weights.
    - `table`: the vectors of distances in ascending order, from `back` positions back.
    - `q_positions`: the positions of the queries, integers.
    - `k_positions`: the positions of the keys, integers.
    - `back`: the row of the distance 0.

    **Returns:** an array to add to the attended values, in JAX's default float dtype. A
    block of keys gives its part of the sum.

    **Raises:** a `ValueError` if positions are not integers, or if `back` is not a row
    of the table.
    """
    check_whole(q_positions, k_positions)
    rows = table.shape[0]
    check_between("back", back, 0, rows - 1, "the last row of `table`")

    def attended(weights, table, q_positions, k_positions):
        delta = distance(q_positions, k_positions)
        row = jnp.clip(delta, -back, rows - back - 1) + back
        query = jnp.arange(row.shape[0])[:, None]
        totals = jnp.zeros((*weights.shape[:2], rows), jnp.result_type(float))
        totals = totals.at[:, query, row].add(as_float(weights))
        return jnp.einsum("hqr,rd->hqd", totals, as_float(table))

    result = *mesh_axes(weights)[:2], *mesh_axes(table)[1:]
    return compiler_sharded(attended, result, weights, table, q_positions, k_positions)
