"""Weights of checkpoints by name: state dictionaries of transformers, as they are."""

import numpy as np
import pytest
import torch
from transformers import (
    BeitConfig,
    BertConfig,
    BertModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DeiTConfig,
    DeiTModel,
    Dinov2Config,
    Dinov2Model,
    GPT2Config,
    GPT2Model,
    OPTConfig,
    OPTModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    Swinv2Config,
    ViTConfig,
    ViTModel,
)
from transformers.models.beit.modeling_beit import BeitRelativePositionBias
from transformers.models.levit.modeling_levit import LevitAttention
from transformers.models.swin.modeling_swin import SwinRelativePositionBias
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention

import eqx_posemb as pe
from tests.parity.references import as_numpy, cells, run


SMALL = dict(hidden_size=8, num_attention_heads=2, intermediate_size=8)
IMAGE = dict(**SMALL, num_hidden_layers=0, image_size=24, patch_size=4)


def _state(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return {name: as_numpy(array) for name, array in module.state_dict().items()}


IMAGES = [
    (ViTModel, ViTConfig, "embeddings.", 1),
    (DeiTModel, DeiTConfig, "embeddings.", 2),
    (Dinov2Model, Dinov2Config, "embeddings.", 1),
    (CLIPVisionModel, CLIPVisionConfig, "embeddings.", 1),
    (SiglipVisionModel, SiglipVisionConfig, "embeddings.", 0),
]


@pytest.mark.parametrize("model, config, prefix, tokens", IMAGES)
def test_grids_of_images(model, config, prefix, tokens):
    state = _state(model(config(**IMAGE)))
    # Models with one tower have their name before it in some versions.
    (name,) = [n for n in state if "position_embedding" in n and "ids" not in n]
    prefix = name[: name.index(prefix)] + prefix
    encoding = pe.LearnedGrid.from_state_dict(state, prefix=prefix, tokens=tokens)
    assert encoding.shape == (6, 6)
    rows = state[name].reshape(-1, 8)
    every = lambda encoding, there: encoding(pe.positions.prefixed(there, tokens))
    np.testing.assert_array_equal(run(every, encoding, cells((6, 6))), rows)


def test_a_grid_that_is_not_square_has_its_shape_given():
    table = np.arange(2 * 3 * 4.0).reshape(1, 6, 4)
    encoding = pe.LearnedGrid.from_state_dict(
        {"pos_embed": table}, tokens=0, shape=(2, 3)
    )
    np.testing.assert_array_equal(encoding.weight, table.reshape(2, 3, 4))
    assert encoding.prefix is None


BERT = BertConfig(**SMALL, num_hidden_layers=0)
GPT2 = GPT2Config(n_embd=8, n_head=2, n_layer=0)
OPT = OPTConfig(
    hidden_size=8,
    word_embed_proj_dim=8,
    num_attention_heads=2,
    num_hidden_layers=0,
    ffn_dim=8,
)
TEXTS = [
    (BertModel, BERT, "embeddings.", 0),
    (GPT2Model, GPT2, "", 0),
    (OPTModel, OPT, "decoder.", 2),
]


@pytest.mark.parametrize("model, config, prefix, offset", TEXTS)
def test_tables_of_text(model, config, prefix, offset):
    theirs = model(config)
    state = _state(theirs)
    encoding = pe.Learned.from_state_dict(state, prefix=prefix, offset=offset)
    (name,) = [n for n in state if "wpe" in n or ("position" in n and "ids" not in n)]
    ours = run(encoding, np.arange(9))
    np.testing.assert_array_equal(ours, state[name][offset:][:9])


def test_swin():
    theirs = SwinRelativePositionBias(3, (3, 5))
    bias = pe.SwinBias.from_state_dict(_state(theirs), window=(3, 5))
    ours = run(bias, cells((3, 5)), cells((3, 5)))
    np.testing.assert_array_equal(ours, as_numpy(theirs())[0])
    square = SwinRelativePositionBias(3, (4, 4))
    assert pe.SwinBias.from_state_dict(_state(square)).window == (4, 4)


@pytest.mark.parametrize("original", [False, True])
def test_swinv2(original):
    theirs = Swinv2SelfAttention(Swinv2Config(), 24, 3, (4, 4))
    state = _state(theirs)
    if original:
        state = {
            name.replace("continuous_position_bias_mlp", "cpb_mlp"): array
            for name, array in state.items()
        }
    bias = pe.LogCPB.from_state_dict(state, (4, 4))
    assert bias.weight.shape == (3, 512)
    first, _, last = theirs.continuous_position_bias_mlp
    np.testing.assert_array_equal(bias.hidden_weight, as_numpy(first.weight))
    np.testing.assert_array_equal(bias.hidden_bias, as_numpy(first.bias))
    np.testing.assert_array_equal(bias.weight, as_numpy(last.weight))


def test_beit():
    config = BeitConfig(image_size=24, patch_size=4, num_attention_heads=3)
    theirs = BeitRelativePositionBias(config)
    bias = pe.BEiTBias.from_state_dict(_state(theirs))
    found = as_numpy(theirs((6, 6)))[0]

    def every(bias, there):
        there = pe.positions.prefixed(there)
        return bias(there, there)

    np.testing.assert_array_equal(run(every, bias, cells((6, 6))), found)


def test_levit():
    theirs = LevitAttention(16, 4, 3, 2, 5)
    bias = pe.LeViTBias.from_state_dict(_state(theirs))
    ours = run(bias, cells((5, 5)), cells((5, 5)))
    found = theirs.attention_biases[:, theirs.attention_bias_idxs]
    np.testing.assert_array_equal(ours, as_numpy(found))
