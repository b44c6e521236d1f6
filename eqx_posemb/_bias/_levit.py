"""LeViT: a learned number for each absolute difference of rows and columns."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._encoding import Method, resize
from .._phase import as_float
from .._spread import Window
from .._state_dicts import array, filled, only
from ._window import AbstractWindowBias, check_window, drawn_table, fitting_window


class LeViTBias(AbstractWindowBias):
    r"""Attention bias of LeViT, Graham et al. 2021.

    It adds a learned number for each absolute distance in rows and columns:

    $$b_h(\Delta y, \Delta x) = T_{|\Delta y|,\; |\Delta x|,\; h}$$

    for the row and column distances and a table $T$ (`weight`). Unlike
    [`eqx_posemb.SwinBias`][] it does not distinguish left from right or up from down,
    and needs a quarter of the parameters. LeViT, TinyViT, EfficientFormer and MobileSAM
    use it over the whole image.

    Where LeViT halves the resolution, the positions of queries are doubled: `2 *
    pe.positions.grid_positions(...)`.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.LeViTBias((14, 14), heads=4, key=jax.random.key(0))
        queries = 2 * pe.positions.grid_positions((7, 7))
        assert bias(queries, pe.positions.grid_positions((14, 14))).shape == (
            4,
            49,
            196,
        )
        ```

    ??? cite "Reference"

        [LeViT: a Vision Transformer in ConvNet's Clothing for Faster
        Inference](https://arxiv.org/abs/2104.01136), Section 4.2.

        ```bibtex
        @inproceedings{graham2021levit,
            author={Graham, Benjamin and El-Nouby, Alaaeldin and Touvron, Hugo and
                    Stock, Pierre and Joulin, Armand and J{\'e}gou, Herv{\'e} and
                    Douze, Matthijs},
            title={{LeViT}: a Vision Transformer in {ConvNet}'s Clothing for Faster
                   Inference},
            booktitle={International Conference on Computer Vision},
            year={2021},
        }
        ```
    """

    traits = ("bounded",)

    # Rows and columns are distances without a sign, from zero on.
    weight: Float[Array, "height width heads"]

    def __init__(
        self,
        window: Sequence[int],
        heads: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `window`: The height and the width of the image, in cells.
        - `heads`: The number of heads.
        - `std`: The standard deviation of the initial weights; LeViT has 0.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `window` is not two positive sizes, `heads` is
        less than one, or `std` is negative.
        """
        self.weight = drawn_table(window, heads, std, key, signed=False)

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        window: Sequence[int] | None = None,
    ) -> "LeViTBias":
        """Builds a [`eqx_posemb.LeViTBias`][] with the weights of a checkpoint.

        This name must be there, after `prefix`:

        - `attention_biases`, [heads, height * width]: the original, timm and
            transformers.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"attn.attention_biases": np.ones((4, 196))}
            bias = pe.LeViTBias.from_state_dict(state, prefix="attn.")
            assert bias.window == (14, 14)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the name.
        - `window`: the height and the width of the image in cells; by default it is
            square.

        **Returns:** the bias, in JAX's default float dtype.

        **Raises:** a `ValueError` if the name is missing, or its rows do not fit
        `window`.
        """
        name = only(state, prefix, "attention_biases")
        # Checkpoints have heads first. The table here has heads last, as all tables of
        # windows have.
        table = array(state, name).T
        window = fitting_window(name, table.shape[0], window, signed=False)
        made = cls(window, table.shape[1], key=jr.key(0))
        weight = table.reshape(made.weight.shape)
        return filled(made, weight=weight)

    @property
    def window(self) -> Window:
        """The height and the width of the image, in cells."""
        return self.weight.shape[0], self.weight.shape[1]

    def differences(self) -> Float[Array, "heads rows columns"]:
        """The bias of each difference, key minus query."""
        weight = jnp.moveaxis(as_float(self.weight), -1, 0)
        # Mirrored halves give signed differences, so the base class serves LeViT and
        # Swin alike.
        rows = jnp.concatenate([weight[:, :0:-1], weight], axis=1)
        return jnp.concatenate([rows[:, :, :0:-1], rows], axis=2)

    def resized(
        self,
        window: Sequence[int],
        *,
        method: Method = "bicubic",
        antialias: bool = False,
    ) -> "LeViTBias":
        """The same bias for an image of another size, its table resized.

        **Arguments:**

        - `window`: the new height and width, in cells.
        - `method`, `antialias`: as for [`eqx_posemb.LearnedGrid.resized`][]. TinyViT is
            bicubic, and timm antialiases.

        **Returns:** a `LeViTBias`.

        **Raises:** a `ValueError` if `window` is not two positive sizes, or `method` is
        unknown.
        """
        shape = check_window("window", window)
        weight = resize(self.weight, shape, method=method, antialias=antialias)
        return eqx.tree_at(lambda bias: bias.weight, self, weight)
