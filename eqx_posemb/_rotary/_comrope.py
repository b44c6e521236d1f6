"""Learned rotations that commute, so that logits depend on offsets alone."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Num, PRNGKeyArray

from .._checks import check_choice, check_count, check_positive
from .._given import as_positions, check_grid
from .._phase import as_float
from .._sharding import compiler_sharded, mesh_axes
from ._abstract import AbstractRotary
from ._lie import MatrixRotation


class ComRoPE(AbstractRotary):
    r"""ComRoPE, Yu et al. 2025: rotates blocks of channels by matrices that commute.

    $$R_h(p)_b = \exp\Big(\big(G_{h, b} - G_{h, b}^\top\big)
      \sum_k \theta_{k, b}\, p_k\Big)$$

    for the coordinates $p_k$ of a position, and a learned matrix $G$ (`generators`) of
    each head $h$ and block $b$. The rotations of a block are powers of one matrix, so
    logits depend on offsets alone, which [`eqx_posemb.LieRE`][] does not have.

    - `"dependent"` (LD) learns the weights $\theta$ (`multipliers`) of each coordinate
        and block.
    - `"partition"` (AP) gives each block one coordinate: $\theta_{k, b}$ is 1 where
        $b \bmod N = k$ for $N$ coordinates, and else 0.

    A matrix exponential for each token is expensive, and float32 is inaccurate at far
    positions. The authors have the centers of patches between 0 and 1, as in the
    example.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        comrope = pe.ComRoPE(64, heads=8, key=jax.random.key(0))
        positions = (pe.positions.normalized_positions((14, 14)) + 1) / 2
        q = comrope(positions).queries(jnp.ones((8, 196, 64)))
        ```

    ??? cite "Reference"

        [ComRoPE: Scalable and Robust Rotary Position Embedding Parameterized by
        Trainable Commuting Angle Matrices](https://arxiv.org/abs/2506.03737), Section
        4, with the initial values of the authors' code.

        ```bibtex
        @inproceedings{yu2025comrope,
            author={Yu, Hao and Jiang, Tangyu and Jia, Shuning and Yan, Shannan and Liu,
                    Shunning and Qian, Haolong and Li, Guanghao and Dong, Shuting and
                    Zhang, Huaisong and Yuan, Chun},
            title={{ComRoPE}: Scalable and Robust Rotary Position Embedding
                   Parameterized by Trainable Commuting Angle Matrices},
            booktitle={Conference on Computer Vision and Pattern Recognition},
            year={2025},
        }
        ```
    """

    generators: Float[Array, "heads blocks block block"]
    multipliers: Float[Array, "axes blocks"] | None
    count: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        count: int = 2,
        block: int = 8,
        form: Literal["dependent", "partition"] = "dependent",
        std: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a head.
        - `heads`: The number of heads.
        - `count`: The number of coordinates of a position.
        - `block`: The number of channels that turn together.
        - `form`: `"dependent"` or `"partition"`.
        - `std`: The standard deviation of the generators at the start. The multipliers
            start with a deviation of 1.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `heads` or `count` is less than one, `std` is not
        positive, `form` is unknown, `block` does not divide `dim`, or a partition has
        not as many blocks for each coordinate.
        """
        check_count("dim", dim, 2)
        check_count("heads", heads, 1)
        check_count("count", count, 1)
        check_positive("std", std)
        check_choice("form", form, ("dependent", "partition"))
        if block < 2 or dim % block:
            raise ValueError(
                f"`block` must be at least 2 and divide `dim`, {dim}, but got {block}."
            )
        blocks = dim // block
        if form == "partition" and blocks % count:
            raise ValueError(
                f"`dim` must have as many blocks for each of the {count} coordinates, "
                f"but got {blocks} blocks of {block} channels."
            )
        of_generators, of_multipliers = jr.split(key)
        shape = (heads, blocks, block, block)
        self.generators = std * jr.normal(of_generators, shape)
        self.multipliers = None
        if form == "dependent":
            self.multipliers = jr.normal(of_multipliers, (count, blocks))
        self.count = count

    @jax.named_scope("eqx_posemb.ComRoPE")
    def __call__(self, positions: Num[Array, "seq axes"]) -> MatrixRotation:
        """**Arguments:**

        - `positions`: the coordinates of each token.

        **Returns:**

        What multiplies queries and keys `[..., heads, seq, dim]` by the rotation of
        their positions.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        check_grid("positions", positions, self.count)
        generators = as_float(self.generators)
        skew = generators - jnp.swapaxes(generators, -1, -2)
        blocks = skew.shape[1]
        if self.multipliers is None:
            turn = jnp.arange(blocks)[None] % self.count
            weights = (turn == jnp.arange(self.count)[:, None]).astype(skew.dtype)
        else:
            weights = as_float(self.multipliers)
        along = jnp.einsum("sk,kb->sb", as_float(as_positions(positions)), weights)
        sums = jnp.einsum("sb,hbij->hsbij", along, skew)
        matrices = compiler_sharded(jax.scipy.linalg.expm, mesh_axes(sums), sums)
        return MatrixRotation(matrices)
