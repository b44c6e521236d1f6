"""An order of tokens that balances causal attention over shards."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from .._checks import check_count


def zigzag(length: int, shards: int) -> Int[Array, " length"]:
    """An order of tokens for which shards have equal work under a causal mask.

    The sequence is divided into `2 * shards` chunks. Shard `i` has chunk `i` from the
    front and chunk `i` from the back. In context parallelism, `x[zigzag(...)]` orders
    the tokens, and the same indices are their positions.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert pe.positions.zigzag(8, 2).tolist() == [0, 1, 6, 7, 2, 3, 4, 5]
        ```

    **Arguments:**

    - `length`: the number of tokens: a multiple of `2 * shards`.
    - `shards`: the number of devices along the sequence.

    **Returns:** for each place in the new order, the index in the old, int32.

    **Raises:** a `ValueError` if `length` is not a multiple of `2 * shards`.
    """
    return jnp.asarray(_zigzag(length, shards))


def zigzag_inverse(length: int, shards: int) -> Int[Array, " length"]:
    """Undoes [`eqx_posemb.positions.zigzag`][].

    `x[zigzag(...)][zigzag_inverse(...)]` is `x`.

    !!! Example

        ```python
        import eqx_posemb as pe

        order = pe.positions.zigzag(8, 2)
        assert order[pe.positions.zigzag_inverse(8, 2)].tolist() == list(range(8))
        ```

    **Arguments:**

    - `length`, `shards`: as in [`eqx_posemb.positions.zigzag`][].

    **Returns:** for each place in the old order, the index in the new, int32.

    **Raises:** as `zigzag`.
    """
    return jnp.asarray(np.argsort(_zigzag(length, shards)).astype(np.int32))


def _zigzag(length, shards):
    check_count("length", length, 0)
    check_count("shards", shards, 1)
    if length % (2 * shards):
        raise ValueError(
            "`length` must be a multiple of `2 * shards`, to give every shard a chunk "
            f"from the front and one from the back, but got length={length} and "
            f"shards={shards}. Pad the sequence."
        )
    chunks = np.arange(length, dtype=np.int32).reshape(2, shards, -1)
    # A late chunk attends to more keys, so each shard pairs an early chunk with a late
    # chunk.
    front, back = chunks[0], chunks[1][::-1]
    return np.concatenate([front, back], axis=1).reshape(length)
