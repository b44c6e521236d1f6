"""Configurations as published checkpoints have them, beside transformers' own code."""

import importlib
import inspect
import math
import re

import numpy as np
import pytest
import torch
from transformers import CONFIG_MAPPING
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.bloom import modeling_bloom as bloom
from transformers.models.falcon import modeling_falcon as falcon
from transformers.models.llama4 import modeling_llama4 as llama4
from transformers.models.m2m_100 import modeling_m2m_100 as m2m_100
from transformers.models.ministral3 import modeling_ministral3 as ministral3
from transformers.models.mpt import modeling_mpt as mpt
from transformers.models.opt import modeling_opt as opt
from transformers.models.roberta import modeling_roberta as roberta
from transformers.models.t5 import modeling_t5 as t5
from transformers.models.whisper import modeling_whisper as whisper

import eqx_posemb as pe
from eqx_posemb.interop import huggingface
from tests.parity.references import as_numpy, as_torch, assert_close, replaced, run


SIZES = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 4}
LISTS = {
    "short_factor": [1 + i / 50 for i in range(48)],
    "long_factor": [1.0 + i for i in range(48)],
}
GEMMA = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "num_hidden_layers": 12,
    "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
}
MODERN = {
    "model_type": "modernbert",
    "hidden_size": 768,
    "num_attention_heads": 12,
    "num_hidden_layers": 6,
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 10_000.0,
}
OLMO = {
    "model_type": "olmo3",
    **SIZES,
    "rope_theta": 500_000,
    "max_position_embeddings": 65_536,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 8192,
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32.0,
        "beta_slow": 1.0,
    },
}
CONFIGS = {
    "Llama 3.1": {
        "model_type": "llama",
        **SIZES,
        "max_position_embeddings": 131_072,
        "rope_theta": 500_000.0,
        "rope_scaling": {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
    },
    "Qwen2.5 with YaRN": {
        "model_type": "qwen2",
        **SIZES,
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000.0,
        "rope_scaling": {
            "factor": 4.0,
            "original_max_position_embeddings": 32_768,
            "type": "yarn",
        },
    },
    "Phi-3, su": {
        "model_type": "phi3",
        **SIZES,
        "hidden_size": 3072,
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": {
            "type": "su",
            "original_max_position_embeddings": 4096,
            **LISTS,
        },
    },
    "Phi-4 mini": {
        "model_type": "phi3",
        **SIZES,
        "hidden_size": 3072,
        "num_attention_heads": 24,
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "partial_rotary_factor": 0.75,
        "rope_scaling": {"type": "longrope", **LISTS},
    },
    "DeepSeek-V3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_hidden_layers": 4,
        "qk_rope_head_dim": 64,
        "qk_nope_head_dim": 128,
        "max_position_embeddings": 163_840,
        "rope_theta": 10_000,
        "rope_scaling": {
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 40,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "original_max_position_embeddings": 4096,
            "type": "yarn",
        },
    },
    "Gemma 3, full": GEMMA | {"layer_type": "full_attention"},
    "Gemma 3, local": GEMMA | {"layer_type": "sliding_attention"},
    "ModernBERT, full": MODERN | {"layer_type": "full_attention"},
    "ModernBERT, local": MODERN | {"layer_type": "sliding_attention"},
    "OLMo 3, full": OLMO | {"layer_type": "full_attention"},
    "OLMo 3, local": OLMO | {"layer_type": "sliding_attention"},
    "gpt-oss": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "num_attention_heads": 64,
        "head_dim": 64,
        "num_hidden_layers": 4,
        "max_position_embeddings": 131_072,
        "rope_theta": 150_000,
        "rope_scaling": {
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "factor": 32.0,
            "original_max_position_embeddings": 4096,
            "rope_type": "yarn",
            "truncate": False,
        },
    },
    "GPT-NeoX": {
        "model_type": "gpt_neox",
        "hidden_size": 2048,
        "num_attention_heads": 8,
        "num_hidden_layers": 4,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10_000,
    },
    "GLM-4": {
        "model_type": "glm4",
        **SIZES,
        "head_dim": 128,
        "partial_rotary_factor": 0.5,
    },
    "MiniMax-M2": {
        "model_type": "minimax_m2",
        "hidden_size": 3072,
        "num_attention_heads": 48,
        "num_hidden_layers": 4,
        "head_dim": 128,
        "rotary_dim": 64,
        "rope_theta": 5_000_000,
    },
    "Hunyuan": {
        "model_type": "hunyuan_v1_dense",
        **SIZES,
        "head_dim": 128,
        "rope_scaling": {
            "alpha": 1000.0,
            "beta_fast": 32,
            "beta_slow": 1,
            "factor": 1.0,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
            "type": "dynamic",
        },
    },
    "Llama, dynamic": {
        "model_type": "llama",
        **SIZES,
        "max_position_embeddings": 128,
        "rope_scaling": {"type": "dynamic", "factor": 2.0},
    },
}


def rotary_class(model_type):
    package = CONFIG_MAPPING[model_type].__module__.split(".")[-2]
    module = importlib.import_module(
        f"transformers.models.{package}.modeling_{package}"
    )
    named = [
        value
        for name, value in vars(module).items()
        if re.search("RotaryEmbedding$", name) and value.__module__ == module.__name__
    ]
    (cls,) = [cls for cls in named if inspect.isclass(cls)]
    return cls


@pytest.mark.parametrize("name", CONFIGS)
def test_a_published_configuration_has_the_tables_of_transformers(name):
    config = dict(CONFIGS[name])
    layer_type = config.pop("layer_type", None)
    theirs = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    told = {} if layer_type is None else {"layer_type": layer_type}
    there = np.array([0, 1, 5, 100, 255])
    cos, sin = rotary_class(config["model_type"])(theirs)(
        torch.zeros(1), as_torch(there[None]), **told
    )
    embedding = huggingface.load(config, **told)
    rotation = run(embedding.rotary, there)
    pairs = rotation.cos.shape[-1]
    for ours, table in (rotation.cos, cos), (rotation.sin, sin):
        assert_close(ours, as_numpy(table)[0, :, :pairs], atol=2e-5)
    # What transformers itself writes down says the same.
    assert huggingface.load(theirs, **told) == embedding


def _llama(**parameters):
    return {
        "model_type": "llama",
        **SIZES,
        "max_position_embeddings": 2048,
        "rope_parameters": {"rope_theta": 1e4, **parameters},
    }


@pytest.mark.parametrize("value", [None, 0, 2.0])
@pytest.mark.parametrize("key", ["beta_slow", "beta_fast"])
def test_an_end_of_the_ramp_of_yarn_that_is_null_or_zero_is_the_default(key, value):
    settings = dict(factor=4.0, original_max_position_embeddings=512)
    config = _llama(rope_type="yarn", **settings, **{key: value})
    theirs = CONFIG_MAPPING["llama"].from_dict(dict(config))
    frequencies, scale = ROPE_INIT_FUNCTIONS["yarn"](theirs, torch.device("cpu"))
    for given in config, theirs:
        ours = huggingface.load(given).rotary
        # Powers in float32 differ by up to 20 ulp.
        assert_close(ours.frequencies(), frequencies, rtol=3e-6)
        assert_close(ours.scale, scale, rtol=1e-12)
    default = huggingface.load(_llama(rope_type="yarn", **settings)).rotary
    assert (ours == default) == (not value)


def test_a_dynamic_factor_below_one_which_transformers_warns_of_is_refused(caplog):
    config = _llama(rope_type="dynamic", factor=0.5)
    theirs = CONFIG_MAPPING["llama"].from_dict(dict(config))
    assert "factor field must be a float or int >= 1, got 0.5" in caplog.text
    for given in config, theirs:
        with pytest.raises(
            ValueError, match=r"`rope_parameters.factor` must be at least 1.* got 0.5"
        ):
            huggingface.load(given)
    # Their formula stretches nothing up to the length, and beyond it by less than that.
    init = ROPE_INIT_FUNCTIONS["dynamic"]
    near, far = (init(theirs, torch.device("cpu"), seq_len=n)[0] for n in (2048, 4096))
    assert_close(near, pe.frequencies.Geometric(128)(), rtol=3e-6)
    less = pe.frequencies.NTK(pe.frequencies.Geometric(128), 0.5 * 2 + 0.5)()
    assert_close(far, less, rtol=3e-6)


@pytest.mark.parametrize(
    "rotary",
    [
        pe.rope(64, rotary_dim=22),
        pe.rope(64, pairing="adjacent"),
        pe.ntk_rope(64, factor=3.0),
        pe.yarn(64, factor=4.0, original_length=1024),
        pe.llama3_rope(64, factor=8.0, original_length=1024),
        pe.dynamic_ntk_rope(64, factor=3.0, original_length=99),
        pe.proportional_rope(64, fraction=0.3, factor=2.0),
        pe.Rotary(pe.frequencies.Geometric(64), axes=pe.axes.Sections((8, 12, 12))),
        pe.Rotary(
            pe.frequencies.Geometric(64),
            pairing=pe.rotations.Pairing.adjacent_to_halves(192, 64, 128),
        ),
    ],
    ids=lambda rotary: type(rotary.frequencies).__name__,
)
def test_a_dumped_configuration_is_one_of_theirs(rotary):
    embedding = pe.PositionalEmbedding(rotary=rotary)
    config = huggingface.dump(embedding)
    theirs = CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))
    assert huggingface.load(theirs) == embedding


def test_old_qwen2_vl_has_its_text_at_the_top():
    config = {
        "model_type": "qwen2_vl",
        "hidden_size": 128 * 28,
        "num_attention_heads": 28,
        "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
    }
    rotary = huggingface.load(config).rotary
    assert rotary.axes == pe.axes.Sections((16, 24, 24))
    theirs = CONFIG_MAPPING["qwen2_vl"].from_dict(dict(config)).text_config
    assert huggingface.load(theirs).rotary == rotary
    vision = {"model_type": "qwen2_vl", "depth": 32, "embed_dim": 1280, "num_heads": 16}
    assert huggingface.load(vision).rotary.dim == 80


@pytest.mark.parametrize(
    "told",
    [
        {"model_type": "gemma3_text", "sliding_window_pattern": 3},
        {"model_type": "gemma3_text"},
        {"model_type": "cohere2", "sliding_window_pattern": 2},
        {"model_type": "modernbert", "global_attn_every_n_layers": 4},
        {"model_type": "modernbert"},
        {"model_type": "afmoe", "global_attn_every_n_layers": 2},
        {"model_type": "exaone4", "sliding_window_pattern": 5},
        {"model_type": "gpt_oss"},
        {"model_type": "olmo3"},
        {"model_type": "mimo_v2_flash"},
        {"model_type": "qwen3_next"},
        {"model_type": "lfm3"},
    ],
    ids=str,
)
def test_the_kinds_of_layers_are_theirs(told):
    config = told | {"num_hidden_layers": 10}
    theirs = CONFIG_MAPPING[told["model_type"]].from_dict(dict(config))
    kinds = huggingface.layer_types(theirs)
    assert kinds == tuple(theirs.layer_types)
    if len(set(kinds)) > 1 and "conv" not in kinds and "linear_attention" not in kinds:
        assert huggingface.layer_types(config) in (kinds, ("rope",) * 10)


def test_the_kinds_of_layers_may_be_letters():
    config = {"model_type": "exaone4", "num_hidden_layers": 6}
    kinds = huggingface.layer_types(config | {"sliding_window_pattern": "LLG"})
    assert kinds == ("sliding_attention",) * 2 + ("full_attention",) + kinds[:3]
    with pytest.raises(ValueError, match=r"`sliding_window_pattern` must be .*'LX'"):
        huggingface.layer_types(config | {"sliding_window_pattern": "LX"})


POSITIONS = np.arange(9)


def test_the_biases_of_bloom_and_mpt_are_theirs_but_for_a_number_for_each_query():
    heads = 12
    mask = torch.ones(1, 9, dtype=torch.int64)
    theirs = {
        "bloom": bloom.build_alibi_tensor(mask, heads, torch.float32).reshape(-1, 1, 9),
        "mpt": mpt.build_mpt_alibi_tensor(heads, 9),
    }
    keys = {"bloom": "n_head", "mpt": "n_heads"}
    for name, table in theirs.items():
        config = {"model_type": name, keys[name]: heads}
        bias = huggingface.load(config).bias
        ours = run(bias, POSITIONS, POSITIONS)
        table = as_numpy(table).reshape(heads, 1, 9)
        # A softmax does not see what all keys of a query have in common.
        for x in ours - ours[..., :1] - (table - table[..., :1]):
            assert_close(x, np.zeros((9, 9)), atol=1e-5)


def test_the_bias_of_falcon_is_scaled_with_the_product():
    config = {
        "model_type": "falcon",
        "alibi": True,
        "hidden_size": 64 * 8,
        "num_attention_heads": 8,
    }
    mask = torch.ones(1, 9, dtype=torch.int64)
    theirs = as_numpy(falcon.build_alibi_tensor(mask, 8, torch.float32))
    theirs = theirs.reshape(8, 1, 9) / math.sqrt(64)
    bias = huggingface.load(config).bias
    ours = run(bias, POSITIONS, POSITIONS)
    # With eight heads their slopes are powers of two, which bfloat16 has.
    difference = ours - ours[..., :1] - (theirs - theirs[..., :1])
    assert_close(difference, np.zeros((8, 9, 9)), atol=1e-6)


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_the_bias_of_t5_is_theirs(stack):
    config = CONFIG_MAPPING["t5"](num_heads=4, is_decoder=stack == "decoder")
    theirs = t5.T5Attention(config, has_relative_attention_bias=True)
    bias = huggingface.load(config, layer_type=stack).bias
    weight = as_torch(np.asarray(bias.weight))
    theirs.relative_attention_bias.weight.data.copy_(weight)
    ours = run(bias, np.arange(200), np.arange(200))
    assert_close(ours, as_numpy(theirs.compute_bias(200, 200))[0], atol=1e-6)


def test_learned_tables_begin_where_theirs_do():
    table = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    learned = opt.OPTLearnedPositionalEmbedding(10, 8)
    learned.weight.data.copy_(as_torch(table))
    mask = torch.ones(1, 5, dtype=torch.int64)
    theirs = {"opt": learned(mask)[0]}
    config = CONFIG_MAPPING["roberta"](max_position_embeddings=12, hidden_size=8)
    tokens = torch.full((1, 5), 7)
    ids = roberta.RobertaEmbeddings.create_position_ids_from_input_ids(tokens, 1)
    theirs["roberta"] = as_torch(table)[ids[0]]
    sizes = {"opt": 10, "roberta": 12}
    for name, rows in theirs.items():
        config = {"model_type": name, "hidden_size": 8}
        config["max_position_embeddings"] = sizes[name]
        encoding = huggingface.load(config).encoding
        assert encoding.weight.shape == (12, 8)
        encoding = replaced(encoding, weight=table)
        assert_close(run(encoding, np.arange(5)), rows)


def test_sinusoids_are_theirs():
    encoding = huggingface.load({"model_type": "m2m_100", "d_model": 16}).encoding
    theirs = m2m_100.M2M100SinusoidalPositionalEmbedding(50, 16, padding_idx=1)
    tokens = torch.full((1, 9), 7)
    ours = run(encoding, np.arange(9))
    assert_close(ours, as_numpy(theirs(tokens))[0], atol=2e-6)
    config = {"model_type": "whisper", "d_model": 16}
    encoding = huggingface.load(config, layer_type="encoder").encoding
    ours = run(encoding, np.arange(9))
    assert_close(ours, whisper.sinusoids(9, 16), atol=2e-6)


def test_temperatures_are_theirs():
    there = np.array([0, 8190, 8191, 16_383, 16_384, 200_000])
    config = CONFIG_MAPPING["llama4_text"](num_hidden_layers=4)
    scaled = lambda rotary, p, q: rotary(p).queries(q)
    q = np.ones((len(there), 128), np.float32)
    ours = run(scaled, huggingface.load(config, layer_type="nope").rotary, there, q)
    steps = np.floor((there + 1.0) / config.floor_scale)
    theirs = np.log1p(steps) * config.attn_scale + 1
    assert "torch.log1p(torch.floor((positions" in inspect.getsource(
        llama4.Llama4TextAttention
    )
    assert_close(ours[:, 0], theirs, rtol=1e-6)
    config = CONFIG_MAPPING["ministral3"]()
    chain = huggingface.load(config).rotary
    scale = ministral3.get_llama_4_attn_scale(
        as_torch(there[None]),
        config.rope_parameters["llama_4_scaling_beta"],
        config.rope_parameters["original_max_position_embeddings"],
    )
    ours = run(scaled, chain.parts[1], there, q)
    assert_close(ours[:, 0], as_numpy(scale)[0, 0, :, 0], rtol=1e-6)
