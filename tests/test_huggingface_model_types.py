"""Model types and rope types whose configurations say something of their own."""

import math

import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb.interop import huggingface


SIZES = {"hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 4}
YARN = {"factor": 4.0, "original_max_position_embeddings": 2048}


def loaded(model_type, layer_type=None, **keys):
    config = {"model_type": model_type, **keys}
    return huggingface.load(config, layer_type=layer_type)


def theta_of(embedding):
    return embedding.rotary.frequencies.unscaled.theta


def test_exaone_is_llama_with_its_own_theta():
    made = loaded("exaone", **SIZES)
    assert made == loaded("llama", rope_theta=5e5, **SIZES)


def test_apertus_1_5_is_apertus():
    made = loaded("apertus1p5_text", **SIZES)
    assert made == loaded("apertus", **SIZES) and theta_of(made) == 12e6


def test_sarvam_rotates_as_deepseek_and_whole_heads():
    old = {"rope_scaling": {"type": "deepseek_yarn", **YARN}, "head_dim": 576}
    new = {"rope_scaling": {"type": "yarn", **YARN}}
    assert loaded("sarvam_mla", **old) == loaded("deepseek_v3", **new)
    made = loaded("sarvam_moe")
    rotary = made.rotary
    assert rotary.dim == 2 * rotary.frequencies.pairs == 64 and theta_of(made) == 8e6


def test_dory_has_a_theta_for_each_kind_of_layer_and_half_as_many_layers():
    assert theta_of(loaded("dory", "sliding_attention")) == 1e4
    assert theta_of(loaded("dory", "full_attention")) == 1e7
    types = ["sliding_attention", "mlp", "full_attention", "mlp"]
    config = {"model_type": "dory", "layer_types": types, "num_hidden_layers": 4}
    kinds = huggingface.layer_types(config)
    assert kinds == ("sliding_attention", "full_attention")


def test_lara_mini_rotates_where_layers_have_a_window():
    kinds = huggingface.layer_types({"model_type": "lara_mini"})
    assert kinds[:5] == (
        "linear_attention",
        "sliding_attention",
        "linear_attention",
        "full_attention",
        "sliding_attention",
    )
    assert isinstance(loaded("lara_mini", "sliding_attention").rotary, pe.Rotary)
    assert isinstance(loaded("lara_mini", "full_attention").rotary, pe.NoPE)
    assert loaded("lara_mini", "linear_attention").rotary is None


def test_hy_v4_vl_deals_sections_out_on_a_slice_of_the_head():
    rotary = loaded("hy_v4_vl_text").rotary
    assert rotary.axes == pe.axes.Sections([12, 10, 10], order="interleaved")
    assert rotary.pairing == pe.rotations.Pairing.adjacent(256, 64, 192)


def test_mistral_large_4_shifts_the_logarithms_of_its_frequencies():
    schedule = loaded("mistral_large4_text", "rope").rotary.parts[0].frequencies
    static = schedule.base
    assert isinstance(schedule, pe.frequencies.LogShifted)
    assert schedule.scaling_factor == static.scaling_factor == 2048
    np.testing.assert_allclose(schedule(), static(), rtol=1e-6)
    shift = np.linspace(-1, 1, static.pairs)
    made = type(schedule).from_state_dict(
        {"rotary_emb.alpha": shift}, static, prefix="rotary_emb."
    )
    np.testing.assert_allclose(made(), static() * np.exp(shift), rtol=1e-6)


def test_a_shift_of_logarithms_follows_the_context_length():
    base = pe.frequencies.DynamicNTK(pe.frequencies.Geometric(8), 2.0, 16)
    schedule = pe.frequencies.LogShifted(base, np.log(2.0) * np.ones(4, np.float32))
    assert schedule.dynamic
    longer = schedule.for_length(64)
    np.testing.assert_allclose(longer(), 2 * base.for_length(64)(), rtol=1e-6)
    with pytest.raises(
        ValueError, match="`weight` must have a number for each of the 4"
    ):
        pe.frequencies.LogShifted(base, np.zeros(3, np.float32))


def test_engines_have_model_types_of_their_own():
    assert loaded("kimi_k2") == loaded("deepseek_v3")
    assert loaded("telechat3", **SIZES) == loaded("llama", **SIZES)


@pytest.mark.parametrize(
    "name, slope", [("deepseek_yarn", 0.1), ("telechat3-yarn", 0.07)]
)
def test_engines_have_names_of_their_own_for_yarn(name, slope):
    rotary = loaded("llama", rope_scaling={"rope_type": name, **YARN}, **SIZES).rotary
    plain = loaded("llama", rope_scaling={"rope_type": "yarn", **YARN}, **SIZES).rotary
    assert rotary.frequencies == plain.frequencies
    assert rotary.scale == pytest.approx(slope * math.log(4) + 1)


@pytest.mark.parametrize("interleaved", [False, True])
def test_a_text_of_type_mrope_has_three_coordinates(interleaved):
    rope = {"rope_type": "mrope", "mrope_section": [2, 3, 3]}
    if interleaved:
        rope["mrope_interleaved"] = True
    rotary = loaded("qwen2", rope_scaling=rope, **SIZES).rotary
    theirs = "qwen3_vl_text" if interleaved else "qwen2_vl_text"
    rope = rope | {"rope_type": "default", "rope_theta": 1e4}
    expected = loaded(theirs, rope_parameters=rope, head_dim=16, **SIZES).rotary
    assert rotary == expected and rotary.axes.coordinates == 3


def test_settings_of_fope_name_the_class_to_build():
    rope = {"rope_type": "default", "use_fope": True, "num_inv_freq": 8}
    with pytest.raises(ValueError, match=r"no settings of FoPE.*`eqx_posemb.FoPE`"):
        loaded("llama", rope_scaling=rope, **SIZES)
    off = {"rope_type": "default", "use_fope": False, "num_inv_freq": None}
    assert loaded("llama", rope_scaling=off, **SIZES) == loaded("llama", **SIZES)


GRIDS = {
    "vit": ({}, (14, 14), 1),
    "deit": ({"image_size": 96}, (6, 6), 2),
    "siglip_vision_model": ({"image_size": 64}, (4, 4), 0),
    "siglip2_vision_model": ({"num_patches": 25}, (5, 5), 0),
    "mgp-str": ({}, (8, 32), 1),
    "hiera": ({}, (56, 56), 0),
    "pixio": ({"n_cls_tokens": 3}, (16, 16), 3),
    "vitpose_backbone": ({}, (16, 12), 1),
}


@pytest.mark.parametrize("model_type", GRIDS)
def test_a_table_of_patches_has_the_grid_of_the_image(model_type):
    keys, shape, tokens = GRIDS[model_type]
    dim = "embed_dim" if model_type == "hiera" else "hidden_size"
    encoding = loaded(model_type, **{dim: 8}, **keys).encoding
    assert encoding.weight.shape == (*shape, 8)
    assert (0 if encoding.prefix is None else len(encoding.prefix)) == tokens


@pytest.mark.parametrize(
    "message, keys",
    [
        ("`image_size` must be at least `patch_size`.* 8 and 16", {"image_size": 8}),
        (
            "`image_size` must be a size or a height and a width",
            {"image_size": [1, 2, 3]},
        ),
        ("`patch_size` must be an integer, but got 'p'", {"patch_size": "p"}),
    ],
)
def test_a_wrong_size_of_an_image_is_an_error(message, keys):
    with pytest.raises(ValueError, match=message):
        loaded("vit", **keys)


def test_sinks_are_taken_from_a_checkpoint_where_a_layer_has_them():
    state = {
        "model.layers.1.self_attn.sinks": np.arange(4.0),
        "layers.0.attn.attn_sink": np.ones(2),
        "model.layers.0.self_attn.q_proj.weight": np.ones((4, 4)),
    }
    take = huggingface.sinks_from_state_dict
    np.testing.assert_array_equal(take(state, 1), np.arange(4.0))
    np.testing.assert_array_equal(take(state, 0, prefix="layers."), np.ones(2))
    assert take(state, 0) is None
    with pytest.raises(ValueError, match=r"`state` must have one of self_attn.sinks"):
        take(state, 0, prefix="model.decoder.layers.")
