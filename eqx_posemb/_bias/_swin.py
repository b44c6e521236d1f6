"""A learned number for each difference between two cells of a window."""

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_at_least, check_count
from .._encoding import Method, resize
from .._phase import as_float
from .._spread import Window
from ._window import AbstractWindowBias


class SwinBias(AbstractWindowBias):
    r"""Adds a learned number for each head and difference of rows and columns.

    $$b_h(\Delta y, \Delta x) = T_{\Delta y + H - 1,\; \Delta x + W - 1,\; h}$$

    for the row and column of the query minus those of the key and a window of
    $H \times W$ cells (`window`): Swin's, MaxViT's and CoAtNet's. Attention is within
    windows, so nothing is further apart than the table is wide; a pair that is raises
    an error. For windows of another size the table is resized: see `resized`; or see
    [`eqx_posemb.LogCPB`][], which computes it for any.

    The table is that of the checkpoints, unflattened. Where theirs is `query - key`,
    `distance` in this library is `key - query`: `differences` turns it around.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.SwinBias((7, 7), heads=3, key=jax.random.key(0))
        cells = pe.grid_positions((7, 7))
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
        - `key`: A `jax.random` key for them.

        **Raises:** a `ValueError` if `window` is not two positive sizes, `heads` is
        less than one, or `std` is negative.
        """
        height, width = check_window("window", window)
        check_count("heads", heads, 1)
        check_at_least("std", std, 0)
        shape = 2 * height - 1, 2 * width - 1, heads
        self.weight = std * jr.normal(key, shape)

    @property
    def window(self) -> Window:
        """The height and the width of the window, in cells."""
        rows, columns, _ = self.weight.shape
        return (rows + 1) // 2, (columns + 1) // 2

    def differences(self) -> Float[Array, "heads rows columns"]:
        """What to add for each difference, key minus query."""
        return jnp.moveaxis(as_float(self.weight)[::-1, ::-1], -1, 0)

    def resized(
        self,
        window: Sequence[int],
        *,
        method: Method = "bicubic",
        antialias: bool = False,
    ) -> "SwinBias":
        """The same bias for another window, its table resized as a picture is.

        Swin's and timm's simple way is bicubic, as by default here; transformers is
        bilinear for BEiT. Compare [`eqx_posemb.LearnedGrid.resized`][].

        **Arguments:**

        - `window`: the new height and width, in cells.
        - `method`, `antialias`: as for `LearnedGrid`.

        **Returns:** a `SwinBias`.

        **Raises:** a `ValueError` if `window` is not two positive sizes, or `method` is
        unknown.
        """
        height, width = check_window("window", window)
        shape = 2 * height - 1, 2 * width - 1
        weight = resize(self.weight, shape, method=method, antialias=antialias)
        return eqx.tree_at(lambda bias: bias.weight, self, weight)


def check_window(name: str, window: Sequence[int]) -> Window:
    """The height and the width, if that is what `window` is."""
    sizes = tuple(window)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(
            f"`{name}` must be a positive height and width, but got {sizes}."
        )
    return sizes
