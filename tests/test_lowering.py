"""How rotations are lowered: one map in many forms, which differentiates as itself."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._rotary import _lowering
from tests.helpers import normal


DIM, POSITIONS = 16, jnp.array([1, 5, 100, 31])
FORMS = [
    f"_{layout}{platform}"
    for layout in ("halves", "adjacent")
    for platform in ("", "_on_cpu", "_on_tpu")
]
every_layout = pytest.mark.parametrize("layout", ["halves", "adjacent"])
every_width = pytest.mark.parametrize("width", [DIM, 8])


def pair(layout, width):
    """The fast form, and the formula for any layout, which JAX differentiates."""
    general = getattr(pe.rotations.Pairing, layout)(DIM, width)
    return [
        pe.rope(DIM, pairing=pairing, rotary_dim=width) for pairing in (layout, general)
    ]


def vectors(*shape, seed=0):
    return normal((*shape, 4, DIM), seed=seed)


@every_width
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_formula(name, dtype, width):
    form = getattr(_lowering, name)
    general = pair(name.split("_")[1], width)[1]
    x = np.array(vectors()).astype(dtype)
    if width < DIM:
        # What passes through does so bit for bit.
        x[0, 12], x[1, 12], x[2, 12] = -0.0, np.inf, np.nan

    @jax.jit
    def both(x, p):
        rotation = general(p)
        tables = jax.lax.optimization_barrier((rotation.cos, rotation.sin))
        rotation = eqx.tree_at(lambda r: (r.cos, r.sin), rotation, tables)
        return form(x, *tables), rotation.queries(x)

    turned, formula = map(np.asarray, both(x, POSITIONS))
    assert turned.dtype == dtype
    bits = lambda y: np.ascontiguousarray(y[:, width:]).view(np.uint8)
    assert np.array_equal(bits(turned), bits(x))
    wide = [y[:, :width].astype(np.float32) for y in (turned, formula)]
    # XLA may contract a product and a sum, which may tip a rounding to bfloat16.
    ulp = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(*wide, rtol=ulp, atol=5e-7)


@every_layout
@every_width
def test_derivatives_of_every_kind_are_those_of_the_formula(layout, width):
    x, along, p = vectors(2), vectors(2, seed=1), POSITIONS.astype(jnp.float32)

    def derivatives(rope):
        def of(x, p):
            return jnp.sum(jnp.sin(jax.vmap(rope(p).queries)(x)))

        gradient = jax.grad(of, argnums=(0, 1))
        forward = lambda f: jax.jvp(f, (x, p), (along, jnp.ones_like(p)))
        backward = lambda x, p: jnp.sum(gradient(x, p)[0] * along)
        return (
            gradient(x, p),
            forward(of),
            forward(gradient),
            forward(lambda x, p: forward(of)[1] + jax.jvp(of, (x, p), (x, p))[1]),
            jax.grad(backward, argnums=(0, 1))(x, p),
        )

    fast, formula = (jax.jit(lambda r=r: derivatives(r))() for r in pair(layout, width))
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(formula), strict=True):
        # A sum of a hundred terms, of size up to 2, rounded in another order.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@every_layout
def test_the_gradient_is_the_same_program_with_the_angles_turned(layout):
    rotation = pe.rope(DIM, pairing=layout)(POSITIONS)
    turn = lambda x: jax.vmap(rotation.queries)(x)
    back = lambda x: jax.vjp(turn, x)[1](x)[0]
    x = vectors(2).astype(jnp.bfloat16)
    for platform in "cpu", "tpu", "cuda":
        forward, backward = (
            jax.export.export(jax.jit(f), platforms=[platform])(x).mlir_module()
            for f in (turn, back)
        )
        # Left to itself JAX adds up what the steps of a form give back, one by one.
        for operation in "pad", "concatenate", "convert", "add", "select":
            counts = [
                text.count(f"stablehlo.{operation} ") for text in (forward, backward)
            ]
            assert counts[0] == counts[1], operation


@every_layout
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_batches_along_any_axis_are_rotated_one_by_one(layout, axis):
    x, rotation = vectors(3), pe.rope(DIM, pairing=layout)(POSITIONS)
    # Without `jit`, where XLA may contract a product and a sum in one of the two.
    expected = np.stack([rotation.queries(part) for part in x])
    laid = jnp.asarray(np.moveaxis(x, 0, axis))
    turned = jax.vmap(rotation.queries, in_axes=axis, out_axes=axis)(laid)
    np.testing.assert_array_equal(np.moveaxis(turned, axis, 0), expected)


@every_layout
@pytest.mark.parametrize("of_x", [None, 0, 1])
def test_batches_of_positions_are_rotated_one_by_one(layout, of_x):
    rope, x = pe.rope(DIM, pairing=layout), vectors(2)
    p = jnp.stack([POSITIONS, POSITIONS + 7])
    parts = [x[0], x[0]] if of_x is None else x
    given = x[0] if of_x is None else jnp.moveaxis(x, 0, of_x)

    def assert_mapped(turn, along):
        turned = jax.jit(jax.vmap(turn, in_axes=(0, of_x)))(along, given)
        turn = jax.jit(turn)
        expected = [turn(a, b) for a, b in zip(along, parts, strict=True)]
        np.testing.assert_array_equal(turned, np.stack(expected))

    assert_mapped(lambda p, x: rope(p).queries(x), p)
    # And where what is mapped over is cosines alone, or sines alone.
    rotation = rope(POSITIONS)
    for name in "cos", "sin":
        table = getattr(rotation, name)

        def with_table(table, x, name=name):
            where = lambda rotation: getattr(rotation, name)
            return eqx.tree_at(where, rotation, table).queries(x)

        assert_mapped(with_table, jnp.stack([table, 2 * table]))


@every_layout
def test_heads_after_tokens_are_not_moved_before_them(layout):
    """Two transposed copies of every array, which XLA does not always fuse."""
    rotation = pe.rope(DIM, pairing=layout)(POSITIONS)
    x = jnp.moveaxis(vectors(2, 3), 1, 2)  # [batch, seq, heads, dim]
    turn = jax.vmap(jax.vmap(rotation.queries, in_axes=1, out_axes=1))
    both = lambda x, g: (turn(x), jax.vjp(turn, x)[1](g))
    assert "stablehlo.transpose" not in jax.jit(both).lower(x, x).as_text()


@every_layout
def test_tokens_that_all_devices_share_take_positions_that_they_do_not(layout):
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rope, x = pe.rope(DIM, pairing=layout), vectors()
    spec = jax.sharding.PartitionSpec

    def turn(out):
        here = lambda x, p: rope(p).queries(x)
        specs = spec(), spec("data")
        return jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=out)

    found = jax.jit(turn(spec("data")))(x, POSITIONS)
    expected = jax.jit(lambda x, p: rope(p).queries(x))(x, POSITIONS)
    np.testing.assert_array_equal(found, expected)
    # Or the gradient by `x` would not be summed over devices.
    with pytest.raises(ValueError, match="out_specs"):
        jax.eval_shape(turn(spec()), x, POSITIONS)


@every_layout
def test_angles_are_computed_once_for_all_heads(layout):
    """XLA would do so for each head, as part of its rotation, and take ten times as
    long; what keeps it from that depends on the order of its passes."""
    rope = pe.rope(DIM, pairing=layout)
    turn = jax.jit(lambda x, p: jax.vmap(rope(p).queries)(x))
    x, p = jnp.ones((8, 64, DIM)), jnp.arange(64)
    fused = turn.lower(x, p).compile().as_text().split("\n}\n")
    # The angles' integers are shifted; the heads are where the queries are.
    of_angles = [text for text in fused if "shift-right-logical(" in text]
    assert of_angles
    assert not any("f32[8,64," in text for text in of_angles)
