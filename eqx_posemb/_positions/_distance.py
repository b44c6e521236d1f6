"""How far a key is from a query: the sign is defined here, and nowhere else."""

from jaxtyping import Array, Num

from .._phase import in_common


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
