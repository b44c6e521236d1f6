"""Weights of query and key projections, from one pairing of channels to another.

Meta's Llama pairs adjacent channels, and Llama in transformers pairs halves. Both are
one model, with the rows of two projections in another order. These functions convert
the order in both directions. The logits do not change. A projection in one layout does
not work with a rotary embedding in the other layout.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped

from .._rotary import Pairing


def adjacent_to_halves(
    weight: Shaped[Array | np.ndarray, "channels *rest"],
    *,
    heads: int,
    rotary_dim: int | None = None,
    start: int = 0,
) -> Shaped[Array | np.ndarray, "channels *rest"]:
    """Converts weights of a model with `pairing="adjacent"` to `pairing="halves"`.

    This is the permutation in the conversion of Llama's checkpoints to transformers.
    Apply it to the projections of queries and keys, and to their biases. For norms over
    a head after these projections, use `heads=1`. Values and outputs do not change.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe
        from eqx_posemb.interop.layouts import adjacent_to_halves

        weight = jax.random.normal(jax.random.key(0), (2 * 8, 32))  # 2 heads of 8
        q = adjacent_to_halves(weight, heads=2)
        assert (q[1] == weight[2]).all()  # The pair (0, 1) has become (0, 4).
        assert (q[4] == weight[1]).all()
        ```

    **Arguments:**

    - `weight`: the weight of a linear layer, `[heads * dim, in]` as in Equinox and
        PyTorch, or its bias, `[heads * dim]`. It is an array of NumPy or JAX.
    - `heads`: the number of heads of this projection. For keys, it is the number of
        heads of keys.
    - `rotary_dim`: the number of rotated channels of a head. By default all channels
        rotate.
    - `start`: the first rotated channel.

    **Returns:** the same rows in the other order.

    **Raises:** a `ValueError` if `heads` does not divide the rows, or the rotated
    channels do not fit into a head.
    """
    return _reorder(weight, heads, rotary_dim, start, invert=False)


def halves_to_adjacent(
    weight: Shaped[Array | np.ndarray, "channels *rest"],
    *,
    heads: int,
    rotary_dim: int | None = None,
    start: int = 0,
) -> Shaped[Array | np.ndarray, "channels *rest"]:
    """Converts weights of a model with `pairing="halves"` to `pairing="adjacent"`.

    Undoes [`eqx_posemb.interop.layouts.adjacent_to_halves`][].

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.interop.layouts import adjacent_to_halves, halves_to_adjacent

        bias = jnp.arange(16.0)
        there = adjacent_to_halves(bias, heads=2)
        assert (halves_to_adjacent(there, heads=2) == bias).all()
        ```

    **Arguments:**

    - `weight`, `heads`, `rotary_dim`, `start`: as there.

    **Returns:** the same rows in the other order.

    **Raises:** as there.
    """
    return _reorder(weight, heads, rotary_dim, start, invert=True)


def _reorder(weight, heads, rotary_dim, start, *, invert):
    rows = weight.shape[0]
    if heads < 1 or rows % heads:
        raise ValueError(
            "`heads` must divide the rows of `weight`, [heads * dim, ...], but got "
            f"{heads} heads and {rows} rows. Keys may have fewer heads than queries."
        )
    dim = rows // heads
    # The order of rows comes from the pairing of rotary embeddings, so both always
    # agree.
    order = np.array(Pairing.adjacent_to_halves(dim, rotary_dim, start).source)
    if invert:
        order = np.argsort(order)
    by_head = weight.reshape(heads, dim, *weight.shape[1:])
    # NumPy weights stay on the host, and large checkpoints need no device memory.
    if isinstance(weight, np.ndarray):
        return by_head[:, order].reshape(weight.shape)
    return jnp.take(by_head, order, axis=1, unique_indices=True).reshape(weight.shape)
