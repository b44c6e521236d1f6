"""A learned vector for each row and each column, added to tokens."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count, check_positive, check_shape
from .._given import check_grid, check_integers, in_common
from .._sharding import rows_of
from .._symbolic import error_if
from ._abstract import AbstractEncoding


class AxialLearned(AbstractEncoding):
    r"""Axial position encoding (Reformer), Kitaev et al. 2020.

    It adds learned vectors of the row and of the column, each from its own table:

    $$e(a, b) = \big(E^1_a,\; E^2_b\big) \quad \text{or} \quad
      e(a, b) = E^1_a + E^2_b$$

    for a position $(a, b)$ and a table $E$ for each axis: concatenated, each with its
    share of the channels (`dims`), or summed. A grid of $n \times m$ cells takes
    $n + m$ vectors, where [`eqx_posemb.LearnedGrid`][] takes $nm$.

    Reformer concatenates the vectors, and folds a sequence of half a million tokens
    into a grid. The positions are $(\lfloor p / m \rfloor, p \bmod m)$, as
    [`eqx_posemb.positions.grid_positions`][] returns them. Pix2Struct sums the vectors
    of patches.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        key = jax.random.key(0)
        encoding = pe.AxialLearned((64, 128), 256, dims=(64, 192), key=key)
        assert encoding(pe.positions.grid_positions((64, 128))).shape == (8192, 256)
        ```

    ??? cite "Reference"

        [Reformer: The Efficient Transformer](https://arxiv.org/abs/2001.04451),
        Section 5, as its code does, of the form of Ho et al. (2019).

        ```bibtex
        @inproceedings{kitaev2020reformer,
            author={Kitaev, Nikita and Kaiser, {\L}ukasz and Levskaya, Anselm},
            title={Reformer: The Efficient Transformer},
            booktitle={International Conference on Learning Representations},
            year={2020},
        }
        ```
    """

    traits = ("bounded",)

    # Concatenated tables have shares of the channels, and summed tables have all
    # channels.
    weights: tuple[Float[Array, "size share"], ...]
    summed: bool = eqx.field(static=True)

    def __init__(
        self,
        shape: Sequence[int],
        dim: int,
        *,
        dims: Sequence[int] | None = None,
        std: float = 1.0,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `shape`: The size of the grid along each axis.
        - `dim`: The number of channels of a token.
        - `dims`: The number of channels of each axis, whose vectors are concatenated.
            By default each axis has all channels, and the vectors are summed.
        - `std`: The standard deviation of the initial weights. Reformer has 1.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size, `dim` or `std` is not positive, or if
        `dims` are not positive numbers that sum to `dim`.
        """
        shape = check_shape("shape", shape)
        check_count("dim", dim, 1)
        check_positive("std", std)
        rule = f"have a positive number for each of the {len(shape)} axes of `shape`"
        shares = (dim,) * len(shape) if dims is None else dims
        shares = check_shape("dims", shares, axes=len(shape), rule=rule)
        if dims is not None and sum(shares) != dim:
            raise ValueError(
                f"`dims` must sum to `dim`, {dim}, but got {shares}. Leave it out to "
                "have vectors summed."
            )
        keys = jr.split(key, len(shape))
        self.weights = tuple(
            std * jr.normal(key, (size, share))
            for key, size, share in zip(keys, shape, shares, strict=True)
        )
        self.summed = dims is None

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of the grid along each axis."""
        return tuple(weight.shape[0] for weight in self.weights)

    @jax.named_scope("eqx_posemb.AxialLearned")
    def __call__(self, positions: Int[Array, "seq axes"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the coordinates of the tokens, integers.

        **Returns:**

        What to add to the tokens, in the dtype of `weights`.

        **Raises:** a `ValueError` if positions are not integers or have another number
        of axes. An error at run time if a position is beyond the grid.
        """
        check_grid("positions", positions, len(self.shape))
        check_integers("positions", positions, "to look rows up with")
        (positions,) = in_common(positions)
        size = jnp.array(self.shape, positions.dtype)[None]
        parts = [
            rows_of(weight, positions[:, axis])
            for axis, weight in enumerate(self.weights)
        ]
        joined = sum(parts[1:], parts[0]) if self.summed else jnp.concatenate(parts, -1)
        return error_if(
            joined,
            (positions < 0) | (positions >= size),
            f"`positions` must be on the grid of this `AxialLearned`, {self.shape}. "
            "Build it with a larger `shape`.",
        )
