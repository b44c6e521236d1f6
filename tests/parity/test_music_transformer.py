"""Music Transformer against the procedure of the paper: pad, reshape and slice."""

import jax
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, made, replaced, run


RNG = np.random.default_rng(0)


def _skewed(q, table):
    """Section 3.4.1 of the paper, for one head, in float64: `[L, L]`."""
    length = q.shape[0]
    products = q.astype(np.float64) @ table.astype(np.float64).T
    padded = np.concatenate([np.zeros((length, 1)), products], axis=1)
    return padded.reshape(length + 1, length)[1:]


@pytest.mark.parametrize("length", [1, 2, 11])
def test_the_score_is_the_paper(length):
    weight = RNG.normal(size=(3, length, 8)).astype(np.float32)
    q = RNG.normal(size=(3, length, 8)).astype(np.float32)
    score = replaced(made(pe.MusicTransformer, 3, 8, length), weight=weight)
    p = np.arange(length)
    with jax.default_matmul_precision("highest"):
        ours = run(score, q, q, p, p)
    expected = [_skewed(q[h], weight[h]) / 8**0.5 for h in range(3)]
    # What the procedure leaves above the diagonal is for a mask to cover.
    assert_close(ours, np.tril(expected), atol=5e-6)
