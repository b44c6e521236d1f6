"""How a rotation is written for each platform: the same numbers, at different speed."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._pairing import Layout


def rotate(
    x: Float[Array, "seq *heads dim"],
    cos: Float[Array, "seq *ones pairs"],
    sin: Float[Array, "seq *ones pairs"],
    layout: Layout,
) -> Float[Array, "seq *heads dim"]:
    """Rotates the first channels of `x`, in pairs of the given layout, as many as there
    are angles for. The others pass through.

    It is computed in the dtype of `cos` and `sin`, and rounded to that of `x`.
    """
    return _rotate(layout, x, cos, sin)


# Left to itself JAX would differentiate each form step by step, into what XLA does not
# fuse: 3 to 6 times the memory traffic of the form itself on TPU, and more on CPU for
# adjacent pairs. But the transpose of a rotation is the rotation by the opposite
# angles: the same form once more.
@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _rotate(layout, x, cos, sin):
    return _linear_in_x(layout, x, cos, sin)


def _tangent(layout, primals, tangents):
    x, cos, sin = primals
    dx, *dangles = tangents
    missing = lambda tangent: isinstance(tangent, jax.custom_derivatives.SymbolicZero)
    filled = lambda like, d: jnp.zeros_like(like) if missing(d) else d
    turned = jnp.zeros_like(x) if missing(dx) else _rotate(layout, dx, cos, sin)
    if not all(map(missing, dangles)):
        # Learned frequencies and float positions. A rotation is linear in its angles'
        # cosines and sines, too.
        dcos, dsin = map(filled, (cos, sin), dangles)
        still = jnp.zeros_like(x[..., 2 * cos.shape[-1] :])
        rotated = x[..., : 2 * cos.shape[-1]]
        moved = _plain(layout, rotated, dcos, dsin)
        turned = turned + jnp.concatenate([moved, still], axis=-1)
    return _rotate(layout, x, cos, sin), turned


_rotate.defjvp(_tangent, symbolic_zeros=True)


def _linear_in_x(layout, x, cos, sin):
    # This is how JAX is told the transpose of a linear map in a way that `jax.vmap`,
    # `jax.jvp` and `jax.grad` of each other understand: rotated vectors solve what
    # turning back says. The latter is never computed but in derivatives of derivatives.
    def back(y):
        square = cos**2 + sin**2
        return _plain(layout, y, cos / square, -sin / square)

    return jax.lax.custom_linear_solve(
        back,
        x,
        solve=lambda _, b: _of_platform(layout, b, cos, sin),
        transpose_solve=lambda _, b: _of_platform(layout, b, cos, -sin),
    )


def _of_platform(layout, x, cos, sin):
    if layout == "halves":
        forms = dict(cpu=_halves_on_cpu, tpu=_halves_on_tpu, default=_halves)
    else:
        forms = dict(cpu=_adjacent_on_cpu, tpu=_adjacent_on_tpu, default=_adjacent)
    return jax.lax.platform_dependent(x, cos, sin, **forms)


def _plain(layout, x, cos, sin):
    return (_halves if layout == "halves" else _adjacent)(x, cos, sin)


def _halves(x, cos, sin):
    """A concatenation, the plainest form: what GPUs are given."""
    pairs = cos.shape[-1]
    wide = x[..., : 2 * pairs].astype(cos.dtype)
    a, b = wide[..., :pairs], wide[..., pairs:]
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return _with_rest(turned.astype(x.dtype), x)


def _adjacent(x, cos, sin):
    wide = x[..., : 2 * cos.shape[-1]].astype(cos.dtype)
    a, b = _pairs(wide)
    turned = jnp.stack([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return _with_rest(turned.reshape(wide.shape).astype(x.dtype), x)


def _halves_on_cpu(x, cos, sin):
    # XLA on CPU runs a concatenation as separate passes on one thread, and a choice of
    # two padded halves as one pass on all: 3 to 4 times faster on large arrays.
    pairs = cos.shape[-1]
    rest = x.shape[-1] - 2 * pairs
    # Cast before slicing: the other way round takes bfloat16 ten times as long.
    wide = x.astype(cos.dtype)
    a, b = wide[..., :pairs], wide[..., pairs : 2 * pairs]
    lower = _pad(a * cos - b * sin, 0, pairs + rest)
    upper = _pad(b * cos + a * sin, pairs, rest)
    channel = _channel(x)
    turned = jnp.where(channel < pairs, lower, upper).astype(x.dtype)
    return jnp.where(channel < 2 * pairs, turned, x) if rest else turned


def _adjacent_on_cpu(x, cos, sin):
    if x.dtype != cos.dtype:
        # Where there is a cast, XLA would run the form below element by element.
        return _adjacent(x, cos, sin)
    wide = x[..., : 2 * cos.shape[-1]]
    a, b = (part[..., None] for part in _pairs(wide))
    turned = a * jnp.stack([cos, sin], axis=-1) + b * jnp.stack([-sin, cos], axis=-1)
    return _with_rest(turned.reshape(wide.shape), x)


def _halves_on_tpu(x, cos, sin):
    pairs = cos.shape[-1]
    spread = lambda a, b: jnp.concatenate([a, b], axis=-1)
    return _exchanging(x, cos, sin, pairs, _channel(x) < pairs, spread)


def _adjacent_on_tpu(x, cos, sin):
    spread = lambda a, b: jnp.stack([a, b], axis=-1).reshape(*a.shape[:-1], -1)
    return _exchanging(x, cos, sin, 1, _channel(x) % 2 == 0, spread)


def _exchanging(x, cos, sin, distance, is_first, spread):
    # XLA on TPU fuses a shift of the channels, and neither a concatenation of halves
    # nor a reshape to pairs, which take 3 to 6 times the memory traffic. Shifted before
    # the cast, there is half as much to move in bfloat16.
    after, before = _pad(x, -distance, distance), _pad(x, distance, -distance)
    partner = jnp.where(is_first, after, before).astype(cos.dtype)
    width = 2 * cos.shape[-1]
    rest = x.shape[-1] - width
    of_self, of_partner = (
        _pad(table, 0, rest) for table in (spread(cos, cos), spread(-sin, sin))
    )
    turned = x.astype(cos.dtype) * of_self + partner * of_partner
    turned = turned.astype(x.dtype)
    return jnp.where(_channel(x) < width, turned, x) if rest else turned


def _pad(x, before, after):
    widths = [(0, 0, 0)] * (x.ndim - 1) + [(before, after, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), widths)


def _channel(x):
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)


def _pairs(x):
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return pairs[..., 0], pairs[..., 1]


def _with_rest(turned, x):
    width = turned.shape[-1]
    if width == x.shape[-1]:
        return turned
    return jnp.concatenate([turned, x[..., width:]], axis=-1)
