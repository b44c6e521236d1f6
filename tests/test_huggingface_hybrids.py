"""Models with layers that do not attend, and layers by how much they compress."""

import jax.numpy as jnp
import numpy as np
import pytest

from eqx_posemb.interop import huggingface


@pytest.mark.parametrize(
    "model_type, settings, attends",
    [
        ("qwen3_next", dict(full_attention_interval=3), {2, 5}),
        ("qwen3_5_text", {}, {3}),
        ("bailing_hybrid", dict(layer_group_size=2), {1, 3, 5}),
        ("olmo_hybrid", {}, {3}),
        ("olmo_hybrid", dict(num_hidden_layers=2), {1}),
        ("lfm2", dict(full_attn_idxs=[1, 3]), {1, 3}),
        ("lfm2", {}, {0, 1, 2, 3, 4, 5}),
        ("bamba", dict(attn_layer_indices=[2]), {2}),
        ("recurrent_gemma", {}, {2, 5}),
        ("minimax", {}, {0, 2, 4}),
        (
            "granitemoehybrid",
            dict(
                position_embedding_type="rope",
                layers_block_type=["mamba", "attention"] * 3,
            ),
            {1, 3, 5},
        ),
    ],
)
def test_layers_without_attention_do_not_rotate(model_type, settings, attends):
    config = {"model_type": model_type, "num_hidden_layers": 6} | settings
    kinds = huggingface.layer_types(config)
    loaded = {kind: huggingface.load(config, layer_type=kind) for kind in set(kinds)}
    rotates = {i for i, kind in enumerate(kinds) if loaded[kind].rotary is not None}
    assert len(kinds) == config["num_hidden_layers"] and rotates == attends


@pytest.mark.parametrize("label", ["attn", "sliding", ["full_attention"], 3])
def test_an_unknown_type_of_layer_raises(label):
    config = {"model_type": "llama", "layer_types": ["full_attention", label]}
    with pytest.raises(ValueError, match="`layer_types` must be a list of layer types"):
        huggingface.layer_types(config)


def test_wrong_blocks_and_ratios_raise():
    config = {"model_type": "recurrent_gemma", "block_types": ["mamba"]}
    with pytest.raises(ValueError, match="`block_types` must be a list of"):
        huggingface.layer_types(config)
    config = {"model_type": "deepseek_v4", "compress_ratios": [0, 5]}
    with pytest.raises(ValueError, match="`compress_ratios` must have one of 0, 4, 12"):
        huggingface.layer_types(config)


def test_deepseek_v4_as_released():
    config = {
        "model_type": "deepseek_v4",
        "num_hidden_layers": 6,
        "head_dim": 512,
        "qk_rope_head_dim": 64,
        "rope_theta": 10000,
        "compress_rope_theta": 160000,
        "compress_ratios": [0, 0, 4, 128, 4, 0, 0],
        "rope_scaling": {
            "type": "yarn",
            "factor": 16,
            "beta_fast": 32,
            "beta_slow": 1,
            "original_max_position_embeddings": 65536,
        },
    }
    kinds = huggingface.layer_types(config)
    assert kinds == ("main", "main", "compress", "compress", "compress", "main")
    rotary = huggingface.load(config, layer_type="compress").rotary
    assert rotary is not None
    q = jnp.ones((1, 512))
    out = rotary(jnp.arange(1, 2)).queries(q)
    np.testing.assert_array_equal(out[:, :448], q[:, :448])
    # The attention factor is one: pairs keep their length.
    np.testing.assert_allclose(jnp.linalg.norm(out[:, 448:]), 8.0, rtol=1e-6)
    # Without ratios: two layers that compress more, and then every other one.
    assert set(huggingface.layer_types({"model_type": "deepseek_v4"})) == {"compress"}


def test_an_unknown_text_is_not_its_vision_tower():
    vision = {"model_type": "pixtral", "head_dim": 16, "image_size": 64}
    text = {"model_type": "unheard_of_text", "hidden_size": 64}
    config = {"model_type": "llava", "text_config": text, "vision_config": vision}
    with pytest.raises(ValueError, match=r"unheard_of_text.*`vision_config`"):
        huggingface.load(config)
