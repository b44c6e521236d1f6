"""Positions of packed and padded sequences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._given import check_sequence
from .._sharding import compiler_sharded, mesh_axes


def segment_positions(segment_ids: Int[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts from zero within each run of equal ids: positions of a packed sequence.

    Give the same ids to [`eqx_posemb.PositionalEmbedding.attend`][] as `q_segments` and
    `k_segments`, since restarted positions alone do not mask other documents.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.positions.segment_positions(jnp.array([0, 0, 0, 1, 1]))
        assert positions.tolist() == [0, 1, 2, 0, 1]
        ```

    **Arguments:**

    - `segment_ids`: which document each token belongs to; only changes matter.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if `segment_ids` has not one axis.
    """
    check_sequence("segment_ids", segment_ids, "with an id for each token")
    ids = jnp.asarray(segment_ids)
    return compiler_sharded(_within_runs, mesh_axes(ids), ids)


def _within_runs(segment_ids):
    index = jnp.arange(segment_ids.shape[0], dtype=jnp.int32)
    starts = jnp.concatenate([jnp.ones(1, bool), segment_ids[1:] != segment_ids[:-1]])[
        : segment_ids.shape[0]
    ]
    # A cumulative maximum carries the start of a run to all of its tokens.
    return index - jax.lax.cummax(jnp.where(starts, index, 0))


def left_padded_positions(mask: Bool[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts the tokens of a padded sequence from zero, wherever the padding is.

    Padding before the first token has position 0, and later padding repeats the
    previous position. So every table has a row for it. Mask the padding in attention.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        mask = jnp.array([False, False, True, True, True])
        assert pe.positions.left_padded_positions(mask).tolist() == [0, 0, 0, 1, 2]
        ```

    **Arguments:**

    - `mask`: True for tokens, False for padding.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if `mask` has not one axis.
    """
    check_sequence("mask", mask, "to count its tokens")
    count = lambda mask: jnp.maximum(jnp.cumsum(mask, dtype=jnp.int32) - 1, 0)
    mask = jnp.asarray(mask)
    return compiler_sharded(count, mesh_axes(mask), mask)
