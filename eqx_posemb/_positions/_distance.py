"""The distance from a query to a key. All parts take its sign from here."""

from jaxtyping import Array, Num

from .._given import check_array, in_common, Positions
from .._sharding import compiler_sharded, mesh_axes


def distance(
    q_positions: Num[Positions, "q *axes"], k_positions: Num[Positions, "k *axes"]
) -> Num[Array, "q k *axes"]:
    r"""How far each key is ahead of each query: negative looks back.

    $$\delta_{ij} = p^k_j - p^q_i$$

    The sign is the same everywhere in this library. Papers have both.

    Integer distances are supported from −2³¹ + 1 to 2³¹ − 1, or to 2⁶³ − 1 for int64 in
    64-bit mode. Positions that are farther apart wrap around without an error, as a
    check would cost a pass over the positions at run time.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        assert pe.positions.distance(jnp.array([5]), jnp.array([3, 5])).tolist() == [
            [-2, 0]
        ]
        ```

    **Arguments:**

    - `q_positions`: the positions of the queries; with a second axis for grids.
    - `k_positions`: the positions of the keys.

    **Returns:** the distances, in the unit of the positions: integers for integers,
    floating point if either is.

    **Raises:** a `ValueError` if queries and keys have different axes or more than two,
    or if their dtype rounds integers, as bfloat16 does.
    """
    check_array("q_positions", q_positions)
    check_array("k_positions", k_positions)
    if q_positions.shape[1:] != k_positions.shape[1:] or q_positions.ndim not in (1, 2):
        raise ValueError(
            "`q_positions` and `k_positions` must have shapes [q] and [k], or [q, axes]"
            f" and [k, axes], but got {q_positions.shape} and {k_positions.shape}. Use "
            "`jax.vmap` over a batch."
        )
    q, k = in_common(q_positions, k_positions)
    (of_q, *_), (of_k, *axes) = mesh_axes(q), mesh_axes(k)
    difference = lambda q, k: k[None] - q[:, None]
    return compiler_sharded(difference, (of_q, of_k, *axes), q, k)
