"""Transformer-XL against arrays made by its authors' code, and its kin in
transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import Wav2Vec2ConformerConfig, XLNetConfig
from transformers.models.wav2vec2_conformer import (
    modeling_wav2vec2_conformer as conformer,
)
from transformers.models.xlnet.modeling_xlnet import XLNetModel

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    golden,
    made,
    replaced,
    run,
)


TXL = golden("transformer_xl")
RNG = np.random.default_rng(0)


def _score(u, v, weight, **settings):
    """With the given parameters; `weight` as torch's, `[heads * head_dim, dim]`."""
    heads, head_dim = u.shape
    dim = weight.shape[1]
    score = made(pe.TransformerXL, heads, head_dim, dim, **settings)
    return replaced(score, u=u, v=v, weight=weight.reshape(heads, head_dim, dim))


def _logits(score, q, k, q_positions, k_positions):
    with jax.default_matmul_precision("highest"):
        embedding = pe.PositionalEmbedding(score=score)
        return run(embedding.logits, q, k, q_positions, k_positions)


def _softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("name", ["nomem", "mem5", "mem5clamp4", "dec1mem8"])
def test_the_logits_are_those_of_the_authors(name, shuffled):
    q, k, u, v, weight, theirs, mask, clamp, memory = (
        TXL[f"{name}_{field}"]
        for field in "q k u v r_net scaled_masked_logits mask clamp mlen".split()
    )
    clamp = int(clamp) if clamp > 0 else None
    state = {"layer.r_net.weight": weight, "r_w_bias": u, "layer.r_r_bias": v}
    score = pe.TransformerXL.from_state_dict(state, prefix="layer.", clamp=clamp)
    # Out of order there are no runs of positions, and the other form is used.
    order = RNG.permutation(k.shape[2]) if shuffled else np.arange(k.shape[2])
    q_positions = int(memory) + np.arange(q.shape[2])
    for each_q, each_k, each in zip(q, k, theirs, strict=True):
        ours = _logits(score, each_q, each_k[:, order], q_positions, order)
        # What the mask covers is whatever their shift left there. Sums of 8 products
        # of up to 10, in another order.
        seen = np.broadcast_to(~mask, each.shape)
        ours = ours[..., np.argsort(order)]
        assert_close(ours[seen], each[seen], atol=1e-5)


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def _state(module):
    return {name: as_numpy(tensor) for name, tensor in module.state_dict().items()}


@pytest.mark.parametrize("clamp", [-1, 5])
@pytest.mark.parametrize("seq, memory", [(9, 0), (30, 4)])
def test_xlnet_is_transformer_xl_in_both_directions(seq, memory, clamp):
    heads, head_dim, dim = 3, 8, 24
    config = XLNetConfig(
        d_model=dim, n_head=heads, n_layer=1, d_inner=8, vocab_size=8, clamp_len=clamp
    )
    model = XLNetModel(config).eval()
    attention = model.layer[0].rel_attn
    r, u, v = _normal(dim, heads, head_dim), *_normal(2, heads, head_dim)
    with torch.no_grad():
        attention.r.copy_(as_torch(r))
        attention.r_w_bias.copy_(as_torch(u))
        attention.r_r_bias.copy_(as_torch(v))
        q = _normal(heads, seq, head_dim)
        k = _normal(heads, memory + seq, head_dim)
        sinusoid = model.relative_positional_encoding(seq, memory + seq, bsz=1)
        projected = torch.einsum("ibh,hnd->ibnd", sinusoid, as_torch(r))
        values = torch.zeros(memory + seq, 1, heads, head_dim)
        to_theirs = lambda x: as_torch(x).permute(1, 0, 2)[:, None]
        _, weights = attention.rel_attn_core(
            to_theirs(q), to_theirs(k), values, projected, output_attentions=True
        )
    score = pe.TransformerXL.from_state_dict(
        _state(model), prefix="layer.0.rel_attn.", clamp=None if clamp < 0 else clamp
    )
    ours = _logits(score, q, k, memory + np.arange(seq), np.arange(memory + seq))
    theirs = as_numpy(weights)[:, :, 0].transpose(2, 0, 1)
    # Logits of up to 60, of which float32 sinusoids have lost 1e-6 of their angles.
    assert_close(_softmax(ours), theirs, atol=3e-5)


@pytest.mark.parametrize("seq", [7, 40])
def test_the_conformer_is_transformer_xl_with_an_interleaved_sinusoid(seq):
    heads, dim = 2, 32
    config = Wav2Vec2ConformerConfig(
        hidden_size=dim,
        num_attention_heads=heads,
        position_embeddings_type="relative",
        attention_dropout=0.0,
        attn_implementation="eager",
    )
    attention = conformer.Wav2Vec2ConformerSelfAttention(config).eval()
    sinusoid = conformer.Wav2Vec2ConformerRelPositionalEmbedding(config)
    u, v = _normal(2, heads, dim // heads)
    x = _normal(1, seq, dim)
    with torch.no_grad():
        attention.pos_bias_u.copy_(as_torch(u))
        attention.pos_bias_v.copy_(as_torch(v))
        attention.linear_q.bias.copy_(as_torch(_normal(dim)))
        distances = sinusoid(as_torch(x))
        _, weights = attention(
            as_torch(x), relative_position_embeddings=distances, output_attentions=True
        )
        split = lambda y: as_numpy(y)[0].reshape(seq, heads, -1).swapaxes(0, 1)
        q = split(attention.linear_q(as_torch(x)))
        k = split(attention.linear_k(as_torch(x)))
    score = pe.TransformerXL.from_state_dict(_state(attention))
    there = np.arange(seq)
    ours = _softmax(_logits(score, q, k, there, there))
    assert_close(ours, as_numpy(weights)[0], atol=2e-6)


@pytest.mark.parametrize(
    "layout", ["interleaved", "concatenated", "tensor2tensor", "diffusion"]
)
@pytest.mark.parametrize("clamp", [None, 6])
def test_both_forms_are_the_formula(layout, clamp):
    """A double loop in float64, for runs of positions and for others."""
    dim = 10 if layout == "interleaved" else 11
    u, v = _normal(2, 2, 4)
    weight = _normal(8, dim)
    score = _score(u, v, weight, layout=layout, clamp=clamp)
    q, k = _normal(2, 9, 4), _normal(2, 22, 4)
    sinusoid = pe.Sinusoidal(dim, layout=layout)
    runs = 20 + np.arange(9), 14 + np.arange(22)
    others = RNG.integers(-30, 30, 9), RNG.integers(-30, 30, 22)
    for q_positions, k_positions in runs, others:
        behind = q_positions[:, None] - k_positions[None]
        if clamp:
            behind = np.clip(behind, -clamp, clamp)
        features = run(sinusoid, behind.ravel())
        r = np.einsum(
            "hdf,qkf->hqkd",
            weight.reshape(2, 4, dim).astype(np.float64),
            features.reshape(9, 22, dim),
        )
        expected = np.einsum("hqd,hqkd->hqk", q + v[:, None], r)
        expected = (expected + np.einsum("hd,hkd->hk", u, k)[:, None]) / 2
        with jax.default_matmul_precision("highest"):
            ours = run(score, q, k, q_positions, k_positions)
        assert_close(ours, expected, atol=2e-5)


def test_positions_may_be_fractions():
    """Between whole positions, and differentiable by them."""
    score = _score(*_normal(2, 2, 4), _normal(8, 10))
    q, k = _normal(2, 9, 4), _normal(2, 7, 4)
    there, far = np.arange(9), np.arange(7)
    step = 1e-2

    def moved(score, q, k, by):
        at = lambda p: p.astype(jnp.float32) + 0.5
        return score(q, k, at(jnp.asarray(there)) + by, at(jnp.asarray(far)))

    def total(by, score, q, k):
        ours = moved(score, q, k, by)
        return jnp.sum(ours), ours

    slope = jax.value_and_grad(total, has_aux=True)
    with jax.default_matmul_precision("highest"):
        whole = run(score, q, k, there, far)
        call = lambda by: run(slope, np.float32(by), score, q, k)
        (_, halves), found = call(0)
        ((after, _), _), ((before, _), _) = call(step), call(-step)
    assert_close(halves, whole, atol=2e-5)
    # The third derivative times the square of the step, and rounding over it.
    assert_close(found, (after - before) / (2 * step), atol=2e-2)
