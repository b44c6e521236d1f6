"""Positions of patches and frames: the cells of grids."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from .._checks import check_shape


def grid_positions(shape: Sequence[int]) -> Int[Array, "seq axes"]:
    """Lists the coordinates of a grid, row by row: the positions of patches or frames.

    !!! Example

        ```python
        import eqx_posemb as pe

        positions = pe.positions.grid_positions((2, 2))
        assert positions.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        ```

    **Arguments:**

    - `shape`: the size of the grid along each axis: height and width, say.

    **Returns:** positions, int32; the last axis of the grid varies fastest.

    **Raises:** a `ValueError` if `shape` is empty or has a negative size.
    """
    rule = "have one size, not negative, for each axis of the grid"
    shape = check_shape("shape", shape, bound=0, rule=rule)
    # `jnp.indices` would give int64 in 64-bit mode.
    axes = [jax.lax.broadcasted_iota(jnp.int32, shape, i) for i in range(len(shape))]
    return jnp.stack(axes, axis=-1).reshape(-1, len(shape))
