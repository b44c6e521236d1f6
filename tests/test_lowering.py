"""How rotations are lowered: one map in many forms, which differentiates as itself."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._rotary import _lowering


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
    general = getattr(pe.Pairing, layout)(DIM, width)
    return [
        pe.rope(DIM, pairing=pairing, rotary_dim=width) for pairing in (layout, general)
    ]


def vectors(*shape, seed=0):
    return jr.normal(jr.key(seed), (*shape, 4, DIM))


@every_width
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_is_the_formula(name, dtype, width):
    form = getattr(_lowering, name)
    rotation = pair(name.split("_")[1], width)[1](POSITIONS)
    x = vectors().astype(dtype)
    if width < DIM:
        # What passes through does so bit for bit.
        x = x.at[0, 12].set(-0.0).at[1, 12].set(jnp.inf).at[2, 12].set(jnp.nan)
    turned = form(x, rotation.cos, rotation.sin)
    assert turned.dtype == dtype
    bits = lambda y: jax.lax.bitcast_convert_type(y[:, width:], jnp.uint8)
    assert jnp.array_equal(bits(turned), bits(x))
    wide = [y[:, :width].astype(jnp.float32) for y in (turned, rotation.queries(x))]
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
