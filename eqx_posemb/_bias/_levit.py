"""A learned number for how many rows and columns two cells are apart."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_at_least, check_count
from .._encoding import Method, resize
from .._phase import as_float
from .._spread import Window
from ._swin import check_window
from ._window import AbstractWindowBias


class LeViTBias(AbstractWindowBias):
    r"""Adds a learned number for each head and distance in rows and in columns.

    $$b_h(\Delta y, \Delta x) = T_{|\Delta y|,\; |\Delta x|,\; h}$$

    [`eqx_posemb.SwinBias`][] that does not tell left from right or up from down, as
    flipped images do not: a quarter of the parameters. LeViT, TinyViT, EfficientFormer
    and MobileSAM have it over the whole image.

    Where LeViT halves the resolution, fewer queries look at all keys: they are at twice
    their row and column, `2 * grid_positions(...)`.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.LeViTBias((14, 14), heads=4, key=jax.random.key(0))
        queries = 2 * pe.grid_positions((7, 7))
        assert bias(queries, pe.grid_positions((14, 14))).shape == (4, 49, 196)
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
        - `key`: A `jax.random` key for them.

        **Raises:** a `ValueError` if `window` is not two positive sizes, `heads` is
        less than one, or `std` is negative.
        """
        height, width = check_window("window", window)
        check_count("heads", heads, 1)
        check_at_least("std", std, 0)
        self.weight = std * jr.normal(key, (height, width, heads))

    @property
    def window(self) -> Window:
        """The height and the width of the image, in cells."""
        return self.weight.shape[0], self.weight.shape[1]

    def differences(self) -> Float[Array, "heads rows columns"]:
        """What to add for each difference, key minus query."""
        weight = jnp.moveaxis(as_float(self.weight), -1, 0)
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
