"""What `equinox.nn` has, on explicit positions and without a cache."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .._given import as_positions, check_integers
from .._rotary import rope
from .._sharding import rows_of
from .._symbolic import error_if


def embedding(
    weight: Float[Array, "num_embeddings embedding_size"], x: Int[Array, "*shape"]
) -> Float[Array, "*shape embedding_size"]:
    """Looks rows of a table up, as `equinox.nn.Embedding` does.

    Negative indices count from the end. Any other index without a row raises an error.
    Equinox silently returns the nearest row.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import embedding

        weight = jnp.arange(6.0).reshape(3, 2)
        assert embedding(weight, jnp.array(1)).tolist() == [2, 3]
        assert embedding(weight, jnp.array([0, -1])).tolist() == [[0, 1], [4, 5]]
        ```

    **Arguments:**

    - `weight`: the table.
    - `x`: indices into it, of any shape.

    **Returns:** their rows, in the dtype of `weight`.

    **Raises:** a `ValueError` if `x` are not integers; an error at run time if an index
    has no row.
    """
    x = as_positions(x, "x")
    check_integers("x", x, "to look rows up with")
    rows = weight.shape[0]
    return error_if(
        rows_of(weight, x),
        (x < -rows) | (x >= rows),
        f"`x` must be from {-rows} to {rows - 1}, to have a row in `weight`. Give it "
        "more rows.",
    )


def rotary_positional_embedding(
    x: Float[Array, "seq_length embedding_size"],
    positions: Num[Array, " seq_length"] | None = None,
    *,
    theta: float = 10_000.0,
) -> Float[Array, "seq_length embedding_size"]:
    """Rotates queries or keys, as `equinox.nn.RotaryPositionalEmbedding` does.

    It takes any positions, such as the position of a decoded token after a cache, and
    any `theta`. Equinox keeps its first table of a size for every later `theta`. Use
    `jax.vmap` over heads and batch.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import rotary_positional_embedding

        x = jnp.ones((10, 64))
        y = rotary_positional_embedding(x, theta=500_000.0)
        last = rotary_positional_embedding(x[9:], jnp.array([9]), theta=500_000.0)
        assert jnp.allclose(y[9:], last, atol=1e-6)
        ```

    **Arguments:**

    - `x`: queries or keys.
    - `positions`: their positions; by default from 0 on.
    - `theta`: the base of the frequencies.

    **Returns:** an array like `x`; computed in at least float32.

    **Raises:** a `ValueError` if `embedding_size` is odd or `theta` not positive.
    """
    if positions is None:
        positions = jnp.arange(x.shape[0])
    return rope(x.shape[-1], theta=theta)(positions).queries(x)
