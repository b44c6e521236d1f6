"""A learned vector for each cell of a grid, added to tokens."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count, check_positive, check_shape, require
from .._given import check_grid, check_integers, in_common
from .._sharding import rows_of
from .._state_dicts import array, filled, only, square
from .._symbolic import error_if
from ._abstract import AbstractEncoding
from ._resize import Method, Padding, resize


class LearnedGrid(AbstractEncoding):
    r"""Learned position embedding of patches (ViT), Dosovitskiy et al. 2021.

    It adds a learned vector for each cell of a grid:

    $$e(y, x) = W_{yx}, \qquad e(-1, i) = P_i$$

    for the row $y$ and the column $x$ of a patch and the table $W$ (`weight`). The
    vectors $P$ (`prefix`) are for tokens outside of the grid, such as [CLS]. Such
    tokens have the row −1, as [`eqx_posemb.positions.prefixed`][] sets it. ViT, DeiT,
    CLIP and DINO use it. A patch beyond the grid has no vector, and raises an error.

    `resized` resizes the table for images of another size, and keeps the prefix. Not to
    be confused with [`eqx_posemb.AxialLearned`][], which has a vector for each row and
    each column instead of for each cell.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.LearnedGrid((14, 14), dim=64, prefix=1, key=jax.random.key(0))
        larger = encoding.resized((16, 20))
        positions = pe.positions.prefixed(pe.positions.grid_positions((16, 20)))
        x = jnp.ones((1 + 16 * 20, 64)) + larger(positions)
        ```

    ??? cite "Reference"

        [An Image is Worth 16x16 Words: Transformers for Image Recognition at
        Scale](https://arxiv.org/abs/2010.11929), Section 3.

        ```bibtex
        @inproceedings{dosovitskiy2021image,
            author={Dosovitskiy, Alexey and Beyer, Lucas and Kolesnikov, Alexander and
                    Weissenborn, Dirk and Zhai, Xiaohua and Unterthiner, Thomas and
                    Dehghani, Mostafa and Minderer, Matthias and Heigold, Georg and
                    Gelly, Sylvain and Uszkoreit, Jakob and Houlsby, Neil},
            title={An Image is Worth 16x16 Words: Transformers for Image Recognition at
                   Scale},
            booktitle={International Conference on Learning Representations},
            year={2021},
        }
        ```
    """

    traits = ("bounded",)

    weight: Float[Array, "*shape dim"]
    # The prefix is a field of its own, since resizing changes the grid alone.
    prefix: Float[Array, "prefix dim"] | None

    def __init__(
        self,
        shape: Sequence[int],
        dim: int,
        *,
        prefix: int = 0,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `shape`: The size of the grid along each axis: height and width.
        - `dim`: The number of channels of a token.
        - `prefix`: The number of tokens outside of the grid, which have their own
            vectors: 1 for ViT's [CLS], 2 with DeiT's distillation token. The registers
            of DINOv2 have no vectors, so insert them after the encoding.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size, `dim` or `std` is not positive, or if
        `prefix` is negative.
        """
        shape = check_shape("shape", shape)
        check_count("dim", dim, 1)
        check_positive("std", std)
        check_count("prefix", prefix, 0)
        grid_key, prefix_key = jr.split(key)
        self.weight = std * jr.normal(grid_key, (*shape, dim))
        self.prefix = std * jr.normal(prefix_key, (prefix, dim)) if prefix else None

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        tokens: int = 1,
        shape: Sequence[int] | None = None,
    ) -> "LearnedGrid":
        """Builds a [`eqx_posemb.LearnedGrid`][] with the weights of a checkpoint.

        One of these names must be there, after `prefix`, with shape
        [1, tokens + cells, dim] or [tokens + cells, dim]:

        - `position_embeddings`: ViT, DeiT, DINOv2 in transformers (`embeddings.`).
        - `pos_embed`: timm, and the original DINO, DINOv2 and MAE.
        - `position_embedding.weight`: the images of CLIP (`vision_model.embeddings.`),
            and of SigLIP, with `tokens=0`.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"pos_embed": np.ones((1, 197, 64))}
            encoding = pe.LearnedGrid.from_state_dict(state)
            assert encoding.shape == (14, 14)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the name.
        - `tokens`: the number of rows before the grid. It is 1 for [CLS], and 2 with
            DeiT's distillation token.
        - `shape`: the height and the width of the grid; by default it is square.

        **Returns:** the encoding, in JAX's default float dtype.

        **Raises:** a `ValueError` if there is none of the names or more than one, or if
        the rows do not fill the grid.
        """
        name = only(
            state,
            prefix,
            "position_embeddings",
            "pos_embed",
            "position_embedding.weight",
        )
        rows = array(state, name)
        # ViT and timm have a batch axis of one, and CLIP has none.
        rows = rows.reshape(-1, rows.shape[-1])
        cells = rows.shape[0] - tokens
        shape = square(name, cells) if shape is None else shape
        made = cls(shape, rows.shape[1], prefix=tokens, key=jr.key(0))
        rule = f"have {cells} cells, one for each row of `{name}`"
        require(math.prod(made.shape) == cells, "shape", rule, made.shape)
        weight = rows[tokens:].reshape(made.weight.shape)
        made = filled(made, weight=weight)
        if not tokens:
            return made
        return filled(made, prefix=rows[:tokens])

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of the grid along each axis."""
        return self.weight.shape[:-1]

    def resized(
        self,
        shape: Sequence[int],
        *,
        method: Method = "bicubic",
        antialias: bool = False,
        offset: float = 0.0,
        align_corners: bool = False,
        padding: Padding = "border",
    ) -> "LearnedGrid":
        """The same encoding on a finer or coarser grid, its prefix unchanged.

        It equals `torch.nn.functional.interpolate`. The bicubic
        kernel of torch has a = −0.75, and −0.5 with `antialias`. `jax.image.resize`
        always has −0.5. The table is resized in at least float32.

        | models | settings |
        |---|---|
        | ViT, DeiT, DINOv2, BEiT in transformers | the defaults |
        | DINO and DINOv2 as released | `offset=0.1` |
        | DINOv2 with registers, timm | `antialias=True` |
        | SigLIP 2 (NaFlex) | `method="bilinear", antialias=True` |
        | Qwen3-VL, Qwen3.5, ViLT | `method="bilinear", align_corners=True` |
        | Muse Spark, Muse Glimmer | `method="bilinear", padding="zeros"` |

        **Arguments:**

        - `shape`: the new size along each axis.
        - `method`: `"bicubic"` or `"bilinear"`.
        - `antialias`: whether to widen the kernel where the grid gets coarser.
        - `offset`: a number that the released DINO adds to the new size, to protect
            from rounding. torch then gets the factor `(size + offset) / old size`,
            which moves the samples slightly towards the first corner.
        - `align_corners`: whether the first and last cells of both grids have the same
            centers. By default the edges of both grids agree.
        - `padding`: the cells beyond the edge. `"border"` repeats the cell at the edge,
            and `"zeros"` fades to zero.

        **Returns:** a `LearnedGrid`.

        **Raises:** a `ValueError` if `shape` does not fit, or `method` or `padding` is
        unknown. The same for `align_corners` or padding of zeros with `antialias` or
        `offset`.
        """
        shape = check_shape("shape", shape)
        rule = f"have a size for each of the {len(self.shape)} axes of the grid"
        require(len(shape) == len(self.shape), "shape", rule, shape)
        weight = resize(
            self.weight,
            shape,
            method=method,
            antialias=antialias,
            offset=offset,
            align_corners=align_corners,
            padding=padding,
        )
        return eqx.tree_at(lambda module: module.weight, self, weight)

    @jax.named_scope("eqx_posemb.LearnedGrid")
    def __call__(self, positions: Int[Array, "seq axes"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the coordinates of the tokens, integers; −1, …, −1, `i` for
            token `i` of the prefix.

        **Returns:**

        What to add to the tokens, in the dtype of `weight`.

        **Raises:** a `ValueError` if positions are not integers or have another number
        of axes. An error at run time if a position is beyond the grid.
        """
        shape = self.shape
        check_grid("positions", positions, len(shape))
        check_integers("positions", positions, "to look rows up with")
        (positions,) = in_common(positions)
        tokens = 0 if self.prefix is None else self.prefix.shape[0]
        table = self.weight.reshape(math.prod(shape), -1)
        if self.prefix is not None:
            # One table gives both kinds of tokens their vectors in one lookup.
            table = jnp.concatenate([self.prefix, table])
        last = positions[:, -1]
        apart = (positions[:, :-1] == -1).all(axis=1) & (0 <= last) & (last < tokens)
        size = jnp.array(shape, positions.dtype)[None]
        on_grid = ((0 <= positions) & (positions < size)).all(axis=1)
        # Cells count row by row, as in checkpoints of vision transformers.
        cell = jnp.zeros_like(last)
        for axis, along in enumerate(shape):
            cell = cell * along + positions[:, axis]
        rows = jnp.where(apart, positions[:, -1], tokens + cell)
        return error_if(
            rows_of(table, rows),
            ~(apart | on_grid),
            f"`positions` must be on the grid of this `LearnedGrid`, {shape}, or one "
            f"of its {tokens} prefix tokens. Resize it by `resized`, or choose an "
            "encoding without a table.",
        )
