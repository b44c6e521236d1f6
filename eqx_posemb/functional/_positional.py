"""Encodings, biases and scores as functions of their parameters."""

from collections.abc import Callable
from typing import TypeVar

import equinox as eqx
import jax.random as jr
from jaxtyping import Array, Float, Int, Num

from .._bias import T5Bias, TUPE
from .._encoding import Learned, Sinusoidal
from .._given import Positions
from .._score import Enformer, TransformerXL


Module = TypeVar("Module", bound=eqx.Module)


def sinusoidal(
    positions: Num[Positions, " seq"],
    dim: int,
    *,
    theta: float = 10_000.0,
    layout: str = "tensor2tensor",
) -> Float[Array, "seq {dim}"]:
    """What [`eqx_posemb.Sinusoidal`][] adds to tokens, in fairseq's layout by default.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import sinusoidal

        x = jnp.ones((10, 64)) + sinusoidal(jnp.arange(10), 64)
        ```

    **Arguments:**

    - `positions`: the positions of the tokens.
    - `dim`, `theta`, `layout`: as in [`eqx_posemb.Sinusoidal`][].

    **Returns:** the encoding, in JAX's default float dtype.

    **Raises:** a `ValueError` as [`eqx_posemb.Sinusoidal`][].
    """
    return Sinusoidal(dim, theta, layout)(positions)  # pyright: ignore[reportArgumentType]


def learned(
    weight: Float[Array, "rows dim"],
    positions: Int[Positions, " seq"],
    *,
    padding_idx: int | None = None,
) -> Float[Array, "seq dim"]:
    """What [`eqx_posemb.Learned`][] adds to tokens.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import learned

        weight = jnp.ones((512, 64))
        x = jnp.ones((10, 64)) + learned(weight, jnp.arange(10))
        ```

    **Arguments:**

    - `weight`: the table.
    - `positions`: the positions of the tokens: rows of the table.
    - `padding_idx`: the row that gives zeros and is not trained.

    **Returns:** the encoding, in the dtype of `weight`.

    **Raises:** as [`eqx_posemb.Learned`][]; at run time if a position has no row.
    """
    build = lambda: Learned(*weight.shape, padding_idx=padding_idx, key=jr.key(0))
    return _with(build, weight=weight)(positions)


def t5(
    weight: Float[Array, "buckets heads"],
    q_positions: Int[Positions, " q"],
    k_positions: Int[Positions, " k"],
    *,
    max_distance: int = 128,
    bidirectional: bool = True,
) -> Float[Array, "heads q k"]:
    """What [`eqx_posemb.T5Bias`][] adds to the logits, which T5 does not scale.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import t5

        bias = t5(jnp.ones((32, 8)), jnp.arange(5), jnp.arange(7))
        assert bias.shape == (8, 5, 7)
        ```

    **Arguments:**

    - `weight`: a number for each bucket and head.
    - `q_positions`, `k_positions`: the positions of queries and keys.
    - `max_distance`, `bidirectional`: as in [`eqx_posemb.T5Bias`][].

    **Returns:** the bias, in the dtype of `weight`.

    **Raises:** a `ValueError` as [`eqx_posemb.T5Bias`][].
    """
    buckets, heads = weight.shape
    build = lambda: T5Bias(
        heads,
        num_buckets=buckets,
        max_distance=max_distance,
        bidirectional=bidirectional,
        key=jr.key(0),
    )
    return _with(build, weight=weight)(q_positions, k_positions)


def transformer_xl(
    q: Float[Array, "heads q dim"],
    k: Float[Array, "heads k dim"],
    u: Float[Array, "heads dim"],
    v: Float[Array, "heads dim"],
    weight: Float[Array, "heads dim features"],
    q_positions: Num[Positions, " q"],
    k_positions: Num[Positions, " k"],
    *,
    clamp: int | None = None,
) -> Float[Array, "heads q k"]:
    """What [`eqx_posemb.TransformerXL`][] adds to the scaled logits.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import transformer_xl

        q = k = jnp.ones((8, 10, 64))
        u = v = jnp.zeros((8, 64))
        p = jnp.arange(10)
        score = transformer_xl(q, k, u, v, jnp.ones((8, 64, 512)), p, p)
        logits = jnp.einsum("hqd,hkd->hqk", q, k) / 8 + score
        ```

    **Arguments:**

    - `q`, `k`: queries and keys.
    - `u`, `v`, `weight`, `clamp`: as in [`eqx_posemb.TransformerXL`][].
    - `q_positions`, `k_positions`: their positions.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** a `ValueError` as [`eqx_posemb.TransformerXL`][].
    """
    build = lambda: TransformerXL(*weight.shape, clamp=clamp, key=jr.key(0))
    score = _with(build, u=u, v=v, weight=weight)
    return score(q, k, q_positions, k_positions)


def tupe(
    weight: Float[Array, "length dim"],
    norm_weight: Float[Array, " dim"],
    norm_bias: Float[Array, " dim"],
    q_weight: Float[Array, "heads head_dim dim"],
    q_bias: Float[Array, "heads head_dim"],
    k_weight: Float[Array, "heads head_dim dim"],
    k_bias: Float[Array, "heads head_dim"],
    q_positions: Int[Positions, " q"],
    k_positions: Int[Positions, " k"],
) -> Float[Array, "heads q k"]:
    """What [`eqx_posemb.TUPE`][] adds to the logits: untied absolute positions.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import tupe

        matrix, vector = jnp.ones((4, 16, 64)), jnp.ones((4, 16))
        table, scale, shift = jnp.ones((128, 64)), jnp.ones(64), jnp.zeros(64)
        p = jnp.arange(10)
        bias = tupe(table, scale, shift, matrix, vector, matrix, vector, p, p)
        ```

    **Arguments:**

    - `weight`, `norm_weight`, `norm_bias`, `q_weight`, `q_bias`, `k_weight`, `k_bias`:
        as in [`eqx_posemb.TUPE`][].
    - `q_positions`, `k_positions`: the positions of queries and keys.

    **Returns:** the bias, scaled, in JAX's default float dtype.

    **Raises:** as [`eqx_posemb.TUPE`][]; at run time if a position has no row.
    """
    build = lambda: TUPE(*weight.shape, *q_weight.shape[:2], key=jr.key(0))
    bias = _with(
        build,
        weight=weight,
        norm_weight=norm_weight,
        norm_bias=norm_bias,
        q_weight=q_weight,
        q_bias=q_bias,
        k_weight=k_weight,
        k_bias=k_bias,
    )
    return bias(q_positions, k_positions)


def enformer(
    q: Float[Array, "heads q dim"],
    k: Float[Array, "heads k dim"],
    u: Float[Array, "heads dim"],
    v: Float[Array, "heads dim"],
    weight: Float[Array, "heads dim features"],
    q_positions: Int[Positions, " q"],
    k_positions: Int[Positions, " k"],
    *,
    length: int,
    symmetric: bool = False,
) -> Float[Array, "heads q k"]:
    """What [`eqx_posemb.Enformer`][] adds to the scaled logits.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import enformer

        q = k = jnp.ones((8, 10, 64))
        u = v = jnp.zeros((8, 64))
        p = jnp.arange(10)
        score = enformer(q, k, u, v, jnp.ones((8, 64, 48)), p, p, length=10)
        ```

    **Arguments:**

    - `q`, `k`: queries and keys.
    - `u`, `v`, `weight`, `length`, `symmetric`: as in [`eqx_posemb.Enformer`][].
    - `q_positions`, `k_positions`: their positions.

    **Returns:** the score, in JAX's default float dtype.

    **Raises:** as [`eqx_posemb.Enformer`][]; at run time if a key is `length` positions
    or more from a query.
    """
    build = lambda: Enformer(
        *weight.shape, length=length, symmetric=symmetric, key=jr.key(0)
    )
    score = _with(build, u=u, v=v, weight=weight)
    return score(q, k, q_positions, k_positions)


def _with(build: Callable[[], Module], **parameters: Array) -> Module:
    """What `build` makes, with these parameters; without drawing others first."""
    names = list(parameters)
    # Shapes suffice for a module whose arrays are all replaced.
    return eqx.tree_at(
        lambda module: [getattr(module, name) for name in names],
        eqx.filter_eval_shape(build),
        list(parameters.values()),
    )
