"""Rotary embeddings and xPos, by the names that Zeta and torchscale have."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._frequencies import Geometric, Linear
from .._given import as_positions, check_sequence, Positions
from .._phase import as_float, computing_dtype, cos_sin
from .._rotary import Rotation, xpos as xpos_rotary, XPosDecay


def xpos(
    x: Float[Array, "*batch seq dim"],
    positions: Num[Positions, " seq"] | None = None,
    *,
    downscale: bool = False,
    scale_base: float = 512,
    center: int | None = None,
) -> Float[Array, "*batch seq dim"]:
    """Rotates queries or keys, and lets logits fade, as [`eqx_posemb.xpos`][] does.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import xpos

        tokens = jnp.ones((2, 10, 64))
        q, k = xpos(tokens), xpos(tokens, downscale=True)
        ```

    **Arguments:**

    - `x`: queries, or keys.
    - `positions`: their positions; by default from 0 on.
    - `downscale`: whether these are keys.
    - `scale_base`: how many positions it takes to fade.
    - `center`: the position whose factors are one. The default is half of the length of
        `x`, rounded up, as in torchscale. Keys cannot be cached with this default,
        since all calls must have the same center.

    **Returns:** an array like `x`, in adjacent pairs; computed in at least float32.

    **Raises:** a `ValueError` if the channels are odd; an error at run time where the
    growth overflows.
    """
    seq, dim = x.shape[-2:]
    if positions is None:
        positions = jnp.arange(seq)
    if center is None:
        center = (seq + 1) // 2
    rotary = xpos_rotary(dim, scale_base=scale_base, center=center, pairing="adjacent")
    rotation = rotary(positions)
    return _over_batch(rotation.keys if downscale else rotation.queries, x)


def fixed_pos_embedding(
    x: Float[Array, "seq dim"], positions: Num[Positions, " seq"] | None = None
) -> tuple[Float[Array, "seq dim"], Float[Array, "seq dim"]]:
    r"""The sine and cosine of every position, with one frequency for each channel.

    $$\sin (p\, 10000^{-m/D}), \quad \cos (p\, 10000^{-m/D}), \qquad
      m = 0, \dots, D - 1$$

    for the position $p$ and the $D$ channels of `x`. They rotate a head of $2 D$
    channels. Only the shape and dtype of `x` are read.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import apply_rotary_pos_emb, fixed_pos_embedding

        q = jnp.ones((2, 10, 64))
        sin, cos = fixed_pos_embedding(q[0, :, :32])
        q = apply_rotary_pos_emb(q, sin, cos)
        ```

    **Arguments:**

    - `x`: an array of the shape to have.
    - `positions`: the positions; by default from 0 on.

    **Returns:** the sine and the cosine, in the dtype of `x`, right at every int32
    position; computed in at least float32.
    """
    if positions is None:
        positions = jnp.arange(x.shape[0])
    check_sequence("positions", positions, "with one for each token")
    cos, sin = cos_sin(as_positions(positions), Geometric(2 * x.shape[1]).turns())
    return sin.astype(x.dtype), cos.astype(x.dtype)


def rotate_every_two(x: Float[Array, "... dim"]) -> Float[Array, "... dim"]:
    """Turns each adjacent pair by a right angle: from (a, b) to (-b, a).

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import rotate_every_two

        assert rotate_every_two(jnp.array([1.0, 2.0])).tolist() == [-2, 1]
        ```

    **Arguments:**

    - `x`: an array of any shape, with an even last axis.

    **Returns:** an array like `x`.

    **Raises:** a `ValueError` if the last axis is odd.
    """
    check_pairs(x)
    return jnp.stack([-x[..., 1::2], x[..., ::2]], axis=-1).reshape(x.shape)


def duplicate_interleave(m: Float[Array, "... n"]) -> Float[Array, "... twice"]:
    """Repeats every column, so that equal columns are adjacent.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import duplicate_interleave

        assert duplicate_interleave(jnp.array([[1.0, 2.0]])).tolist() == [[1, 1, 2, 2]]
        ```

    **Arguments:**

    - `m`: a matrix, or an array of any shape.

    **Returns:** the array with a last axis of twice the length.
    """
    return jnp.repeat(m, 2, axis=-1)


def apply_rotary_pos_emb(
    x: Float[Array, "*batch seq dim"],
    sin: Float[Array, "seq half"],
    cos: Float[Array, "seq half"],
    scale: float | Float[Array, "seq half"] = 1,
) -> Float[Array, "*batch seq dim"]:
    """Rotates adjacent pairs of channels by given sines and cosines.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import apply_rotary_pos_emb, fixed_pos_embedding

        sin, cos = fixed_pos_embedding(jnp.ones((10, 32)))
        q = apply_rotary_pos_emb(jnp.ones((2, 10, 64)), sin, cos)
        ```

    **Arguments:**

    - `x`: queries or keys.
    - `sin`, `cos`: of the angle of each position and pair.
    - `scale`: the factor of the result, one number or a number for each position and
        pair.

    **Returns:** an array like `x`; computed in at least float32.

    **Raises:** a `ValueError` if `sin` and `cos` are not [seq, dim / 2].
    """
    check_pairs(x)
    seq, dim = x.shape[-2:]
    if not sin.shape == cos.shape == (seq, dim // 2):
        raise ValueError(
            "`sin` and `cos` must have shape [seq, dim / 2], a column for each pair of "
            f"channels of `x`: {[seq, dim // 2]}; but got {sin.shape} and {cos.shape}."
        )
    dtype = computing_dtype(x.dtype)
    scale = jnp.asarray(scale, dtype)
    if scale.ndim == 0:
        scale = jnp.broadcast_to(scale, cos.shape)
    cos, sin = cos.astype(dtype) * scale, sin.astype(dtype) * scale
    return _over_batch(Rotation(cos, sin, None, dim, "adjacent").queries, x)


def rotary_embedding(
    positions: Num[Positions, " seq"],
    dim: int,
    *,
    use_xpos: bool = False,
    scale_base: float = 512,
    interpolation_factor: float = 1.0,
    base: float = 10_000,
    base_rescale_factor: float = 1.0,
) -> tuple[Float[Array, "seq {dim}"], Float[Array, "seq {dim}"] | float]:
    r"""The angles of positions, and what xPos multiplies queries by: as halves.

    $$p\, b^{-2j/d} / s, \quad \zeta_j^{(p - c) / B}, \qquad
      b = \theta\, r^{d/(d-2)}$$

    for the position $p$, $d$ channels, `interpolation_factor` $s$, `base` $\theta$,
    `base_rescale_factor` $r$, `scale_base` $B$, half of the length $c$, rounded down,
    and $\zeta_j$ as in [`eqx_posemb.rotations.XPosDecay`][].

    A float32 angle has lost its precision by position 100,000: [`eqx_posemb.Rotary`][]
    never holds one. This is for code that is written around angles.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import rotary_embedding

        angles, scale = rotary_embedding(jnp.arange(10), 64)
        assert angles.shape == (10, 64) and scale == 1
        ```

    **Arguments:**

    - `positions`: the positions.
    - `dim`: the number of rotated channels.
    - `use_xpos`: whether to have the growth of xPos, too.
    - `scale_base`: how many positions it takes to fade.
    - `interpolation_factor`: positions are divided by it, except the positions of the
        xPos decay.
    - `base`: the base of the frequencies.
    - `base_rescale_factor`: what the slowest frequency is to be divided by.

    **Returns:** the angles, in radians, and the factors of queries, or 1.0 without
    xPos. Keys have the inverse factors. Each array has every column twice.

    **Raises:** a `ValueError` as [`eqx_posemb.frequencies.Geometric`][] and
    [`eqx_posemb.rotations.XPosDecay`][], if `interpolation_factor` is less than one, or
    if `positions` has not one axis.
    """
    check_sequence("positions", positions, "with one for each token")
    positions = as_positions(positions)
    schedule = Linear(
        Geometric(dim, rescaled(base, base_rescale_factor, dim)), interpolation_factor
    )
    # Zeta returns angles in radians, which only a float product can give.
    frequencies = jnp.asarray(schedule(), jnp.result_type(float))
    angles = as_float(positions)[:, None] * frequencies[None]
    twice = lambda columns: jnp.concatenate([columns, columns], axis=-1)
    if not use_xpos:
        return twice(angles), 1.0
    # Zeta's center is half of the length.
    decay = XPosDecay(dim, scale_base, center=positions.shape[0] // 2)
    return twice(angles), twice(jnp.exp(decay(positions)))


def rescaled(base: float, factor: float, dim: int) -> float:
    """The base for which the slowest frequency is divided by `factor`."""
    # With two channels, the only frequency is one for every base.
    return base if dim <= 2 else base * factor ** (dim / (dim - 2))


def check_pairs(x: Any) -> None:
    """Checks that the channels of an array or a tensor are pairs."""
    if x.ndim == 0 or x.shape[-1] % 2:
        raise ValueError(
            "`x` must have an even last axis, to be turned in pairs, but got shape "
            f"{tuple(x.shape)}."
        )


def _over_batch(turn, x):
    # An explicit product also serves empty arrays, for which -1 is ambiguous.
    flat = x.reshape(math.prod(x.shape[:-2]), *x.shape[-2:])
    return jax.vmap(turn)(flat).reshape(x.shape)
