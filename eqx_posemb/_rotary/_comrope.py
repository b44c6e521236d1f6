"""ComRoPE: learned rotations of blocks of channels that commute."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_choice, check_count, check_positive
from .._given import as_positions, check_grid
from .._phase import as_float
from ._abstract import AbstractRotary
from ._lie import blocks_of, MatrixRotation, rotation_of, skew


class ComRoPE(AbstractRotary):
    r"""Trainable commuting angle matrices (ComRoPE), Yu et al. 2025.

    It rotates blocks of channels by learned matrices, for images and volumes:

    $$R_{h, b}(p) = \exp\Big(\sum_k p_k\, \theta_{k, b}
      \big(G_{h, b} - G_{h, b}^\top\big)\Big)$$

    for the coordinates $p_k$ of a position, a learned matrix $G$ (`generators`) of each
    head and block, and rates $\theta$ of each coordinate and block. All exponents of a
    block are multiples of one matrix, so they commute. Logits therefore depend on
    differences of positions alone. Logits of [`eqx_posemb.LieRE`][] depend on more.

    - `"dependent"` (ComRoPE-LD) learns the rates (`rates`).
    - `"axial"` (ComRoPE-AP) gives each block to one coordinate, with the rate 1. The
        coordinates take turns.

    Choose it for images where [`eqx_posemb.mixed_rope`][], which learns the frequencies
    of fixed planes, is not enough. A matrix exponential for each token and head is
    expensive. The authors scale coordinates to the interval from 0 to 1, for which the
    default `std` is meant.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        comrope = pe.ComRoPE(64, heads=2, block=8, key=jax.random.key(0))
        cells = pe.positions.grid_positions((4, 4)).astype(jnp.float32)
        q = comrope((cells + 0.5) / 4).queries(jnp.ones((2, 16, 64)))
        ```

    ??? cite "Reference"

        [ComRoPE: Scalable and Robust Rotary Position Embedding Parameterized by
        Trainable Commuting Angle Matrices](https://arxiv.org/abs/2506.03737), Section
        4; initial values as in the authors' code.

        ```bibtex
        @inproceedings{yu2025comrope,
            author={Yu, Hao and Jiang, Tangyu and Jia, Shuning and Yan, Shannan and
                    Liu, Shunning and Qian, Haolong and Li, Guanghao and Dong, Shuting
                    and Zhang, Huaisong and Yuan, Chun},
            title={{ComRoPE}: Scalable and Robust Rotary Position Embedding
                   Parameterized by Trainable Commuting Angle Matrices},
            booktitle={Conference on Computer Vision and Pattern Recognition},
            year={2025},
        }
        ```
    """

    generators: Float[Array, "heads blocks block block"]
    # None for "axial", whose rates are no parameters.
    rates: Float[Array, "axes blocks"] | None
    # Without rates the number of coordinates stands nowhere else.
    count: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        count: int = 2,
        block: int = 8,
        kind: Literal["dependent", "axial"] = "dependent",
        std: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `heads`: The number of heads, each with matrices of its own.
        - `count`: The number of coordinates of a position.
        - `block`: The number of channels that turn together.
        - `kind`: `"dependent"` to learn a rate for each coordinate and block, or
            `"axial"` to give each block to one coordinate.
        - `std`: The standard deviation of the initial matrices, in radians per unit of
            position.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `heads` or `count` is less than one, if `std` is
        not positive, if `block` does not divide `dim`, if `kind` is unknown, or if
        `"axial"` has fewer blocks than coordinates.
        """
        check_count("heads", heads, 1)
        check_count("count", count, 1)
        check_positive("std", std)
        check_choice("kind", kind, ("dependent", "axial"))
        blocks, *matrix = blocks_of(dim, block)
        if kind == "axial" and blocks % count:
            raise ValueError(
                "`block` must give each coordinate the same number of blocks, for "
                f"`kind='axial'`, but got {blocks} blocks for {count} coordinates."
            )
        matrices, rates = jr.split(key)
        # Each head has its own matrices, and all heads share the rates, as in
        # the authors' code.
        self.generators = std * jr.normal(matrices, (heads, blocks, *matrix))
        dependent = kind == "dependent"
        self.rates = jr.normal(rates, (count, blocks)) if dependent else None
        self.count = count

    @jax.named_scope("eqx_posemb.ComRoPE")
    def __call__(self, positions: Num[Array, "seq axes"]) -> MatrixRotation:
        """**Arguments:**

        - `positions`: the coordinates of each token.

        **Returns:**

        A rotation with a matrix for each head, token and block.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        check_grid("positions", positions, self.count)
        matrices = skew(self.generators)
        if self.rates is None:
            blocks = np.arange(matrices.shape[1]) % self.count
            rates = jnp.asarray(np.eye(self.count)[:, blocks], matrices.dtype)
        else:
            rates = as_float(self.rates)
        # One number for each token and block: exponents of a block are its multiples.
        turns = as_float(as_positions(positions)) @ rates
        return rotation_of(jnp.einsum("sb,hbij->hsbij", turns, matrices))
