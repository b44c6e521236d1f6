"""PoPE, FoPE, LieRE and STRING, against the formulas of their papers in float64.

NumPy and SciPy, pair by pair; no released code of them is at hand here. GRAPE-M is
compared with `model/llama-mha-grape-m-nonctx.py` of model-architectures/GRAPE at
f5b539f, which turns the other way, and ComRoPE with `model.py` of Longin-Yu/ComRoPE at
7aeef08.
"""

import equinox as eqx
import jax
import numpy as np
import pytest
import scipy.linalg

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    assert_close,
    golden,
    on_device,
    replaced,
    run,
)


RNG = np.random.default_rng(0)
HEADS, DIM = 2, 8
Q = RNG.normal(size=(HEADS, 3, DIM)).astype(np.float32)
K = RNG.normal(size=(HEADS, 4, DIM)).astype(np.float32)
# Sums of 8 to 16 products of numbers up to 3, with cosines known to 1e-7.
CLOSE = 1e-5


def logits(rotary, q_positions, k_positions):
    embedding = pe.PositionalEmbedding(rotary=rotary, scale=1.0)
    return run(embedding.logits, Q, K, q_positions, k_positions)


def drawn(make, *args, **settings):
    """A module with the weights that it starts with."""
    draw = lambda: make(*args, **settings, key=jax.random.key(0))
    return on_device(run(draw))


def by_pairs(function):
    """The logits [heads, q, k] of a function of head, query and key."""
    out = np.zeros((HEADS, 3, 4))
    for h, i, j in np.ndindex(out.shape):
        out[h, i, j] = function(h, i, j)
    return out


def test_pope_is_its_sum_over_channels():
    p, r = np.array([3, 0, 900]), np.array([1, 7, 2, 1000])
    phase = RNG.uniform(-2 * np.pi, 0, size=(HEADS, DIM)).astype(np.float32)
    rotary = replaced(pe.PoPE(DIM, heads=HEADS, theta=100.0), phase=phase)
    softplus = lambda x: np.log1p(np.exp(x.astype(np.float64)))
    omega = 100.0 ** (-np.arange(DIM) / DIM)

    def pair(h, i, j):
        angle = (r[j] - p[i]) * omega + phase[h]
        return np.sum(softplus(Q[h, i]) * softplus(K[h, j]) * np.cos(angle))

    assert_close(logits(rotary, p, r), by_pairs(pair), atol=CLOSE)


@pytest.mark.parametrize("pairing", ["halves", "adjacent"])
def test_fope_is_a_mixture_of_frequencies(pairing):
    p, r = np.array([3, 0, 90]), np.array([1, 7, 2, 100])
    settings = dict(heads=HEADS, length=100.0, theta=1000.0)
    rotary = drawn(pe.FoPE, DIM, **settings, pairing=pairing)
    omega = 1000.0 ** (-np.arange(DIM // 2) * 2 / DIM)
    kept = int((omega >= 2 * np.pi / 100).sum())
    assert rotary.cosines.shape == (HEADS, kept, kept) and 0 < kept < DIM // 2

    cosines, sines = as_numpy(rotary.cosines), as_numpy(rotary.sines)

    def turned(x, h, position) -> np.ndarray:
        cos, sin = np.ones(DIM // 2), np.zeros(DIM // 2)
        for i in range(kept):
            angles = position * omega[:kept]
            cos[i] = np.cos(angles) @ cosines[h, :, i]
            sin[i] = np.sin(angles) @ sines[h, :, i]
        a, b = np.split(x, 2) if pairing == "halves" else (x[::2], x[1::2])
        return np.concatenate([a * cos - b * sin, b * cos + a * sin])

    pair = lambda h, i, j: turned(Q[h, i], h, p[i]) @ turned(K[h, j], h, r[j])
    assert_close(logits(rotary, p, r), by_pairs(pair), atol=5e-5)


def test_grape_rotates_at_learned_frequencies():
    given = golden("grape")
    clockwise = pe.rotations.Pairing.halves(16).inverse()
    rotary = pe.grape_rope(16, pairing=clockwise)
    place = lambda part: part.frequencies.weight
    rotary = eqx.tree_at(place, rotary, on_device(given["weight"]))
    embedding = pe.PositionalEmbedding(rotary=rotary, scale=1.0)
    p = np.arange(20)
    found = run(embedding.logits, given["q"], given["k"], p, p)
    # Frequencies of up to 4 radians, times 19: an ulp is 8e-6, of sums of 16 products.
    assert_close(found, given["logits"], atol=1e-4)


@pytest.mark.parametrize("block", [2, 4, 8])
def test_liere_is_the_exponential_of_a_skew_matrix(block):
    p = RNG.uniform(-3, 3, size=(3, 2)).astype(np.float32)
    r = RNG.uniform(-3, 3, size=(4, 2)).astype(np.float32)
    rotary = drawn(pe.LieRE, DIM, block=block)
    generators = as_numpy(rotary.generators).astype(np.float64)

    def matrix(position):
        skew = generators - np.swapaxes(generators, -1, -2)
        sums = np.einsum("k,kbij->bij", position, skew)
        blocks = [scipy.linalg.expm(part) for part in sums]
        return np.asarray(scipy.linalg.block_diag(*blocks))

    pair = lambda h, i, j: (matrix(p[i]) @ Q[h, i]) @ (matrix(r[j]) @ K[h, j])
    # The exponential squares a matrix of norm up to 12 four times, in float32.
    assert_close(logits(rotary, p, r), by_pairs(pair), atol=1e-4)


# JAX's exponential of a float32 matrix of norm 7 or 16 is off by 3e-7 or 9e-6, and a
# logit is the sum of 8 products of two turned numbers up to 3.
@pytest.mark.parametrize("kind, close", [("axial", 3e-5), ("dependent", 5e-4)])
def test_comrope_is_the_attention_of_the_authors(kind, close):
    given = golden("comrope")
    part = lambda name: given[f"{kind}_{name}"]
    heads, _, dim = part("q").shape
    made = drawn(pe.ComRoPE, dim, heads=heads, block=4, kind=kind)
    made = replaced(made, generators=part("generators"))
    if kind == "dependent":
        made = replaced(made, rates=part("rates"))
    embedding = pe.PositionalEmbedding(rotary=made, scale=1.0)
    at = given["positions"]
    found = run(embedding.logits, part("q"), part("k"), at, at)
    assert_close(found, part("logits"), atol=close)


@pytest.mark.parametrize("kind", ["axial", "dependent"])
def test_comrope_depends_on_differences_alone(kind):
    p = RNG.uniform(0, 1, size=(4, 2)).astype(np.float32)
    made = drawn(pe.ComRoPE, DIM, heads=HEADS, block=4, kind=kind, std=0.3)
    moved = logits(made, p[:3] + np.float32([0.5, -2]), p + np.float32([0.5, -2]))
    assert_close(moved, logits(made, p[:3], p), atol=1e-4)


def test_string_is_rope_in_an_orthogonal_basis():
    p = RNG.integers(-30, 30, size=(3, 2))
    r = RNG.integers(-30, 30, size=(4, 2))
    rotary = drawn(pe.string_rope, DIM, std=0.5)
    generator = as_numpy(rotary.parts[0].generator).astype(np.float64)
    skew, one = generator - generator.T, np.eye(DIM)
    basis = (one - skew) @ np.linalg.inv(one + skew)
    assert_close(run(lambda r: r.parts[0].basis, rotary), basis, atol=1e-6)
    np.testing.assert_allclose(basis @ basis.T, one, atol=1e-12)
    omega = 10_000.0 ** (-np.arange(2) * 2 / 4)

    def matrix(position):
        angles = np.concatenate([position[0] * omega, position[1] * omega])
        cos, sin = np.diag(np.cos(angles)), np.diag(np.sin(angles))
        return np.block([[cos, -sin], [sin, cos]]) @ basis

    pair = lambda h, i, j: (matrix(p[i]) @ Q[h, i]) @ (matrix(r[j]) @ K[h, j])
    assert_close(logits(rotary, p, r), by_pairs(pair), atol=CLOSE)
