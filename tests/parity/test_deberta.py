"""DeBERTa's buckets and scores against transformers."""

import jax
import numpy as np
import pytest
import torch
from transformers import DebertaConfig, DebertaV2Config
from transformers.models.deberta import modeling_deberta as first
from transformers.models.deberta_v2 import modeling_deberta_v2 as second

import eqx_posemb as pe
from eqx_posemb.interop import huggingface
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    assert_same_integers,
    made,
    run,
)


RNG = np.random.default_rng(0)
SIZES = dict(
    hidden_size=32,
    num_attention_heads=4,
    hidden_dropout_prob=0.0,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
)


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize(
    "buckets, reach",
    [
        *[(256, 512), (32, 128), (8, 20), (4, 10), (16, 17), (64, 100), (256, 4096)],
        *[(512, 1024), (128, 512), (100, 1000), (6, 5), (12, 4001)],
    ],
)
def test_buckets_are_those_of_transformers(buckets, reach):
    score = made(pe.DeBERTa, 1, 2, 4, buckets=buckets, reach=reach)
    behind = np.arange(-2 * reach, 2 * reach + 1)
    theirs = second.make_log_bucket_position(as_torch(behind), buckets, reach)
    theirs = np.clip(as_numpy(theirs).astype(np.int64) + buckets, 0, 2 * buckets - 1)
    ours = run(score.rows, -behind.astype(np.int32)).astype(np.int64)
    assert_same_integers(ours, theirs)


def _state(module, prefix):
    return {f"{prefix}{n}": as_numpy(x) for n, x in module.state_dict().items()}


def _logits(embedding, q, k, shuffled):
    order = RNG.permutation(q.shape[1]) if shuffled else np.arange(q.shape[1])
    back = np.argsort(order)
    with jax.default_matmul_precision("highest"):
        ours = run(embedding.logits, q[:, order], k[:, order], order, order)
    return ours[:, back][:, :, back]


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("reach", [8, 64])
def test_the_first_version_is_that_of_transformers(reach, shuffled):
    seq = 20
    config = DebertaConfig(**SIZES, max_relative_positions=reach)
    attention = first.DisentangledSelfAttention(config).eval()
    table = _normal(2 * reach, 32)
    x = _normal(1, seq, 32)
    with torch.no_grad():
        attention.q_bias.copy_(as_torch(_normal(32)))
        attention.pos_q_proj.bias.copy_(as_torch(_normal(32)))
        projected = attention.transpose_for_scores(attention.in_proj(as_torch(x)))
        q, k, _ = projected.chunk(3, dim=-1)
        q = q + attention.transpose_for_scores(attention.q_bias[None, None])
        scaled = q / first.scaled_size_sqrt(q, 3)
        theirs = scaled @ k.transpose(-1, -2) + attention.disentangled_att_bias(
            scaled, k, first.build_relative_position(q, k), as_torch(table), 3
        )
    state = _state(attention, "encoder.layer.3.attention.self.")
    state["encoder.rel_embeddings.weight"] = table
    biased = {**config.to_dict(), "position_biased_input": False}
    embedding = huggingface.deberta_from_state_dict(state, biased, layer=3)
    assert embedding.score.reach == reach and embedding.score.buckets is None
    ours = _logits(embedding, as_numpy(q)[0], as_numpy(k)[0], shuffled)
    # Sums of products of projections, of up to 100.
    assert_close(ours, as_numpy(theirs)[0], atol=2e-5)


@pytest.mark.parametrize("shuffled", [False, True])
@pytest.mark.parametrize("shared", [True, False])
def test_the_second_version_is_that_of_transformers(shared, shuffled):
    seq, buckets, reach = 40, 8, 30
    config = DebertaV2Config(
        **SIZES,
        num_hidden_layers=1,
        max_relative_positions=reach,
        position_buckets=buckets,
        norm_rel_ebd="layer_norm",
        share_att_key=shared,
        position_biased_input=False,
    )
    encoder = second.DebertaV2Encoder(config).eval()
    attention = encoder.layer[0].attention.self
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.copy_(as_torch(_normal(*parameter.shape)) / 4)
        x = as_torch(_normal(1, seq, 32))
        q = attention.transpose_for_scores(attention.query_proj(x), 4)
        k = attention.transpose_for_scores(attention.key_proj(x), 4)
        relative_pos = second.build_relative_position(q, k, buckets, reach)
        theirs = q @ k.transpose(-1, -2) / second.scaled_size_sqrt(q, 3)
        theirs = theirs + attention.disentangled_attention_bias(
            q, k, relative_pos, encoder.get_rel_embedding(), 3
        )
    # A bias of the keys' projection is the same for all keys, and gone after the
    # softmax; but it is in their logits.
    state = _state(encoder, "deberta.encoder.")
    embedding = huggingface.deberta_from_state_dict(
        state, config, layer=0, prefix="deberta.encoder."
    )
    assert embedding.score.buckets == buckets and embedding.score.reach == reach
    assert embedding.score.norm_weight is not None
    ours = _logits(embedding, as_numpy(q), as_numpy(k), shuffled)
    assert_close(ours, as_numpy(theirs), atol=2e-5)


# The file of microsoft/deberta-v3-base, as far as positions go.
V3 = {
    "model_type": "deberta-v2",
    "num_attention_heads": 12,
    "max_position_embeddings": 512,
    "max_relative_positions": -1,
    "position_buckets": 256,
    "relative_attention": True,
    "pos_att_type": "p2c|c2p",
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "layer_norm_eps": 1e-6,
}


def test_the_configuration_of_a_checkpoint_is_read():
    inner = "encoder.layer.0.attention.self."
    state = {"encoder.rel_embeddings.weight": np.ones((512, 24))}
    state |= {f"encoder.LayerNorm.{name}": np.ones(24) for name in ("weight", "bias")}
    for name in ("key_proj", "query_proj"):
        state |= {f"{inner}{name}.weight": np.ones((24, 24))}
        state |= {f"{inner}{name}.bias": np.ones(24)}
    embedding = huggingface.deberta_from_state_dict(state, V3, layer=0)
    score = embedding.score
    assert (score.reach, score.buckets, score.eps) == (512, 256, 1e-6)
    assert embedding.encoding is None and embedding.scale == (3 * 2) ** -0.5
    # Tokens know their position in models that say no more.
    table = _normal(512, 24)
    state["embeddings.position_embeddings.weight"] = table
    biased = {key: V3[key] for key in V3 if key != "position_biased_input"}
    encoding = huggingface.deberta_from_state_dict(state, biased, layer=0).encoding
    np.testing.assert_array_equal(encoding.weight, table)
