"""Shaw's vectors against Wav2Vec2-BERT in transformers, and the paper's formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import Wav2Vec2BertConfig
from transformers.models.wav2vec2_bert import modeling_wav2vec2_bert as theirs_module

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    made,
    replaced,
    run,
)


RNG = np.random.default_rng(0)


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _score(weight, back):
    ahead = weight.shape[0] - back - 1
    score = made(pe.Shaw, weight.shape[1], back=back, ahead=ahead)
    return replaced(score, weight=weight)


@pytest.mark.parametrize("back, ahead", [(64, 8), (3, 5), (0, 0)])
@pytest.mark.parametrize("q_len, k_len", [(12, 12), (1, 9), (9, 4)])
def test_the_score_is_that_of_wav2vec2_bert(back, ahead, q_len, k_len):
    config = Wav2Vec2BertConfig(
        hidden_size=32,
        num_attention_heads=4,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=back,
        right_max_position_embeddings=ahead,
    )
    attention = theirs_module.Wav2Vec2BertSelfAttention(config)
    q, k = _normal(4, q_len, 8), _normal(4, k_len, 8)
    with torch.no_grad():
        _, theirs = theirs_module._apply_relative_key_position_encoding(
            attention, as_torch(q)[None], as_torch(k)[None]
        )
    state = {f"a.{name}": as_numpy(x) for name, x in attention.state_dict().items()}
    score = pe.Shaw.from_state_dict(state, back, prefix="a.")
    assert score.ahead == ahead
    with jax.default_matmul_precision("highest"):
        ours = run(score, q, k, np.arange(q_len), np.arange(k_len))
    # Sums of 8 products of up to 10.
    assert_close(ours, as_numpy(theirs)[0], atol=5e-6)


@pytest.mark.parametrize("shuffled", [False, True])
def test_keys_and_values_are_the_paper(shuffled):
    """Equations 3 and 4 of the paper, pair by pair in float64."""
    weight, table = _normal(6, 8), _normal(6, 5)
    q, k, v = (_normal(2, 9, n) for n in (8, 8, 5))
    p = RNG.permutation(30)[:9] if shuffled else np.arange(9)
    embedding = pe.PositionalEmbedding(score=_score(weight, back=2))

    def attended(embedding, q, k, v, table, p):
        weights = jax.nn.softmax(embedding.logits(q, k, p, p), axis=-1)
        return weights @ v + pe.functional.shaw_values(weights, table, p, p, back=2)

    with jax.default_matmul_precision("highest"):
        ours = run(attended, embedding, q, k, v, table, p)
    expected = np.zeros((2, 9, 5))
    for h in range(2):
        for i in range(9):
            near = [min(max(p[j] - p[i], -2), 3) + 2 for j in range(9)]
            rows = np.asarray(k[h], np.float64) + weight[near]
            e = rows @ np.asarray(q[h, i], np.float64) / 8**0.5
            a = np.exp(e - e.max()) / np.exp(e - e.max()).sum()
            expected[h, i] = a @ (np.asarray(v[h]) + table[near])
    assert_close(ours, expected, atol=5e-6)


@pytest.mark.parametrize("shuffled", [False, True])
def test_logits_in_bfloat16_are_sums_in_float32_that_are_rounded_once(shuffled):
    half = lambda x: x.astype(jnp.bfloat16)
    q, k, weight = (
        half(_normal(2, 9, 16)),
        half(_normal(2, 9, 16)),
        half(_normal(6, 16)),
    )
    p = RNG.permutation(30)[:9] if shuffled else np.arange(9)
    score = replaced(made(pe.Shaw, 16, back=2, ahead=3), weight=weight)
    ours = run(pe.PositionalEmbedding(score=score).logits, q, k, p, p)
    assert ours.dtype == jnp.bfloat16
    q, k, weight, ours = (x.astype(np.float64) for x in (q, k, weight, ours))
    rows = weight[np.clip(p[None] - p[:, None], -2, 3) + 2]
    expected = np.einsum("hqd,hqkd->hqk", q, k[:, None] + rows) / 4
    # Half of the step between numbers of 8 bits, and what float32 loses in 33 sums.
    step = 2.0 ** (np.floor(np.log2(np.abs(expected))) - 7)
    assert (np.abs(ours - expected) <= step / 2 + 1e-5).all()
