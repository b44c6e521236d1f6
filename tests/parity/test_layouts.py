"""Weights that go from one pairing to another."""

import hypothesis as hp
import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb.interop.layouts import adjacent_to_halves, halves_to_adjacent
from tests.parity.references import run


few = hp.settings(max_examples=25, deadline=None)


def _normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


heads_and_widths = st.tuples(
    st.integers(1, 4), st.sampled_from([(8, 8, 0), (8, 4, 0), (12, 6, 4), (6, 2, 4)])
)


def projected(q_weight, k_weight, x, heads, kv_heads, rope):
    """Logits of a grouped attention whose projections are these."""
    split = lambda w, n: np.einsum("hed,sd->hse", w.reshape(n, -1, x.shape[1]), x)
    q, k = split(q_weight, heads), split(k_weight, kv_heads)
    embedding = pe.PositionalEmbedding(rotary=rope)
    p = np.array([0, 1, 5, 9, 100])
    return run(embedding.logits, q, k, p, p)


@few
@hp.given(heads_and_widths)
def test_there_and_back_is_the_identity(case):
    heads, (dim, rotary_dim, start) = case
    weight = np.arange(heads * dim * 3).reshape(heads * dim, 3)
    settings = dict(heads=heads, rotary_dim=rotary_dim, start=start)
    there = adjacent_to_halves(weight, **settings)
    assert np.array_equal(halves_to_adjacent(there, **settings), weight)
    assert np.array_equal(adjacent_to_halves(jnp.asarray(weight), **settings), there)
    # Rows are moved whole, and only those that are rotated.
    assert sorted(there[:, 0]) == sorted(weight[:, 0])
    still = np.r_[:start, start + rotary_dim : dim]
    by_head = lambda w: w.reshape(heads, dim, 3)[:, still]
    assert np.array_equal(by_head(there), by_head(weight))


@pytest.mark.parametrize("rotary_dim", [8, 4])
def test_logits_do_not_change(rotary_dim):
    heads, kv_heads, dim = 4, 2, 8
    q, k = _normal(heads * dim, 16), _normal(kv_heads * dim, 16, seed=1)
    x = _normal(5, 16, seed=2) / 4
    rope = lambda pairing: pe.rope(dim, pairing=pairing, rotary_dim=rotary_dim)
    adjacent = projected(q, k, x, heads, kv_heads, rope("adjacent"))
    convert = lambda w, n: adjacent_to_halves(w, heads=n, rotary_dim=rotary_dim)
    halves = projected(
        convert(q, heads), convert(k, kv_heads), x, heads, kv_heads, rope("halves")
    )
    mixed = projected(q, k, x, heads, kv_heads, rope("halves"))
    # The sums of a product are in another order.
    np.testing.assert_allclose(halves, adjacent, atol=1e-5)
    assert np.max(np.abs(mixed - adjacent)) > 0.1


def test_it_is_the_permutation_of_the_llama_converter():
    weight = np.random.default_rng(0).normal(size=(4 * 8, 16))
    # As transformers' converter has it: reshape, transpose, reshape.
    theirs = weight.reshape(4, 4, 2, 16).transpose(0, 2, 1, 3).reshape(32, 16)
    assert np.array_equal(adjacent_to_halves(weight, heads=4), theirs)


def test_a_projection_that_does_not_fit_says_so():
    with pytest.raises(ValueError, match="`heads` must divide the rows of `weight`"):
        adjacent_to_halves(np.ones((10, 2)), heads=4)
    with pytest.raises(ValueError, match="`rotary_dim` channels from `start` on"):
        adjacent_to_halves(np.ones((8, 2)), heads=1, rotary_dim=8, start=2)


PAIRINGS = {
    "halves": "halves",
    "adjacent": "adjacent",
    "adjacent_to_halves": pe.rotations.Pairing.adjacent_to_halves(8, 4, start=2),
    "inverse": pe.rotations.Pairing.halves(8).inverse(),
}


@pytest.mark.parametrize("name", PAIRINGS)
def test_rotated_keys_may_be_moved(name):
    pairing = PAIRINGS[name]
    width = 4 if name == "adjacent_to_halves" else 8
    ropes = [
        pe.rope(8, pairing=pairing, rotary_dim=width),
        pe.Rotary(pe.frequencies.Geometric(width), dim=8, pairing=pairing, scale=1.3),
    ]
    if isinstance(pairing, str):
        ropes.append(pe.xpos(8, pairing=pairing, center=50, scale_base=64))
    k, p = _normal(6, 8), np.array([3, 40, 7, 100, 0, 9])
    by = np.array([-3, 100_000, 0, -100, 12, 1]) % 200

    def moved(ropes, p, by, k):
        return [
            (rope.shift(by).keys(rope(p).keys(k)), rope(p + by).keys(k))
            for rope in ropes
        ]

    for ours, there in run(moved, ropes, p, by, k):
        # Three roundings of cos and sin, of channels up to 3.
        np.testing.assert_allclose(ours, there, atol=3e-6)


def test_the_inverse_of_a_pairing_turns_back():
    k, p = _normal(3, 8), np.array([1, 20, 300])
    forth = pe.rope(8, pairing=pe.rotations.Pairing.adjacent(8))
    back = pe.rope(8, pairing=pe.rotations.Pairing.adjacent(8).inverse())
    turned = run(lambda p, k: back(p).keys(forth(p).keys(k)), p, k)
    np.testing.assert_allclose(turned, k, atol=1e-6)
