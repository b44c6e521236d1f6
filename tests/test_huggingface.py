"""Reading configurations: what they may look like."""

import json
import math
import re
import types

import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import layer_types, load
from eqx_posemb.interop.huggingface._rows import models


LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 2048,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}


def llama(**keys):
    return LLAMA | keys


def scaled(**keys):
    return llama(rope_parameters=keys)


def test_a_configuration_may_be_a_dictionary_a_file_a_folder_or_an_object(tmp_path):
    config = scaled(**YARN)
    (tmp_path / "config.json").write_text(json.dumps(config))
    whole = load(config)
    assert load(tmp_path) == whole
    assert load(str(tmp_path / "config.json")) == whole
    assert load(types.SimpleNamespace(to_dict=lambda: config)) == whole


@pytest.mark.parametrize(
    "old",
    [
        {"rope_scaling": {**YARN, "rope_theta": 1e6}},
        {"rope_scaling": YARN, "rope_theta": 1e6},
        {"rope_scaling": {**YARN, "type": "yarn"}, "rope_theta": 1e6},
        {"rope_parameters": {**YARN, "rope_theta": 1e6}, "rope_theta": 1e6},
        {
            "rope_scaling": {"type": "yarn", "factor": 4.0},
            "original_max_position_embeddings": 512,
            "rope_theta": 1e6,
        },
    ],
)
def test_old_and_new_spellings_are_the_same(old):
    assert load(llama(**old)) == load(scaled(**YARN, rope_theta=1e6))


def test_a_null_is_as_a_key_that_is_not_there():
    nulls = dict(head_dim=None, rope_scaling=None, rope_theta=None)
    assert load(llama(**nulls)) == load(LLAMA)


def test_what_is_not_given_is_the_models_default():
    assert load({"model_type": "gemma"}).rotary == pe.rope(256)
    assert load({"model_type": "qwen2", "hidden_size": 512}).rotary.dim == 512 // 32
    assert load({"model_type": "gpt_neox"}).rotary == pe.rope(96, rotary_dim=24)


def test_a_new_model_type_can_be_read_as_a_known_one():
    config = llama(model_type="llama9")
    with pytest.raises(ValueError, match=r"`model_type` must be one .* got 'llama9'"):
        load(config)
    assert load(config, model_type="llama") == load(LLAMA)


def test_parts_that_rotate_are_named_and_a_single_one_is_taken():
    text, vision = LLAMA, {"model_type": "pixtral", "head_dim": 64}
    both = {"model_type": "llava", "text_config": text, "vision_config": vision}
    with pytest.raises(ValueError, match=r"`text_config`, `vision_config`"):
        load(both)
    assert load(both["text_config"]) == load(LLAMA)
    assert load(both, part="text_config") == load(both, part="text") == load(LLAMA)
    assert layer_types(both, part="text") == layer_types(LLAMA)
    assert load(both, part="vision") == load(vision)
    clip = {"model_type": "clip_vision_model", "hidden_size": 64}
    assert load({**both, "vision_config": clip}) == load(LLAMA)


# Before there were parts, the settings of the text were at the top.
FLAT = {
    **LLAMA,
    "model_type": "qwen2_5_vl",
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "vision_config": {"hidden_size": 64, "num_heads": 4},
}


def test_the_error_of_several_parts_has_the_call_that_works():
    with pytest.raises(ValueError, match=r"`text`, `vision_config`, but got") as error:
        load(FLAT)
    call = re.search(r"Call `(.*)`", str(error.value))
    assert call is not None and call[1] == 'load(config, part="text")'
    text = eval(call[1], {"load": load, "config": FLAT})
    alone = {k: v for k, v in FLAT.items() if k != "vision_config"}
    assert text == load(alone | {"model_type": "qwen2_5_vl_text"})
    assert text.rotary.axes == pe.axes.Sections([2, 3, 3])
    assert load(FLAT, part="text_config") == text
    vision = load(FLAT, part="vision")
    assert vision.rotary.axes == pe.axes.Axial(2)
    nested = {"model_type": "omni", "thinker_config": FLAT}
    message = r"Call `load\(config, part=\"thinker_config\"\)`"
    with pytest.raises(ValueError, match=message):
        load(nested)
    assert load(nested, part="thinker_config") == text


def test_an_unknown_part_is_answered_by_those_there_are():
    with pytest.raises(ValueError, match=r"got 'audio'. It has `text`, `vision_con"):
        load(FLAT, part="audio")
    with pytest.raises(ValueError, match=r"be None for a model of one part, but got"):
        load(LLAMA, part="text")


def test_layers_that_differ_are_loaded_by_their_type():
    config = {"model_type": "gemma3_text", "num_hidden_layers": 6}
    kinds = layer_types(config)
    assert kinds == ("sliding_attention",) * 5 + ("full_attention",)
    with pytest.raises(ValueError, match=r"`layer_type` must be given"):
        load(config)
    thetas = {
        kind: load(config, layer_type=kind).rotary.frequencies.theta for kind in kinds
    }
    assert thetas == {"sliding_attention": 1e4, "full_attention": 1e6}
    with pytest.raises(ValueError, match=r"`layer_type` must be .* got 'local'"):
        load(config, layer_type="local")
    # The name for layers that are alike, which these are not.
    with pytest.raises(ValueError, match=r"`layer_type` must be .* got 'rope'"):
        load(config, layer_type="rope")


def test_layers_without_rotation_have_none_and_may_have_a_temperature():
    config = {"model_type": "llama4_text", "num_hidden_layers": 4}
    assert layer_types(config) == ("rope", "rope", "rope", "nope")
    assert isinstance(load(config, layer_type="rope").rotary, pe.Rotary)
    temperature = pe.Temperature(beta=0.1, length=8192, offset=1)
    assert load(config, layer_type="nope").rotary == temperature
    cold = {**config, "attn_temperature_tuning": False}
    assert load(cold, layer_type="nope").rotary == pe.NoPE()


def test_a_learned_temperature_starts_from_one_in_every_layer():
    config = {"model_type": "mistral_large4_text", "num_hidden_layers": 4}
    assert layer_types(config) == ("rope", "rope", "rope", "nope")
    both = load(config, layer_type="rope").rotary
    learned = load(config, layer_type="nope").rotary
    assert isinstance(both, pe.rotations.Chain) and isinstance(both.parts[0], pe.Rotary)
    q = jnp.ones((64, 9, 128))
    assert (learned(jnp.arange(9)).queries(q) == q).all()
    assert jnp.array_equal(both.parts[1].weight, learned.weight)


def test_latent_attention_with_yarn_has_the_multiplier_of_its_softmax():
    rope = {**YARN, "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0}
    found = load({"model_type": "deepseek_v3", "rope_scaling": rope})
    assert found.rotary.scale == 1
    assert found.scale == pytest.approx(192**-0.5 * (0.1 * math.log(40) + 1) ** 2)
    assert load({"model_type": "deepseek_v3"}).scale is None


def test_dual_chunk_attention_is_built():
    chunks = {
        "chunk_size": 262144,
        "local_size": 8192,
        "original_max_position_embeddings": 262144,
        "sparse_attention_enabled": True,
    }
    name = "dual_chunk_attention_config"
    rotary = pe.rope(16)
    made = pe.DualChunk(rotary, chunk=262144, window=8192)
    assert load(LLAMA | {name: chunks}).rotary == made
    assert load(LLAMA | {name: {}}).rotary == pe.DualChunk(rotary, 8192, 1024)
    assert load(LLAMA | {name: chunks}, quirks=True).rotary == rotary
    assert load(LLAMA | {name: chunks}, engine_keys="ignore").rotary == rotary
    with pytest.raises(ValueError, match=f"`{name}.chunk_size` must be larger"):
        load(LLAMA | {name: {"chunk_size": 64}})
    with pytest.raises(ValueError, match=f"`{name}.chunks` must not be there"):
        load(LLAMA | {name: {"chunks": 64}})


def test_quirks_follow_transformers_where_it_errs():
    per_type = {
        "model_type": "olmo3",
        "num_hidden_layers": 4,
        "rope_parameters": {
            "full_attention": {**YARN, "truncate": False},
            "sliding_attention": {"rope_type": "default"},
        },
    }
    kind = {"layer_type": "full_attention"}
    assert not load(per_type, **kind).rotary.frequencies.truncate
    assert load(per_type, **kind, quirks=True).rotary.frequencies.truncate
    lists = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    scale = {"short_mscale": 1.2, "long_mscale": 1.2}
    phimoe = {
        "model_type": "phimoe",
        "head_dim": 16,
        "original_max_position_embeddings": 64,
        "rope_scaling": {"type": "longrope", **lists, **scale},
    }
    assert isinstance(
        load(phimoe).rotary.frequencies, pe.frequencies.LongRoPEFrequencies
    )
    assert isinstance(
        load(phimoe, quirks=True).rotary.frequencies, pe.frequencies.Divided
    )
    twice = scaled(**YARN, rope_theta=1e6) | {"rope_theta": 1e4}
    with pytest.raises(
        ValueError, match=r"`rope_parameters.rope_theta` and `rope_theta`"
    ):
        load(twice)
    assert load(twice, quirks=True).rotary.frequencies.base.theta == 1e6


@pytest.mark.thorough
def test_dense_layers_of_cohere_rotate_whatever_they_see():
    import transformers

    for every, expected in (1, ["rope"] * 2), (2, ["sliding_attention", "nope"]):
        config = transformers.Cohere2MoeConfig(
            num_hidden_layers=6,
            first_k_dense_replace=2,
            prefix_dense_sliding_window_pattern=every,
        )
        kinds = layer_types(config)
        given = {"model_type": "cohere2_moe", "num_hidden_layers": 6}
        given |= {"first_k_dense_replace": 2}
        given |= {"prefix_dense_sliding_window_pattern": every}
        assert layer_types(given) == kinds
        rest = ["sliding_attention"] * 3 + ["full_attention"]
        wanted = [kind.replace("nope", "full_attention") for kind in expected] + rest
        assert list(kinds) == wanted
        for kind in set(kinds):
            rotary = load(config, layer_type=kind).rotary
            assert isinstance(rotary, pe.NoPE) == (kind == "full_attention")


def test_a_factor_of_yarn_follows_from_both_lengths():
    yarn = {"rope_type": "yarn", "original_max_position_embeddings": 512}
    assert load(scaled(**yarn)).rotary.frequencies.factor == 2048 / 512


def test_a_key_of_published_files_that_nothing_reads_changes_nothing():
    assert load(scaled(**YARN, finetuned=True)) == load(scaled(**YARN))


LATENT = [
    name
    for name, row in sorted(models().items())
    # DeepSeek-V4's and dots.note's classes replace the share of the rope settings.
    if row.get("rotary") == "qk_rope_head_dim" and "replaced" not in row
]


@pytest.mark.parametrize("model_type", LATENT)
def test_proportional_rope_of_latent_attention_is_over_the_channels_that_rotate(
    model_type,
):
    proportional = {"rope_type": "proportional", "partial_rotary_factor": 0.5}
    config = {"model_type": model_type, "qk_rope_head_dim": 64, "rope_theta": 1e4}
    config["rope_parameters"] = proportional
    kind = next(k for k in layer_types(config) if k not in ("linear_attention", "nope"))
    rotary = load(config, layer_type=kind).rotary
    rotary = rotary.parts[0] if isinstance(rotary, pe.rotations.Chain) else rotary
    kept = np.arange(32) < 16
    wanted = np.where(kept, 1e4 ** (-np.arange(32) / 32), 0)
    # Learned shifts of logarithms are float32.
    np.testing.assert_allclose(rotary.frequencies(), wanted, rtol=1e-6)


def test_values_that_rotate_are_refused():
    config = {"model_type": "roformer", "rotary_value": True}
    with pytest.raises(ValueError, match="`rotary_value` must be False for this model"):
        load(config)
