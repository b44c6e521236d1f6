"""Decomposed relative positions: one vector for each distance along each axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_at_least, check_count, check_shape
from .._given import check_both, check_grid
from .._low_rank import Factors
from .._phase import as_float
from .._positions import distance
from .._spread import look_up
from .._state_dicts import array
from .._symbolic import error_if
from ._abstract import AbstractScore
from ._relative import within


class Decomposed(AbstractScore):
    r"""Decomposed relative position embedding (MViTv2, SAM), Li et al. 2022.

    It adds the product of the query with a learned vector for the distance along each
    axis:

    $$s_{ij} = \sum_a q_i \cdot R^a_{p_{ia} - p_{ja} + n_a - 1}$$

    for a grid of $n_a$ cells along its axis $a$ (`shape`). The table $R^a$ (`tables`)
    of each axis has one row for each distance, and all heads share it. SAM, ViTDet and
    MViTv2 use it. A table per axis needs far fewer vectors than a table of all
    differences, and the query weights the axes.

    The query is *not* divided by $\sqrt{D}$ here, as in the released code of SAM and
    MViTv2.

    Where keys are pooled, as in MViT, a key has the position of its last cell, as in
    the released code. Distances beyond the grid have no vector, and raise an error.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.Decomposed((4, 6), head_dim=64, key=jax.random.key(0))
        q = k = jnp.ones((8, 24, 64))
        p = pe.positions.grid_positions((4, 6))
        assert score(q, k, p, p).shape == (8, 24, 24)
        ```

    ??? cite "Reference"

        [MViTv2: Improved Multiscale Vision Transformers for Classification and
        Detection](https://arxiv.org/abs/2112.01526), Section 4.1; the scale follows the
        released code.

        ```bibtex
        @inproceedings{li2022mvitv2,
            author={Li, Yanghao and Wu, Chao-Yuan and Fan, Haoqi and Mangalam,
                    Karttikeya and Xiong, Bo and Malik, Jitendra and Feichtenhofer,
                    Christoph},
            title={{MViTv2}: Improved Multiscale Vision Transformers for Classification
                   and Detection},
            booktitle={Conference on Computer Vision and Pattern Recognition},
            year={2022},
        }
        ```
    """

    traits = ("bounded",)

    # For `n` cells along an axis, row `n - 1` is the distance zero.
    tables: tuple[Float[Array, "_ head_dim"], ...]

    def __init__(
        self,
        shape: Sequence[int],
        head_dim: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `shape`: The size of the grid along each axis: height and width, or time
            before them.
        - `head_dim`: The number of channels of a head.
        - `std`: The standard deviation of the initial weights. SAM starts from zero.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `shape` is empty, a size of it or `head_dim` not
        positive, or `std` negative.
        """
        shape = check_shape("shape", shape)
        check_count("head_dim", head_dim, 1)
        check_at_least("std", std, 0)
        self.tables = tuple(
            std * jr.normal(each, (2 * size - 1, head_dim))
            for size, each in zip(shape, jr.split(key, len(shape)), strict=True)
        )

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        shape: tuple[int, int] | None = None,
    ) -> "Decomposed":
        """Builds a [`eqx_posemb.Decomposed`][] with the weights of a checkpoint.

        These names must be there, after `prefix`:

        - `rel_pos_h` and `rel_pos_w`, [2 * size - 1, head_dim]: SAM, ViTDet and MViTv2,
            by their authors and in transformers (`vision_encoder.layers.0.attn.`).

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"rel_pos_h": np.ones((27, 64)), "rel_pos_w": np.ones((27, 64))}
            score = pe.Decomposed.from_state_dict(state)
            assert score.shape == (14, 14)
            score = pe.Decomposed.from_state_dict(state, shape=(20, 14))
            assert score.shape == (20, 14)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the names.
        - `shape`: the height and width of the grid in use, if it differs from the
            checkpoint. The tables are then resized linearly, as in these models.

        **Returns:** the score, in JAX's default float dtype.

        **Raises:** a `ValueError` if a name is missing.
        """
        tables = [array(state, prefix + name) for name in ("rel_pos_h", "rel_pos_w")]
        if shape is None:
            height, width = ((table.shape[0] + 1) // 2 for table in tables)
            shape = (height, width)
        made = cls(shape, tables[0].shape[1], std=0, key=jr.key(0))
        resized = [
            _resized(table, 2 * size - 1)
            for table, size in zip(tables, shape, strict=True)
        ]
        return eqx.tree_at(lambda score: score.tables, made, tuple(resized))

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of the grid along each axis."""
        return tuple((table.shape[0] + 1) // 2 for table in self.tables)

    @jax.named_scope("eqx_posemb.Decomposed")
    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Int[Array, "q axes"],
        k_positions: Int[Array, "k axes"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries.
        - `k`: the keys; not read.
        - `q_positions`: the cells of the queries, integers.
        - `k_positions`: the cells of the keys, integers.

        **Returns:**

        What to add to the logits, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions are not integers or have another number
        of axes than the grid. An error at run time if two positions are too far apart
        along an axis for the grid.
        """
        del k
        q = self._within(q, q_positions, k_positions)
        total = jnp.zeros((*q.shape[:2], k_positions.shape[0]), jnp.result_type(float))
        for axis in range(len(self.shape)):
            at_k = k_positions[:, axis]
            total += self._along(axis, q, q_positions[:, axis], at_k)
        return total

    def low_rank(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Int[Array, "q axes"],
        k_positions: Int[Array, "k axes"],
    ) -> Factors:
        """The score as products. For each axis, the query has its product with the
        vector of each cell, and the key marks its own cell. A grid of 14 by 14 cells
        needs 28 channels, and has 196 by 196 pairs.

        !!! Example

            ```python
            import jax
            import jax.numpy as jnp
            import eqx_posemb as pe

            score = pe.Decomposed((4, 6), head_dim=64, key=jax.random.key(0))
            q = k = jnp.ones((8, 24, 64))
            p = pe.positions.grid_positions((4, 6))
            of_q, of_k = score.low_rank(q, k, p, p)
            assert of_q.shape == (8, 24, 4 + 6)
            products = of_q @ of_k.astype(float).swapaxes(1, 2)
            assert jnp.allclose(products, score(q, k, p, p), atol=1e-5)
            ```

        **Arguments:**

        - `q`, `k`, `q_positions`, `k_positions`: as in `__call__`.

        **Returns:**

        Channels of queries `[heads, q, height + width]` and of keys, True in the cell's
        row and column, `[1, k, height + width]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** as `__call__`; and an error at run time if the keys are spread over
        more cells than the grid has along an axis.
        """
        del k
        q = self._within(q, q_positions, k_positions)
        if k_positions.shape[0] == 0:
            start = jnp.zeros(len(self.shape), k_positions.dtype)
        else:
            # Keys may be one window of a larger grid, so cells count from the first
            # key.
            start = k_positions.min(axis=0)
        cells = k_positions - start[None]
        q = error_if(
            q,
            jnp.any(cells >= jnp.array(self.shape, cells.dtype)[None]),
            "`k_positions` must be cells of one grid of the `shape` of this "
            f"`Decomposed`, {self.shape}, to be channels. Use `attend`, which takes "
            "any that are near enough to the queries.",
        )
        of_q, of_k = [], []
        for axis, size in enumerate(self.shape):
            cell = jnp.arange(size, dtype=cells.dtype)
            at_k = start[axis] + cell
            of_q.append(self._along(axis, q, q_positions[:, axis], at_k))
            of_k.append(cells[:, axis, None] == cell[None])
        return jnp.concatenate(of_q, axis=-1), jnp.concatenate(of_k, axis=-1)[None]

    def _within(self, q, q_positions, k_positions):
        check_both(check_grid, q_positions, k_positions, len(self.shape))
        most = tuple(size - 1 for size in self.shape)
        return within(
            q,
            q_positions,
            k_positions,
            tuple(-each for each in most),
            most,
            f"`q_positions` and `k_positions` must be at most {most} apart along the "
            "axes, to have vectors in the tables of this `Decomposed`. Build it with a "
            "larger `shape`.",
        )

    def _along(self, axis, q, q_positions, k_positions):
        """The products of each query with the vectors of its distances along an
        axis."""
        table = as_float(self.tables[axis])
        # An axis has far fewer distances than a grid has pairs, so products with the
        # table come before the lookup.
        profile = jnp.einsum("hqd,rd->hqr", as_float(q), table)
        behind = -distance(q_positions, k_positions)
        return look_up(profile, behind + self.shape[axis] - 1)


def _resized(table, rows):
    """The table interpolated to `rows` rows between the centers of its rows."""
    old = table.shape[0]
    where = (np.arange(rows) + 0.5) * (old / rows) - 0.5
    # Edges repeat, as in the linear mode of `torch.nn.functional.interpolate`.
    where = np.clip(where, 0, old - 1)
    low = np.minimum(where.astype(np.int32), max(old - 2, 0))
    share = jnp.asarray(where - low, table.dtype)[:, None]
    high = np.minimum(low + 1, old - 1)
    return table[low] * (1 - share) + table[high] * share
