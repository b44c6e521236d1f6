"""The form of a rotation on each platform. All forms give the same numbers."""

import jax
import jax.extend
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from .._sharding import compiler_sharded, mesh_axes, vary_over, varying
from ._pairing import Layout


def rotate(
    x: Float[Array, "*heads seq dim"],
    cos: Float[Array, "*heads_or_ones seq pairs"],
    sin: Float[Array, "*heads_or_ones seq pairs"],
    layout: Layout,
) -> Float[Array, "*heads seq dim"]:
    """Rotates the first channels of `x`, in pairs of the given layout. Channels without
    an angle pass through.

    The result is computed in the dtype of `cos` and `sin`, and rounded to the dtype of
    `x`.
    """
    return _rotation.bind(_varying_as(x, cos, sin), cos, sin, layout=layout)


def _of_platform(x, cos, sin, *, layout):
    if layout == "halves":
        forms = dict(cpu=_halves_on_cpu, tpu=_halves_on_tpu, default=_halves)
    else:
        forms = dict(cpu=_adjacent_on_cpu, tpu=_adjacent_on_tpu, default=_adjacent)
    # A program that is exported for several platforms contains the form of each.
    call = lambda *arrays: jax.lax.platform_dependent(*arrays, **forms)
    return compiler_sharded(call, mesh_axes(x), x, cos, sin)


# The rotation is a primitive. Otherwise JAX would differentiate each form step by step,
# and XLA would not fuse the result. That takes 3 to 6 times the memory traffic on TPU,
# and more on CPU for adjacent pairs. `jax.vmap` would also move its axes to the front,
# with two transposed copies where heads follow tokens.
_rotation = jax.extend.core.Primitive("rotation")
_rotation.def_impl(jax.jit(_of_platform, static_argnames="layout"))
_rotation.def_abstract_eval(lambda x, cos, sin, *, layout: x)
mlir.register_lowering(_rotation, mlir.lower_fun(_of_platform, multiple_results=False))


def _batched(arguments, axes, *, layout):
    (x, *tables), (axis, *table_axes) = arguments, axes
    # Positions may have a batch where tokens have none.
    if axis is None:
        pairs = zip(tables, table_axes, strict=True)
        (size,) = {table.shape[i] for table, i in pairs if i is not None}
        x, axis = jnp.broadcast_to(x, (size, *x.shape)), 0
    elif axis == x.ndim - 1:  # Channels stay last.
        x, axis = jnp.moveaxis(x, axis, 0), 0

    def aligned(table, i):
        if i is None:
            return jnp.expand_dims(table, axis)
        return jnp.moveaxis(table, i, axis)

    # Cosines and sines need one shape, even if only one of them is mapped over.
    cos, sin = jnp.broadcast_arrays(*map(aligned, tables, table_axes))
    return _rotation.bind(x, cos, sin, layout=layout), axis


batching.primitive_batchers[_rotation] = _batched


def _tangent(primals, tangents, *, layout):
    x, cos, sin = primals
    dx, *dtables = tangents
    missing = lambda tangent: isinstance(tangent, ad.Zero)
    if not missing(dx):
        # A rotation is linear in `x`, so it rotates a tangent as well.
        dx = _rotation.bind(dx, cos, sin, layout=layout)
    if not all(map(missing, dtables)):
        # Learned frequencies and float positions need this derivative. A rotation is
        # linear in its cosines and sines as well.
        width = 2 * cos.shape[-1]
        moved = _plain(layout, x[..., :width], *map(ad.instantiate_zeros, dtables))
        moved = jnp.concatenate([moved, jnp.zeros_like(x[..., width:])], axis=-1)
        dx = moved if missing(dx) else dx + moved
    return _rotation.bind(x, cos, sin, layout=layout), dx


ad.primitive_jvps[_rotation] = _tangent


def _transposed(cotangent, x, cos, sin, *, layout):
    """The transpose of a rotation is the rotation by the opposite angles."""
    if isinstance(cotangent, ad.Zero):
        return ad.Zero(x.aval), None, None
    return _rotation.bind(cotangent, cos, -sin, layout=layout), None, None


ad.primitive_transposes[_rotation] = _transposed


def _varying_as(x, *others):
    """The array `x`, varying over the same mesh axes as the others under
    `jax.shard_map`."""
    return vary_over(x, frozenset[str]().union(*map(varying, others)))


def _plain(layout, x, cos, sin):
    return (_halves if layout == "halves" else _adjacent)(x, cos, sin)


def _halves(x, cos, sin):
    """A concatenation of halves, for GPUs."""
    pairs = cos.shape[-1]
    wide = x[..., : 2 * pairs].astype(cos.dtype)
    a, b = wide[..., :pairs], wide[..., pairs:]
    turned = jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return _with_rest(turned.astype(x.dtype), x)


def _adjacent(x, cos, sin):
    wide = x[..., : 2 * cos.shape[-1]].astype(cos.dtype)
    a, b = _pairs(wide)
    turned = _interleaved(a * cos - b * sin, b * cos + a * sin)
    return _with_rest(turned.astype(x.dtype), x)


def _halves_on_cpu(x, cos, sin):
    # XLA on CPU runs a concatenation as separate passes on one thread. A `select` of
    # two padded halves is one pass on all threads, and 3 to 4 times faster on large
    # arrays.
    pairs = cos.shape[-1]
    rest = x.shape[-1] - 2 * pairs
    # The cast comes before the slices. The other order takes ten times as long in
    # bfloat16.
    wide = x.astype(cos.dtype)
    a, b = wide[..., :pairs], wide[..., pairs : 2 * pairs]
    lower = _pad(a * cos - b * sin, 0, pairs + rest)
    upper = _pad(b * cos + a * sin, pairs, rest)
    channel = _channel(x)
    turned = jnp.where(channel < pairs, lower, upper).astype(x.dtype)
    return jnp.where(channel < 2 * pairs, turned, x) if rest else turned


def _adjacent_on_cpu(x, cos, sin):
    # A `select` of the next and the previous channel is vectorized. Stacking pairs
    # again runs element by element, and takes twice as long in bfloat16.
    wide = x.astype(cos.dtype)
    is_first = _channel(x) % 2 == 0
    partner = jnp.where(is_first, _pad(wide, -1, 1), _pad(wide, 1, -1))
    width = 2 * cos.shape[-1]
    rest = x.shape[-1] - width
    tables = jnp.stack([_interleaved(cos, cos), _interleaved(-sin, sin)])
    # The barrier materializes the widened tables. Fused, widening took longer than the
    # rotation.
    own, other = jax.lax.optimization_barrier(_pad(tables, 0, rest))
    turned = (wide * own + partner * other).astype(x.dtype)
    return jnp.where(_channel(x) < width, turned, x) if rest else turned


def _halves_on_tpu(x, cos, sin):
    pairs = cos.shape[-1]
    is_first = lambda channel: channel < pairs
    return _exchanging(x, cos, sin, pairs, is_first, lambda channel: channel % pairs)


def _adjacent_on_tpu(x, cos, sin):
    is_first = lambda channel: channel % 2 == 0
    return _exchanging(x, cos, sin, 1, is_first, lambda channel: channel // 2)


def _exchanging(x, cos, sin, distance, is_first, pair):
    # XLA on TPU fuses a shift of the channels. It does not fuse a concatenation of
    # halves or a reshape to pairs, which take 3 to 6 times the memory traffic. Shifting
    # before the cast halves the traffic in bfloat16.
    after, before = _pad(x, -distance, distance), _pad(x, distance, -distance)
    partner = jnp.where(is_first(_channel(x)), after, before).astype(cos.dtype)
    width = 2 * cos.shape[-1]
    rest = x.shape[-1] - width
    # An exact product with ones and zeros gives a table the width and the memory layout
    # of `x`. Other ways copy the table twice.
    channel = jnp.arange(width)
    spread = pair(channel)[None] == jnp.arange(cos.shape[-1])[:, None]

    def wide(table, signs):
        matrix = jnp.where(spread, signs[None], 0).astype(table.dtype)
        precise = jax.lax.Precision.HIGHEST
        return _pad(
            jnp.einsum("...p,pc->...c", table, matrix, precision=precise), 0, rest
        )

    own = wide(cos, jnp.ones_like(channel))
    other = wide(sin, jnp.where(is_first(channel), -1, 1))
    turned = (x.astype(cos.dtype) * own + partner * other).astype(x.dtype)
    return jnp.where(_channel(x) < width, turned, x) if rest else turned


def _pad(x, before, after):
    widths = [(0, 0, 0)] * (x.ndim - 1) + [(before, after, 0)]
    return jax.lax.pad(x, jnp.zeros((), x.dtype), widths)


def _channel(x):
    return jax.lax.broadcasted_iota(jnp.int32, x.shape, x.ndim - 1)


def _pairs(x):
    pairs = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 2)
    return pairs[..., 0], pairs[..., 1]


def _interleaved(a, b):
    pairs = jnp.stack([a, b], axis=-1)
    return pairs.reshape(*a.shape[:-1], 2 * a.shape[-1])


def _with_rest(turned, x):
    width = turned.shape[-1]
    if width == x.shape[-1]:
        return turned
    return jnp.concatenate([turned, x[..., width:]], axis=-1)
