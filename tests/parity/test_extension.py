"""ReRoPE, Self-Extend and dual chunk attention, pair by pair from their formulas.

The released code patches models of transformers; here are the distances it gives.
"""

import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, run


RNG = np.random.default_rng(0)
HEADS, DIM = 4, 8
# In a decoder: the last queries of a long sequence, and its keys in any order.
Q_POSITIONS = np.array([37, 3, 61, 20, 100])
K_POSITIONS = RNG.permutation(101)
Q = RNG.normal(size=(HEADS, 5, DIM)).astype(np.float32)
K = RNG.normal(size=(2, 101, DIM)).astype(np.float32)


def rerope(i, j, window, factor):
    ago = i - j
    return ago if ago < window else window + (ago - window) / factor


def self_extend(i, j, group, window):
    if i - j < window:
        return i - j
    return i // group - j // group + window - window // group


def dual_chunk(i, j, chunk, window):
    size = chunk - window
    apart = i // size - j // size
    if apart == 0:
        return i % size - j % size
    if apart == 1:
        return min(i % size + size, chunk) - j % size
    return min(size - 1 + size, chunk) - j % size


ROPE = pe.rope(DIM, theta=100.0)
CASES = {
    "rerope": (pe.ReRoPE(ROPE, 10), lambda i, j: rerope(i, j, 10, np.inf)),
    "leaky": (pe.ReRoPE(ROPE, 10, 3.0), lambda i, j: rerope(i, j, 10, 3.0)),
    "self_extend": (pe.SelfExtend(ROPE, 4, 10), lambda i, j: self_extend(i, j, 4, 10)),
    "dual_chunk": (pe.DualChunk(ROPE, 24, 6), lambda i, j: dual_chunk(i, j, 24, 6)),
    # Chunks that are less than half as long as the reach.
    "wide": (pe.DualChunk(ROPE, 24, 16), lambda i, j: dual_chunk(i, j, 24, 16)),
}


@pytest.mark.parametrize("name", CASES)
def test_pairs_have_the_distance_of_the_formula(name):
    rotary, seen_at = CASES[name]
    embedding = pe.PositionalEmbedding(rotary=rotary)
    ours = run(embedding.logits, Q, K, Q_POSITIONS, K_POSITIONS)
    omega = 100.0 ** (-np.arange(DIM // 2) * 2 / DIM)
    past = K_POSITIONS[None] <= Q_POSITIONS[:, None]
    distances = np.array([[seen_at(i, j) for j in K_POSITIONS] for i in Q_POSITIONS])
    assert len(set(distances[past])) > 10
    angles = distances[..., None] * omega
    k = np.repeat(K, HEADS // 2, axis=0).astype(np.float64)
    pairs = lambda x: x[..., : DIM // 2] + 1j * x[..., DIM // 2 :]
    products = np.einsum(
        "hqc,hkc,qkc->hqk", pairs(Q), pairs(k).conj(), np.exp(1j * angles)
    )
    expected = products.real / np.sqrt(DIM)
    assert_close(np.where(past, ours, 0), np.where(past, expected, 0), atol=1e-5)


def test_near_keys_are_where_they_are():
    near = np.arange(10)
    q, k = K[:, near], K[:, near[::-1]]
    rotaries = [rotary for rotary, _ in CASES.values()]

    def each(q, k, at):
        embeddings = [pe.PositionalEmbedding(rotary=r) for r in (ROPE, *rotaries)]
        return [embedding.logits(q, k, at, at) for embedding in embeddings]

    plain, *found = run(each, q, k, near)
    for rotary, ours in zip(rotaries, found, strict=True):
        causal = np.tri(10, dtype=bool) & (near[:, None] - near < 6)
        if isinstance(rotary, pe.DualChunk):
            causal &= near[:, None] // 8 == near // 8
        assert_close(np.where(causal, ours, 0), np.where(causal, plain, 0), atol=1e-6)
