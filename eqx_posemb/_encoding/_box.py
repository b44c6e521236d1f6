"""Learned vectors of the place and the size of a box on a page."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count, check_positive
from .._given import check_grid, check_integers, in_common
from .._sharding import rows_of
from .._symbolic import error_if
from ._abstract import AbstractEncoding


class LearnedBox(AbstractEncoding):
    r"""2-D position embedding of LayoutLM, Xu et al. 2020.

    It adds learned vectors of the edges, the height and the width of a token's box:

    $$e(x_0, y_0, x_1, y_1) = X_{x_0} + Y_{y_0} + X_{x_1} + Y_{y_1}
      + H_{y_1 - y_0} + W_{x_1 - x_0}$$

    for the left, upper, right and lower edge of a word and four tables $X, Y, H, W$.
    Edges are in thousandths of the page. LayoutLM sums the six vectors. LayoutLMv2 and
    v3 concatenate them, in this order. Positions are the boxes. The reading order needs
    another encoding with its own positions.

    An edge beyond the table, or a box of negative size, raises an error. In
    transformers, v2 and v3 clip the size to the table, and v1 wraps negative sizes
    around.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.LearnedBox(64, key=jax.random.key(0))
        boxes = jnp.array([[50, 40, 180, 60], [190, 40, 260, 60]])
        assert encoding(boxes).shape == (2, 64)
        ```

    ??? cite "Reference"

        [LayoutLM: Pre-training of Text and Layout for Document Image
        Understanding](https://arxiv.org/abs/1912.13318), Section 2.2; height and width
        are the released code's.

        ```bibtex
        @inproceedings{xu2020layoutlm,
            author={Xu, Yiheng and Li, Minghao and Cui, Lei and Huang, Shaohan and Wei,
                    Furu and Zhou, Ming},
            title={{LayoutLM}: Pre-training of Text and Layout for Document Image
                   Understanding},
            booktitle={Conference on Knowledge Discovery and Data Mining},
            year={2020},
        }
        ```
    """

    # Left and right edges share a table, and upper and lower edges share another.
    x: Float[Array, "size edge"]
    y: Float[Array, "size edge"]
    height: Float[Array, "size extent"]
    width: Float[Array, "size extent"]
    summed: bool = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        size: int = 1024,
        edge_dim: int | None = None,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a token.
        - `size`: How many coordinates a page has, from 0 on.
        - `edge_dim`: The number of channels of each of the four edges, which are
            concatenated. Height and width share the remaining channels. By default each
            has all channels, and the vectors are summed. LayoutLMv2 and v3 have `dim //
            6`.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `dim`, `size` or `std` is not positive, or if
        `edge_dim` does not leave equal channels for the height and the width.
        """
        check_count("dim", dim, 1)
        check_count("size", size, 1)
        check_positive("std", std)
        edge, extent = dim, dim
        if edge_dim is not None:
            check_count("edge_dim", edge_dim, 1)
            edge, extent = edge_dim, (dim - 4 * edge_dim) // 2
            if extent < 1 or 4 * edge + 2 * extent != dim:
                raise ValueError(
                    "`edge_dim` must be positive, and four of it leave an even number "
                    f"of the {dim} channels, at least 2, but got {edge_dim}."
                )
        keys = jr.split(key, 4)
        self.x = std * jr.normal(keys[0], (size, edge))
        self.y = std * jr.normal(keys[1], (size, edge))
        self.height = std * jr.normal(keys[2], (size, extent))
        self.width = std * jr.normal(keys[3], (size, extent))
        self.summed = edge_dim is None

    @jax.named_scope("eqx_posemb.LearnedBox")
    def __call__(self, positions: Int[Array, "seq 4"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the left, upper, right and lower edge of each token's box,
            integers.

        **Returns:**

        What to add to the tokens, in the dtype of the tables.

        **Raises:** a `ValueError` if positions are not four integers for each token. An
        error at run time if a position, a height or a width has no row.
        """
        check_grid("positions", positions, 4)
        check_integers("positions", positions, "to look rows up with")
        # The difference of unsigned edges would wrap for a box of negative size.
        (positions,) = in_common(positions)
        extents = positions[:, 2:] - positions[:, :2]
        size = self.x.shape[0]
        used = jnp.concatenate([positions, extents], axis=1)
        tables = self.x, self.y, self.x, self.y, self.width, self.height
        parts = [rows_of(table, used[:, i]) for i, table in enumerate(tables)]
        # Extents are (x, y), and the result is the height and the width.
        parts[4:] = parts[5], parts[4]
        joined = sum(parts[1:], parts[0]) if self.summed else jnp.concatenate(parts, -1)
        return error_if(
            joined,
            (used < 0) | (used >= size),
            "`positions` must be the left, upper, right and lower edge of boxes on a "
            f"page of {size} by {size}, the first two not beyond the others. Scale "
            "them, or build this `LearnedBox` with a larger `size`.",
        )
