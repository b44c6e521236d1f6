"""Rotations of values and of outputs, and inverse rotations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import normal


SEQ, DIM, HEADS = 6, 16, 2
P = jnp.arange(3, 3 + SEQ)
PERMUTED = pe.rotations.Pairing.adjacent_to_halves(DIM)
ROTARY = {
    "halves": pe.rope(DIM),
    "adjacent": pe.rope(DIM, pairing="adjacent"),
    "some channels": pe.rope(DIM, rotary_dim=8),
    "permuted": pe.rope(DIM, pairing=PERMUTED),
    "scaled": pe.yarn(DIM, factor=4.0, original_length=64),
    "xpos": pe.xpos(DIM),
    "for each head": pe.FoPE(DIM, heads=HEADS, length=64, key=jax.random.key(0)),
    "basis": pe.rotations.Cayley(DIM, key=jax.random.key(1)),
    "chain": pe.rotations.Chain(
        (
            pe.rotations.Cayley(DIM, key=jax.random.key(1)),
            pe.rope(DIM),
            pe.Temperature(beta=0.1, length=4),
        )
    ),
    "none": pe.NoPE(),
}


@pytest.mark.parametrize("rotary", ROTARY.values(), ids=ROTARY)
def test_an_inverse_undoes_queries_and_keys(rotary):
    x, rotation = normal((HEADS, SEQ, DIM)), rotary(P)
    inverse = rotation.inverse()
    for there, back in (
        (rotation.queries, inverse.queries),
        (rotation.keys, inverse.keys),
        (rotation.values, rotation.outputs),
    ):
        np.testing.assert_allclose(back(there(x)), x, atol=2e-5)


@pytest.mark.parametrize("name", ["halves", "permuted", "scaled", "xpos", "chain"])
def test_outputs_depend_on_relative_positions(name):
    rotary = ROTARY[name]
    weights = jax.nn.softmax(normal((HEADS, SEQ, SEQ), seed=2))
    v = normal((HEADS, SEQ, DIM), seed=3)

    def outputs(start):
        rotation = rotary(P + start)
        return rotation.outputs(weights @ rotation.values(v))

    np.testing.assert_allclose(outputs(0), outputs(40), atol=2e-5)


def test_values_of_documents_have_the_inverse_of_each_token():
    """A length for each token, which a dynamic schedule reads."""
    from eqx_posemb._rotary import in_lengths

    rotary = pe.dynamic_ntk_rope(DIM, factor=2.0, original_length=4)
    rotation = in_lengths(rotary, P, jnp.asarray([4, 4, 4, 20, 20, 20]))
    v = normal((HEADS, SEQ, DIM))
    np.testing.assert_allclose(rotation.outputs(rotation.values(v)), v, atol=2e-6)


def test_what_is_no_rotation_says_so():
    polar = pe.PoPE(DIM, heads=HEADS)(P)
    with pytest.raises(ValueError, match=r"`PolarRotation` has no inverse.*rope"):
        polar.outputs(normal((HEADS, SEQ, DIM)))
