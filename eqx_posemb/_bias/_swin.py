"""A learned number for each difference between two cells of a window."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._phase import as_float
from .._spread import Window
from .._state_dicts import array, filled, only
from ._resize import Method, resized_table
from ._window import AbstractWindowBias, drawn_table, fitting_window


class SwinBias(AbstractWindowBias):
    r"""Relative position bias of Swin, Liu et al. 2021.

    It adds a learned number for each difference of rows and columns:

    $$b_h(\Delta y, \Delta x) = T_{\Delta y + H - 1,\; \Delta x + W - 1,\; h}$$

    for the differences, query minus key, in rows and columns, and a window of $H \times
    W$ cells (`window`). Swin, MaxViT and CoAtNet use it. Attention stays within
    windows, and a pair beyond the table raises an error. `resized` resizes the table
    for another window. [`eqx_posemb.LogCPB`][] computes the bias of any window.

    The table has the layout of the checkpoints, with two axes. Checkpoints index it by
    `query - key`. `distance` in this library is `key - query`, so `differences`
    reverses the table.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.SwinBias((7, 7), heads=3, key=jax.random.key(0))
        cells = pe.positions.grid_positions((7, 7))
        assert bias(cells, cells).shape == (3, 49, 49)
        ```

    ??? cite "Reference"

        [Swin Transformer: Hierarchical Vision Transformer using Shifted
        Windows](https://arxiv.org/abs/2103.14030), Section 3.2.

        ```bibtex
        @inproceedings{liu2021swin,
            author={Liu, Ze and Lin, Yutong and Cao, Yue and Hu, Han and Wei, Yixuan and
                    Zhang, Zheng and Lin, Stephen and Guo, Baining},
            title={Swin Transformer: Hierarchical Vision Transformer using Shifted
                   Windows},
            booktitle={International Conference on Computer Vision},
            year={2021},
        }
        ```
    """

    traits = ("bounded",)

    weight: Float[Array, "rows columns heads"]

    def __init__(
        self,
        window: Sequence[int],
        heads: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `window`: The height and the width of the window, in cells.
        - `heads`: The number of heads.
        - `std`: The standard deviation of the initial weights; transformers has 0.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `window` is not two positive sizes, `heads` is
        less than one, or `std` is negative.
        """
        self.weight = drawn_table(window, heads, std, key)

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        window: Sequence[int] | None = None,
    ) -> "SwinBias":
        """Builds a [`eqx_posemb.SwinBias`][] with the weights of a checkpoint.

        This name must be there, after `prefix` (`layers.0.blocks.0.attn.` in the
        original and in timm):

        - `relative_position_bias_table`, [(2 height - 1) (2 width - 1), heads].

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"attn.relative_position_bias_table": np.ones((169, 3))}
            bias = pe.SwinBias.from_state_dict(state, prefix="attn.")
            assert bias.window == (7, 7)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the name.
        - `window`: the height and the width of the window; by default it is square.

        **Returns:** the bias, in JAX's default float dtype.

        **Raises:** a `ValueError` if the name is missing, or its rows do not fit
        `window`.
        """
        name = only(state, prefix, "relative_position_bias_table")
        table = array(state, name)
        window = fitting_window(name, table.shape[0], window)
        made = cls(window, table.shape[1], key=jr.key(0))
        weight = table.reshape(made.weight.shape)
        return filled(made, weight=weight)

    @property
    def window(self) -> Window:
        """The height and the width of the window, in cells."""
        rows, columns, _ = self.weight.shape
        return (rows + 1) // 2, (columns + 1) // 2

    def differences(self) -> Float[Array, "heads rows columns"]:
        """The bias of each difference, key minus query."""
        return jnp.moveaxis(as_float(self.weight)[::-1, ::-1], -1, 0)

    def resized(
        self,
        window: Sequence[int],
        *,
        method: Method = "bicubic",
        antialias: bool = False,
    ) -> "SwinBias":
        """The same bias for another window, its table resized as a picture is.

        The default is bicubic, as in Swin and in timm's simple way. `"geometric"` is
        `resize_rel_pos_bias_table` of timm, for a checkpoint of another window.

        **Arguments:**

        - `window`: the new height and width, in cells.
        - `method`: `"bicubic"` or `"bilinear"`, or `"geometric"` as for
            [`eqx_posemb.BEiTBias.resized`][].
        - `antialias`: as for [`eqx_posemb.LearnedGrid.resized`][].

        **Returns:** a `SwinBias`.

        **Raises:** a `ValueError` if `window` is not two positive sizes, if `method` is
        unknown, or if `"geometric"` has `antialias`.
        """
        weight = resized_table(self.weight, window, method, antialias)
        return eqx.tree_at(lambda bias: bias.weight, self, weight)
