"""A table of differences between patches, and three numbers for a class token."""

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._phase import as_float
from .._sharding import sharded_as_pairs
from .._spread import (
    are_the_window,
    either,
    is_window_long,
    of_differences,
    of_window,
    Window,
)
from .._state_dicts import array, filled, only
from .._symbolic import error_if
from ._abstract import AbstractBias
from ._resize import Method, resized_table
from ._window import cells, drawn_table, fitting_window, within


class BEiTBias(AbstractBias):
    r"""Relative position bias of BEiT, Bao et al. 2022.

    It adds a learned number for each difference between patches, and three numbers for
    pairs with [CLS]:

    $$b_h(q, k) = \begin{cases} C_{2h} & q \text{ and } k \text{ are [CLS]} \\
      C_{0h} & q \text{ is [CLS]} \\ C_{1h} & k \text{ is [CLS]} \\
      T_{\Delta y + H - 1,\; \Delta x + W - 1,\; h} & \text{else} \end{cases}$$

    for the differences $\Delta y$ and $\Delta x$, query minus key, in rows and columns.
    Between patches it equals [`eqx_posemb.SwinBias`][] with a window as large as the
    image. The class token has no place in the image, and its position is (−1, 0), as
    [`eqx_posemb.positions.prefixed`][] sets it.

    `resized` resizes the table for images of another size. It follows the original
    code. transformers swaps height and width there, and is wrong for images that are
    not square.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        bias = pe.BEiTBias((14, 14), heads=12, key=jax.random.key(0))
        positions = pe.positions.prefixed(pe.positions.grid_positions((14, 14)))
        assert bias(positions, positions).shape == (12, 197, 197)
        ```

    ??? cite "Reference"

        [BEiT: BERT Pre-Training of Image
        Transformers](https://arxiv.org/abs/2106.08254), Appendix; [CLS] as in the
        released code.

        ```bibtex
        @inproceedings{bao2022beit,
            author={Bao, Hangbo and Dong, Li and Piao, Songhao and Wei, Furu},
            title={{BEiT}: {BERT} Pre-Training of Image Transformers},
            booktitle={International Conference on Learning Representations},
            year={2022},
        }
        ```
    """

    traits = ("absolute", "bounded")

    weight: Float[Array, "rows columns heads"]
    # The rows are for [CLS] as the query, [CLS] as the key, and [CLS] as both.
    cls: Float[Array, "3 heads"]

    def __init__(
        self,
        window: Sequence[int],
        heads: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `window`: The height and the width of the image, in patches.
        - `heads`: The number of heads.
        - `std`: The standard deviation of the initial weights; BEiT has 0.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `window` is not two positive sizes, `heads` is
        less than one, or `std` is negative.
        """
        table_key, cls_key = jr.split(key)
        self.weight = drawn_table(window, heads, std, table_key)
        self.cls = std * jr.normal(cls_key, (3, heads))

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        *,
        prefix: str = "",
        window: Sequence[int] | None = None,
    ) -> "BEiTBias":
        """Builds a [`eqx_posemb.BEiTBias`][] with the weights of a checkpoint.

        This name must be there, after `prefix` (`blocks.0.attn.` or `rel_pos_bias.` in
        the original and in timm, `encoder.relative_position_bias.` in transformers):

        - `relative_position_bias_table`, [(2 height - 1) (2 width - 1) + 3, heads]; the
            last three rows belong to [CLS].

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {"attn.relative_position_bias_table": np.ones((27 * 27 + 3, 12))}
            bias = pe.BEiTBias.from_state_dict(state, prefix="attn.")
            assert bias.window == (14, 14)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the name.
        - `window`: the height and the width of the image in patches; by default it is
            square.

        **Returns:** the bias, in JAX's default float dtype.

        **Raises:** a `ValueError` if the name is missing, or its rows do not fit
        `window`.
        """
        name = only(state, prefix, "relative_position_bias_table")
        table = array(state, name)
        window = fitting_window(name, table.shape[0] - 3, window)
        made = cls(window, table.shape[1], key=jr.key(0))
        weight = table[:-3].reshape(made.weight.shape)
        return filled(made, weight=weight, cls=table[-3:])

    @property
    def window(self) -> Window:
        """The height and the width of the image, in patches."""
        rows, columns, _ = self.weight.shape
        return (rows + 1) // 2, (columns + 1) // 2

    def resized(
        self,
        window: Sequence[int],
        *,
        method: Method = "bilinear",
        antialias: bool = False,
    ) -> "BEiTBias":
        r"""The same bias for an image of another size, with the same numbers for [CLS].

        The way of BEiT's authors is `"geometric"`. It moves the difference $i > 0$ of
        the old table to the place

        $$x_i = 1 + r + \dots + r^{i - 1},$$

        with the ratio $r$ between 1.01 and 1.5 that moves the last difference to the
        last of the new table. New numbers are linear between these places. Near patches
        so keep their numbers. timm does the same (`resize_rel_pos_bias_table`), and
        BEiT's authors interpolate by cubic splines.

        **Arguments:**

        - `window`: the new height and width, in patches.
        - `method`: `"bilinear"` as transformers, `"bicubic"` as timm's simple way, or
            `"geometric"`.
        - `antialias`: as for [`eqx_posemb.LearnedGrid.resized`][].

        **Returns:** a `BEiTBias`.

        **Raises:** a `ValueError` if `window` is not two positive sizes, if `method` is
        unknown, or if `"geometric"` has `antialias`.
        """
        weight = resized_table(self.weight, window, method, antialias)
        return eqx.tree_at(lambda bias: bias.weight, self, weight)

    @sharded_as_pairs
    @jax.named_scope("eqx_posemb.BEiTBias")
    def __call__(
        self, q_positions: Int[Array, "q 2"], k_positions: Int[Array, "k 2"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: row and column of each query, as integers. [CLS] has (−1, 0).
        - `k_positions`: row and column of each key.

        **Returns:**

        The bias of each pair.

        **Raises:** a `ValueError` if positions are not two integers for each token. An
        error at run time if two patches are further apart than the image allows, or if
        a negative row is not [CLS].
        """
        q, k = cells(q_positions, k_positions)
        q_apart, k_apart = q[:, 0] < 0, k[:, 0] < 0
        cls = jnp.array([[-1, 0]], q.dtype)
        nowhere = lambda p, apart: (apart[:, None] & (p != cls)).any()
        # Checkpoints index the table by query minus key, and distances here are key
        # minus query.
        differences = jnp.moveaxis(as_float(self.weight)[::-1, ::-1], -1, 0)
        differences, of_cls = error_if(
            (differences, as_float(self.cls)),
            nowhere(q, q_apart) | nowhere(k, k_apart),
            "`q_positions` and `k_positions` must be patches, whose rows are not "
            "negative, or (-1, 0) for [CLS].",
            q,
            k,
        )
        differences = within(
            differences, self.window, q, k, ~q_apart, ~k_apart, "BEiTBias"
        )
        from_cls, to_cls, itself = of_cls[:, :, None, None]

        def of_image():
            patches: Array = jnp.asarray(of_window(differences, self.window))
            count = patches.shape[1]
            top = jnp.broadcast_to(from_cls, (from_cls.shape[0], 1, count))
            left = jnp.broadcast_to(to_cls, (to_cls.shape[0], count, 1))
            above = jnp.concatenate([itself, top], axis=2)
            below = jnp.concatenate([left, patches], axis=2)
            return jnp.concatenate([above, below], axis=1)

        def of_pairs():
            patches = of_differences(differences, self.window, q, k)
            queries, keys = q_apart[None, :, None], k_apart[None, None]
            bias = jnp.where(keys, to_cls, patches)
            return jnp.where(queries, jnp.where(keys, itself, from_cls), bias)

        # Only one [CLS] before a whole image has the form without lookups. Shapes tell
        # at trace time where this is impossible.
        if q.shape[0] != k.shape[0] or not is_window_long(self.window, q[1:]):
            return of_pairs()
        whole = are_the_window(self.window, q[1:], k[1:])
        alone = q_apart[0] & k_apart[0] & ~(q_apart[1:].any() | k_apart[1:].any())
        if isinstance(whole, bool):
            return either(whole and bool(alone), of_image, of_pairs)
        return either(whole & alone, of_image, of_pairs)
