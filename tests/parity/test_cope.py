"""CoPE against `ContextPosSelfAttn` of facebookresearch/RAM at e6f051f, and against
`CoPE` of lucidrains/x-transformers at 9252ed7."""

import math

import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, made, replaced, run


GIVEN = golden("cope")
Q, K, V = GIVEN["q"], GIVEN["k"], GIVEN["v"]
_, COUNT, DIM = Q.shape
# Only the order of positions matters, and not their distances.
POSITIONS = np.cumsum(1 + np.arange(COUNT) % 3)
PAST = np.tril(np.ones((COUNT, COUNT), bool))


def cope(factor=1.0):
    score = made(pe.CoPE, DIM, reach=GIVEN["weight"].shape[0])
    return replaced(score, weight=np.float32(factor) * GIVEN["weight"])


def attended(score, v, order):
    embedding = pe.PositionalEmbedding(score=score)
    keys = K[:, order], v[:, order], POSITIONS, POSITIONS[order]
    return run(embedding.attend, Q, *keys, causal=True)


@pytest.mark.parametrize("order", [np.arange(COUNT), (7 * np.arange(COUNT)) % COUNT])
def test_cope_attends_as_the_authors_do(order):
    # The softmax of logits of size 10, in float32 in both.
    assert_close(attended(cope(), V, order), GIVEN["out"], atol=1e-5)
    identity = np.broadcast_to(np.eye(COUNT, dtype=np.float32), (3, COUNT, COUNT))
    found = attended(cope(), identity, order)
    assert_close(found, GIVEN["weights"], atol=2e-6)


def test_the_listing_of_the_paper_has_larger_vectors():
    """`--cope-nodiv` of the authors."""
    found = attended(cope(math.sqrt(DIM)), V, np.arange(COUNT))
    assert_close(found, GIVEN["listing"], atol=1e-5)


def test_cope_is_that_of_x_transformers():
    score = cope(math.sqrt(DIM))
    found = run(score, Q, K, POSITIONS, POSITIONS, seen=PAST)
    # Products of size 10, between whole counts that are sums of up to 20 gates.
    assert_close(found[:, PAST], GIVEN["x_transformers"][:, PAST], atol=2e-5)


def test_keys_that_a_query_does_not_attend_to_are_not_counted():
    """Each query has keys of its own, as if it had no others."""
    seen = np.random.default_rng(3).random((3, COUNT, COUNT)) < 0.6
    score = cope()
    found = run(score, Q, K, POSITIONS, POSITIONS, seen=seen)
    for head, query in (0, 19), (1, 12), (2, 7):
        keys = np.flatnonzero(seen[head, query] & PAST[query])
        one = slice(query, query + 1)
        alone = run(score, Q[:, one], K[:, keys], POSITIONS[one], POSITIONS[keys])
        assert_close(found[head, query, keys], alone[head, 0], atol=2e-5)


def test_keys_of_equal_positions_may_have_any_order():
    positions, order = np.arange(COUNT) // 3, np.random.default_rng(4).permutation(20)
    found = run(cope(), Q, K, positions, positions)
    other = run(cope(), Q, K[:, order], positions, positions[order])
    assert_close(other, found[:, :, order], atol=2e-5)
