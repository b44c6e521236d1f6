"""Biases against the formulas of their papers, pair by pair in NumPy and float64."""

import math

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    assert_close,
    golden,
    made,
    replaced,
    run,
)


HEADS = 4
Q, K = [0, 3, 17, 40], [0, 2, 3, 4, 39, 700]
RUN = list(range(12))


def by_pairs(function, q=Q, k=K):
    """A matrix for each head of a function of head, query and key."""
    return np.array(
        [[[function(h, i, j) for j in k] for i in q] for h in range(HEADS)], np.float64
    )


def both(bias, function, **tolerance):
    """At positions anywhere, where pairs are what is computed, and in a run."""
    found = run(_at_both, bias)
    for ours, (q, k) in zip(found, ((Q, K), (RUN, RUN)), strict=True):
        assert_close(ours, by_pairs(function, q, k), **tolerance)


def _at_both(bias):
    return [bias(jnp.array(q), jnp.array(k)) for q, k in ((Q, K), (RUN, RUN))]


def double(x):
    return as_numpy(x).astype(np.float64)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("form", ["causal", "symmetric", "asymmetric", "one_sided"])
def test_the_forms_of_alibi(form, learned):
    bias = pe.LearnedALiBi(HEADS, form) if learned else pe.ALiBi(HEADS, form)
    slopes = (
        [2.0**-4, 2.0**-8] * 2 if form == "one_sided" else 2.0 ** -(2 * np.arange(1, 5))
    )

    def formula(h, i, j):
        m, far = slopes[h], abs(j - i)
        if form == "causal":
            return -m * (i - j)
        if form == "asymmetric":
            return -m * (far - (0.5 if j < i else 0.0))
        if form == "one_sided" and (j > i if h < 2 else j < i):
            return -1e9
        return -m * far

    # Learned slopes go through a logarithm of up to 5.5 and back.
    both(bias, formula, rtol=2e-6 if learned else 2e-7)


def test_some_heads_of_alibi_have_no_bias():
    bias = pe.ALiBi(HEADS, biased_heads=2, factor=0.25)
    assert bias.slopes == (0.25 / 16, 0.25 / 256, 0, 0)
    both(bias, lambda h, i, j: bias.slopes[h] * (j - i), rtol=2e-7)
    three = np.arange(3)
    sides = run(pe.ALiBi(HEADS, form="one_sided", biased_heads=2), three, three)
    assert sides[0, 0, 2] == sides[1, 2, 0] == -1e9
    assert (sides[2:] == 0).all()


def test_fire():
    bias = made(pe.FIRE, HEADS, threshold=20.0)
    bias = replaced(bias, c=np.float32(-0.3), multiplier=np.float32(0.7))
    w1, b1, w2, b2 = map(
        double, (bias.hidden_weight, bias.hidden_bias, bias.out_weight, bias.out_bias)
    )

    def formula(h, i, j):
        squeeze = lambda x: math.log(0.3 * x + 1)
        fraction = squeeze(abs(i - j)) / (squeeze(max(0.7 * 20, i)) + 1e-6)
        hidden = np.maximum(w1[:, 0] * fraction + b1, 0)
        return w2[h] @ hidden + b2[h]

    # Sums of 32 products of normal numbers: up to ten, and a few ulps of them.
    both(bias, formula, atol=3e-6)


def test_fire_starts_where_the_paper_does():
    bias = pe.FIRE(HEADS, key=jr.key(0))
    assert (bias.c, bias.multiplier, bias.threshold) == (np.float32(0.1), 1, 512)
    assert bias.hidden_weight.shape == (32, 1)


@pytest.mark.parametrize("dim", [8, 128])
def test_sandwich(dim):
    def formula(h, i, j):
        angles = [(i - j) / 10_000 ** (2 * n / dim) for n in range(1, dim // 2 + 1)]
        return (sum(map(math.cos, angles)) - dim / 2) / (8 * (h + 1) / HEADS)

    # Sums of up to 64 numbers of up to 2.
    both(pe.Sandwich(HEADS, dim), formula, atol=5e-6)


def test_sandwich_is_the_product_of_sinusoidal_encodings():
    """All but the frequency of one, which the formula of the paper leaves out."""
    p = np.arange(0, 900, 7)
    e = double(run(pe.Sinusoidal(64, layout="concatenated"), p))
    e = np.delete(e, [0, 32], axis=1)
    slow = 10_000.0**-1
    last = np.cos(slow * (p[:, None] - p))
    theirs = (e @ e.T + last - 32) * 4 / 8
    assert_close(run(pe.Sandwich(4, 64), p, p)[0], theirs, atol=2e-5)


def test_tisa():
    bias = made(pe.TISA, HEADS)
    a, b, c = map(double, (bias.a, bias.b, bias.c))
    assert (b < 0).any()

    def formula(h, i, j):
        return sum(
            a[h, s] * math.exp(-abs(b[h, s]) * (j - i - c[h, s]) ** 2) for s in range(5)
        )

    # An exponent x is known to a few ulps, and x e^-x is at most 0.4.
    both(bias, formula, atol=5e-7)


def test_tisa_takes_distances_between_integers():
    bias = made(pe.TISA, HEADS)
    where = np.array([0.0, 0.5], np.float32)
    between = double(run(bias, where, where))
    a, b, c = map(double, (bias.a, bias.b, bias.c))
    theirs = (a * np.exp(-abs(b) * (0.5 - c) ** 2)).sum(1)
    assert_close(between[:, 0, 1], theirs, atol=5e-7)


@pytest.mark.parametrize("distances", ["linear", "log"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_dynamic_bias_in_torch(distances, depth):
    bias = made(pe.DynamicBias, HEADS, 16, depth=depth, distances=distances)
    layers = []
    for weight, shift in zip(bias.weights, bias.biases, strict=True):
        layer = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data = torch.tensor(double(weight))
        layer.bias.data = torch.tensor(double(shift))
        layers += [layer, torch.nn.SiLU()]
    network = torch.nn.Sequential(*layers[:-1])

    def formula(h, i, j):
        x = float(i - j)
        if distances == "log":
            x = math.copysign(math.log(abs(x) + 1), x)
        return network(torch.tensor([x], dtype=torch.float64))[h].item()

    # Hidden numbers of up to 700 times a weight of one, summed over 16.
    both(bias, formula, rtol=1e-5, atol=1e-4 if distances == "linear" else 3e-6)


def test_clipped_bias():
    bias = made(pe.ClippedBias, HEADS, max_distance=5)
    weight = double(bias.weight)
    assert weight.shape == (11, HEADS)
    # AlphaFold's row 0 is a key 5 or more residues ahead.
    both(bias, lambda h, i, j: weight[min(max(i - j, -5), 5) + 5, h])


def _normal(*shape):
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def _log_forgets(gate, x):
    logits = double(x) @ double(gate.weight).T + double(gate.bias)
    return np.log(1 / (1 + np.exp(-logits)))


def test_forgetting_is_the_double_loop_over_gates():
    gate = made(pe.ForgetGate, 6, HEADS)
    gate = replaced(gate, bias=np.array([0.0, 5.0, -1.0, 1.0], np.float32))
    x = _normal(12, 6)
    f = _log_forgets(gate, x)

    def forgotten(gate, x):
        p = gate(x)
        return pe.Forgetting(HEADS)(p, p)

    ours = double(run(forgotten, gate, x))
    theirs = by_pairs(
        lambda h, i, j: sum(f[l, h] for l in range(j + 1, i + 1)), RUN, RUN
    )
    past = np.tril(np.ones((12, 12), bool))
    # Differences of sums of up to 12 numbers of size one.
    assert_close(ours[:, past], theirs[:, past], atol=1e-5)


def test_forgetting_to_both_sides_is_that_of_x_transformers():
    """`DataDependentAlibi(6, 4, causal=False)` of x-transformers 2.31.10."""
    given = golden("forgetting")
    gate = made(pe.ForgetGate, 6, 2 * HEADS)
    gate = replaced(gate, weight=given["weight"], bias=given["bias"])
    bias = pe.Forgetting(HEADS, bidirectional=True)

    def forgotten(gate, x, order):
        p = gate(x)[order]
        return bias(p, p)

    # Another order of the tokens permutes the bias.
    for order in np.arange(9), np.array([4, 0, 8, 2, 6, 1, 7, 3, 5]):
        expected = given["out"][:, order][:, :, order]
        # Differences of sums of up to 9 numbers of size one, in float32 in both.
        assert_close(run(forgotten, gate, given["x"], order), expected, atol=2e-6)


def test_forgetting_attends_as_its_definition_and_decodes():
    gate, bias = made(pe.ForgetGate, 6, HEADS), pe.Forgetting(HEADS)
    embedding = pe.PositionalEmbedding(bias=bias)
    x, (q, k, v) = _normal(9, 6), _normal(3, HEADS, 9, 8)

    def whole(gate, x, q, k, v):
        p = gate(x)
        return embedding.attend(q, k, v, p, p, mask=jnp.tril(jnp.ones((9, 9), bool)))

    full = run(whole, gate, x, q, k, v)
    f = _log_forgets(gate, x)
    for h in range(HEADS):
        for i in range(9):
            logits = [
                double(q[h, i]) @ double(k[h, j]) / math.sqrt(8)
                + sum(f[l, h] for l in range(j + 1, i + 1))
                for j in range(i + 1)
            ]
            weights = np.exp(logits) / np.exp(logits).sum()
            # Logits of size ten, and values of size three.
            assert_close(full[h, i], weights @ double(v[h, : i + 1]), atol=2e-5)

    def decoded(gate, x, q, k, v):
        cached, rows = gate(x[:4]), []
        for t in range(4, 9):
            cached = jnp.concatenate([cached, gate(x[t : t + 1], start=cached[-1])])
            rows.append(
                embedding.attend(
                    q[:, t : t + 1], k[:, : t + 1], v[:, : t + 1], cached[-1:], cached
                )
            )
        return jnp.concatenate(rows, axis=1)

    assert_close(run(decoded, gate, x, q, k, v), full[:, 4:], atol=2e-5)
