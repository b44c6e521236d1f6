"""Positions that follow one another."""

from typing import cast

import jax.numpy as jnp
from jaxtyping import Array, Int

from .._checks import check_count, require
from .._given import as_positions, check_integers, Consecutive, Positions


def consecutive(
    length: int, start: int | Int[Array, ""] = 0
) -> Int[Positions, " {length}"]:
    """States positions that follow one another: `start, start + 1, …`.

    Every function of positions accepts the result in place of an array. Under `jax.jit`
    the values of `jnp.arange` are unknown until the program runs. The program then
    contains two ways to compute a relative bias or score, and chooses at run time. This
    value decides at trace time. The program contains the faster way alone, and compiles
    in less time.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        embedding = pe.PositionalEmbedding(bias=pe.ALiBi(heads=8))

        @jax.jit
        def layer(x, start):
            placed = embedding.at(pe.positions.consecutive(x.shape[1], start))
            return placed.attend(x, x, x, causal=True)

        x = jnp.ones((8, 10, 64))  # [heads, seq, dim]
        assert layer(x, 100).shape == (8, 10, 64)
        ```

    **Arguments:**

    - `length`: The number of positions: a Python integer, or a symbol of
        `jax.export`.
    - `start`: The first position: an integer, which may be traced.

    **Returns:** a [`eqx_posemb.positions.Consecutive`][]. It behaves as an array of the
    shape `[length]` but is no instance of `jax.Array`.

    **Raises:** a `ValueError` if `length` is negative, or if `start` is not one
    integer.
    """
    # Symbolic numbers of `jax.export` have no dtype.
    if isinstance(length, int | float | str) or hasattr(length, "dtype"):
        check_count("length", length, 0)
    given = jnp.asarray(as_positions(start, "start"))
    check_integers("start", given, "as positions follow one another in steps of one")
    cure = "Use `jax.vmap` over a batch."
    require(not given.ndim, "start", "be one integer", given, cure)
    # A Python number has a weak type, which `astype` makes strong.
    return cast(Positions, Consecutive(given.astype(given.dtype), length))
