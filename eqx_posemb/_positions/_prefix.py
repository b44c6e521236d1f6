"""Positions of tokens outside of a grid, such as [CLS]."""

import jax.numpy as jnp
from jaxtyping import Array, Num

from .._given import check_array, cure_for_axes, in_common
from .._sharding import compiler_sharded


def prefixed(
    positions: Num[Array, "seq axes"], count: int = 1
) -> Num[Array, "tokens axes"]:
    """Prepends tokens outside of the grid: [CLS] and registers.

    Their row is −1, which no grid has, and their last coordinate distinguishes them.
    [`eqx_posemb.LearnedGrid`][] and [`eqx_posemb.BEiTBias`][] support them. Other
    embeddings treat them as cells above the grid. Rotary embeddings need zeros instead:
    [`eqx_posemb.positions.zero_prefixed`][].

    !!! Example

        ```python
        import eqx_posemb as pe

        positions = pe.positions.prefixed(pe.positions.grid_positions((1, 2)), 2)
        assert positions.tolist() == [[-1, 0], [-1, 1], [0, 0], [0, 1]]
        ```

    **Arguments:**

    - `positions`: the coordinates of the tokens on the grid, of at least two axes.
    - `count`: how many tokens to put before them.

    **Returns:** positions, int32 or wider integers, or floats if they are floats.

    **Raises:** a `ValueError` if positions have fewer than two axes.
    """
    check_array("positions", positions)
    if positions.ndim != 2 or positions.shape[1] < 2:
        raise ValueError(
            "`positions` must have shape [seq, axes] with at least 2 axes, but got "
            f"shape {positions.shape}. {cure_for_axes(positions, 2)}"
        )
    (positions,) = in_common(positions)

    def all_tokens(positions):
        outside = jnp.full((count, positions.shape[1] - 1), -1, positions.dtype)
        which = jnp.arange(count, dtype=positions.dtype)[:, None]
        apart = jnp.concatenate([outside, which], axis=1)
        return jnp.concatenate([apart, positions])

    return compiler_sharded(all_tokens, (None, None), positions)
