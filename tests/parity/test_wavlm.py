"""WavLM's gated bias against transformers."""

import jax
import numpy as np
import pytest
import torch
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

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


@pytest.mark.parametrize("buckets, furthest", [(320, 800), (8, 12)])
def test_the_score_is_that_of_transformers(buckets, furthest, monkeypatch):
    heads, head_dim, seq = 4, 8, 30
    attention = WavLMAttention(
        heads * head_dim, heads, num_buckets=buckets, max_distance=furthest
    ).eval()
    gates = attention.gru_rel_pos_linear
    x = _normal(seq, heads * head_dim)
    seen = []
    monkeypatch.setattr(
        attention,
        "torch_multi_head_self_attention",
        lambda hidden, mask, bias: seen.append(bias) or (None, None),
    )
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(as_torch(_normal(*parameter.shape)))
        attention(as_torch(x)[None])
    (theirs,) = seen
    score = made(pe.WavLM, heads, head_dim, num_buckets=buckets, max_distance=furthest)
    # Four outputs for each gate, which are added up.
    summed = lambda array: as_numpy(array).reshape(2, 4, -1).sum(1)
    new = dict(
        weight=as_numpy(attention.rel_attn_embed.weight),
        gate_weight=summed(gates.weight),
        gate_bias=summed(gates.bias)[:, 0],
        gate_scale=as_numpy(attention.gru_rel_pos_const).reshape(heads),
    )
    score = replaced(score, **new)
    q = np.zeros((heads, seq, head_dim), np.float32)
    for order in np.arange(seq), RNG.permutation(seq):
        with jax.default_matmul_precision("highest"):
            ours = run(score, q, q, order, order, q_state=x[order])
        assert_close(ours, as_numpy(theirs)[:, order[:, None], order], atol=2e-5)
