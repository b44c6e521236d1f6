"""Positions are data: values that say where each token is.

Packing, padding, cached decoding, sharding and grids are all a matter of which
positions the tokens have, and not of the embedding. Here are the usual ways to make
them.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int, Num

from ._phase import in_common


def distance(
    q_positions: Num[Array, "q *axes"], k_positions: Num[Array, "k *axes"]
) -> Num[Array, "q k *axes"]:
    r"""How far each key is ahead of each query: negative looks back.

    $$\delta_{ij} = p^k_j - p^q_i$$

    The sign is the same everywhere in this library. Papers have both.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        assert pe.distance(jnp.array([5]), jnp.array([3, 5])).tolist() == [[-2, 0]]
        ```

    **Arguments:**

    - `q_positions`: the positions of the queries; with a second axis for grids.
    - `k_positions`: the positions of the keys.

    **Returns:** the distances, in the unit of the positions: integers for integers,
    floating point if either is.
    """
    q, k = in_common(q_positions, k_positions)
    return k[None] - q[:, None]


def segment_positions(segment_ids: Int[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts from zero within each run of equal ids: positions of a packed sequence.

    Give the same ids to [`eqx_posemb.PositionalEmbedding.attend`][] as `q_segments` and
    `k_segments`: positions that restart do not by themselves keep documents apart.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.segment_positions(jnp.array([0, 0, 0, 1, 1]))
        assert positions.tolist() == [0, 1, 2, 0, 1]
        ```

    **Arguments:**

    - `segment_ids`: which document each token belongs to; only changes matter.

    **Returns:** positions, int32.
    """
    index = jnp.arange(segment_ids.shape[0], dtype=jnp.int32)
    starts = jnp.concatenate([jnp.ones(1, bool), segment_ids[1:] != segment_ids[:-1]])[
        : segment_ids.shape[0]
    ]
    return index - jax.lax.cummax(jnp.where(starts, index, 0))


def left_padded_positions(mask: Bool[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts the tokens that are there from zero, wherever the padding is.

    Padding before the first token gets position 0, and padding later repeats the
    position before it: within reach of any table. Mask it out of the attention.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        mask = jnp.array([False, False, True, True, True])
        assert pe.left_padded_positions(mask).tolist() == [0, 0, 0, 1, 2]
        ```

    **Arguments:**

    - `mask`: True for tokens, False for padding.

    **Returns:** positions, int32.
    """
    return jnp.maximum(jnp.cumsum(mask, dtype=jnp.int32) - 1, 0)


def grid_positions(shape: Sequence[int]) -> Int[Array, "seq axes"]:
    """Lists the coordinates of a grid, row by row: the positions of patches or frames.

    !!! Example

        ```python
        import eqx_posemb as pe

        positions = pe.grid_positions((2, 2))
        assert positions.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        ```

    **Arguments:**

    - `shape`: the size of the grid along each axis: height and width, say.

    **Returns:** positions, int32; the last axis of the grid varies fastest.

    **Raises:** a `ValueError` if `shape` is empty or has a negative size.
    """
    shape = tuple(shape)
    if not shape or min(shape) < 0:
        raise ValueError(
            f"`shape` must have one size, not negative, for each axis, but got {shape}."
        )
    axes = [jax.lax.broadcasted_iota(jnp.int32, shape, i) for i in range(len(shape))]
    return jnp.stack(axes, axis=-1).reshape(-1, len(shape))


def zigzag(length: int, shards: int) -> Int[Array, " length"]:
    """Orders tokens so that equal shards have equal work under a causal mask.

    The sequence is cut into `2 * shards` chunks, and shard `i` gets chunk `i` from the
    front and chunk `i` from the back. Used for context parallelism: `x[zigzag(...)]`
    deals tokens out, and the same indices are the positions of the dealt tokens.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert pe.zigzag(8, 2).tolist() == [0, 1, 6, 7, 2, 3, 4, 5]
        ```

    **Arguments:**

    - `length`: the number of tokens: a multiple of `2 * shards`.
    - `shards`: the number of devices along the sequence.

    **Returns:** for each place in the new order, the index in the old, int32.

    **Raises:** a `ValueError` if `length` is not a multiple of `2 * shards`.
    """
    return jnp.asarray(_zigzag(length, shards))


def zigzag_inverse(length: int, shards: int) -> Int[Array, " length"]:
    """Undoes [`eqx_posemb.zigzag`][]: `x[zigzag(...)][zigzag_inverse(...)]` is `x`.

    !!! Example

        ```python
        import eqx_posemb as pe

        order = pe.zigzag(8, 2)
        assert order[pe.zigzag_inverse(8, 2)].tolist() == list(range(8))
        ```

    **Arguments:**

    - `length`, `shards`: as in [`eqx_posemb.zigzag`][].

    **Returns:** for each place in the old order, the index in the new, int32.

    **Raises:** as `zigzag`.
    """
    return jnp.asarray(np.argsort(_zigzag(length, shards)).astype(np.int32))


def _zigzag(length, shards):
    if shards < 1 or length % (2 * shards):
        raise ValueError(
            "`length` must be a multiple of `2 * shards`, to give every shard a chunk "
            f"from the front and one from the back, but got length={length} and "
            f"shards={shards}. Pad the sequence."
        )
    chunks = np.arange(length, dtype=np.int32).reshape(2, shards, -1)
    front, back = chunks[0], chunks[1][::-1]
    return np.concatenate([front, back], axis=1).reshape(length)
