"""Keys about positions that a model type does not read: nothing is passed over."""

import math

import pytest

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import layer_types, load


LLAMA = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
# The original file of nomic-embed-text, before transformers had the model.
NOMIC = {
    "model_type": "nomic_bert",
    "n_embd": 768,
    "n_head": 12,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
}
GEMMA = {
    "model_type": "gemma3_text",
    "rope_parameters": {
        "full_attention": {"rope_theta": 1e6},
        "sliding_attention": {"rope_theta": 1e4},
    },
}
UNREAD = [
    (LLAMA, "rope_thetta", 5e5),
    (LLAMA, "rope_parametrs", {"rope_type": "yarn"}),
    (LLAMA, "rotary_dim", 8),
    (LLAMA, "partial_rotary_factor", 0.5),
    (LLAMA, "rope_pct", 0.25),
    (LLAMA, "rope_condense_ratio", 8),
    (LLAMA, "alibi", True),
    (LLAMA, "qk_rope_head_dim", 8),
    (LLAMA, "no_rope_layers", [1, 0]),
    (LLAMA, "rope_interleave", True),
    (LLAMA, "use_mrope", True),
    (LLAMA, "mrope_section", [2, 3, 3]),
    (LLAMA, "relative_attention", True),
    (LLAMA, "relative_attention_num_buckets", 32),
    (LLAMA, "position_embedding_type", "alibi"),
    (LLAMA, "pos_emb", "alibi"),
    (LLAMA, "max_rel_pos", 128),
    (LLAMA, "ntk_alpha", 4.0),
    (LLAMA, "rotary_pct", float("nan")),
    (LLAMA, "rotary_pct", 10**400),
    (NOMIC, "rotary_scaling_factor", 2),
    (NOMIC, "rotary_emb_base", 10_000),
    (NOMIC, "rotary_emb_fraction", 0.5),
    (NOMIC, "rotary_emb_scale_base", 512),
    (NOMIC, "rotary_emb_interleaved", True),
    (GEMMA, "rope_theta", 5e5),
    (GEMMA, "rope_local_base_freq", 2e4),
    ({"model_type": "minimax", "head_dim": 128}, "partial_rotary_factor", 0.5),
    ({"model_type": "gpt_neox", "rotary_pct": 0.25}, "partial_rotary_factor", 0.5),
    ({"model_type": "gpt_neox", "rotary_emb_base": 10_000}, "rope_theta", 5e5),
    ({"model_type": "modernbert"}, "rope_theta", 5e4),
    ({"model_type": "bert"}, "rope_theta", 1e4),
    ({"model_type": "bert"}, "alibi", True),
]
SAID_ANYWAY = [
    (LLAMA, "rope_thetta", None),
    (LLAMA, "rotary_dim", 16),
    (LLAMA, "partial_rotary_factor", 1.0),
    (LLAMA, "alibi", False),
    (LLAMA, "use_rope", True),
    (LLAMA, "use_mrope", False),
    (LLAMA, "max_relative_positions", -1),
    (LLAMA, "no_rope_layers", []),
    (LLAMA, "rope_scaling_factor", 1.0),
    (LLAMA, "position_embedding_type", "rope"),
    (LLAMA, "position_encoding", "rotary"),
    (LLAMA, "property_scale", 3),
    (NOMIC, "rotary_emb_base", 1000),
    (GEMMA, "rope_theta", 1e6),
    ({"model_type": "bloom"}, "alibi", True),
    ({"model_type": "gptj", "rotary_dim": 64}, "rotary", True),
    ({"model_type": "cohere2"}, "position_embedding_type", "rope_gptj"),
    ({"model_type": "bamba"}, "attn_rotary_emb", 64),
    ({"model_type": "qwen2_vl_text"}, "use_mrope", True),
    ({"model_type": "qwen2_vl_text"}, "rope_type", "default"),
    ({"model_type": "falcon", "alibi": True}, "rope_theta", 5e5),
]


def loaded(config, **options):
    kinds = set(layer_types(config))
    return {kind: load(config, layer_type=kind, **options) for kind in kinds}


@pytest.mark.parametrize("config, key, value", UNREAD)
def test_a_key_about_positions_that_nothing_reads_is_an_error(config, key, value):
    wrong = {**config, key: value}
    message = f"`{key}` must not be there.* Remove it, or give `quirks=True`"
    for kind in set(layer_types(wrong)):
        with pytest.raises(ValueError, match=message) as error:
            load(wrong, layer_type=kind)
        assert len(str(error.value)) < 400
    without = {name: config[name] for name in config if name != key}
    assert str(loaded(wrong, quirks=True)) == str(loaded(without, quirks=True))


@pytest.mark.parametrize("config, key, value", SAID_ANYWAY)
def test_a_key_that_says_what_is_done_anyway_changes_nothing(config, key, value):
    without = {name: config[name] for name in config if name != key}
    assert str(loaded({**config, key: value})) == str(loaded(without))


def test_all_keys_are_named_and_what_may_be_meant():
    wrong = LLAMA | {"rope_thetta": 5e5, "rotary_dim": 8}
    message = r"`rope_thetta` \(and `rotary_dim`\) must .*Did you mean `rope_theta`\?"
    with pytest.raises(ValueError, match=message):
        load(wrong)


PARTS = {
    "model_type": "llava",
    "text_config": LLAMA,
    "vision_config": {"model_type": "pixtral", "head_dim": 16},
}
BESIDE_PARTS = [
    ("rope_thetta", 5e5),
    ("rotary_dim", 8),
    ("alibi", True),
    ("rope_theta", 5e5),
    ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
]


@pytest.mark.parametrize("key, value", BESIDE_PARTS)
@pytest.mark.parametrize("part", ["text", "vision"])
def test_a_key_beside_the_parts_that_no_part_reads_is_an_error(part, key, value):
    wrong = PARTS | {key: value}
    message = f"`{key}` must not be there, as no part of the model reads it.*Put it"
    with pytest.raises(ValueError, match=message):
        load(wrong, part=part)
    assert load(wrong, part=part, quirks=True) == load(PARTS, part=part)
    nested = {"model_type": "outer", "inner_config": wrong}
    with pytest.raises(ValueError, match=f"`{key}` must not be there"):
        load(nested, part=f"inner_config.{part}_config")


def test_a_key_beside_the_parts_may_say_what_a_part_does():
    mrope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    text = {"hidden_size": 64, "num_attention_heads": 4, "rope_theta": 1e6}
    # Files were saved with the text at the top, with parts, and with both.
    top = {"model_type": "qwen2_vl", "vision_config": {}, "rope_scaling": mrope, **text}
    new = {"rope_parameters": {"rope_theta": 1e6, "mrope_section": [2, 3, 3]}}
    both = top | {"text_config": text | {"rope_theta": None} | new}
    for part in "text", "vision":
        assert load(top, part=part) == load(both, part=part)
    for key, value in ("rotary_dim", 16), ("rotary_pct", 1.0), ("rope_theta", 1e4):
        assert load(PARTS | {key: value}, part="text") == load(PARTS, part="text")


def test_a_key_of_a_single_layer_that_nothing_reads_is_an_error():
    config = GEMMA | {"per_layer_config": {"0": {"rope_thetta": 3}}}
    with pytest.raises(ValueError, match="`rope_thetta` must not be there"):
        load(config, layer_type="sliding_attention")


def test_a_share_among_the_rope_settings_that_has_no_effect_is_an_error():
    half = {"rope_type": "default", "partial_rotary_factor": 0.5}
    config = LLAMA | {"rope_parameters": half}
    with pytest.raises(ValueError, match="as 16 of 16 channels rotate in this model"):
        load(config)
    assert load(config, quirks=True) == load(LLAMA)
    stretched = half | {"rope_type": "linear", "factor": 2.0}
    rotary = load(LLAMA | {"rope_parameters": stretched}).rotary
    assert len(rotary.frequencies()) == 4


def test_the_rotated_width_of_minimax_is_read():
    config = {"model_type": "minimax", "head_dim": 128, "rotary_dim": 64}
    kind = "full_attention"
    read = load(config | {"layer_types": [kind]}, layer_type=kind)
    assert read.rotary == pe.rope(128, rotary_dim=64, theta=1e6)
    ignored = load(config | {"layer_types": [kind]}, layer_type=kind, quirks=True)
    assert ignored.rotary == pe.rope(128, theta=1e6)


def test_theta_of_dbrx_is_where_its_file_has_it():
    config = {"model_type": "dbrx", "attn_config": {"rope_theta": 500_000}}
    assert load(config).rotary == pe.rope(128, theta=500_000.0)
    assert load(config, quirks=True).rotary == pe.rope(128)


# The file of DeepSeek-R1-0528-Qwen3-8B.
QWEN = {
    "model_type": "qwen3",
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 32768,
        "attn_factor": 0.8782488562869419,
    },
}
BESIDE = "original_max_position_embeddings"


def laguna(beside, **own):
    full = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 32.0, **own}
    rope = {"full_attention": full, "sliding_attention": {"rope_type": "default"}}
    types = {"layer_types": ["full_attention", "sliding_attention"]}
    rope |= {BESIDE: beside} if beside else {}
    return {"model_type": "laguna", **types, "rope_parameters": rope}


def test_a_factor_that_engines_multiply_by_is_applied_or_ignored():
    with pytest.raises(
        ValueError, match=r"`engine_keys` must .*`rope_parameters.attn_"
    ):
        load(QWEN)
    grown = 0.1 * math.log(4) + 1
    assert load(QWEN, engine_keys="apply").rotary.scale == pytest.approx(1, abs=1e-9)
    ignored = load(QWEN, engine_keys="ignore")
    assert ignored.rotary.scale == pytest.approx(grown)
    assert load(QWEN, quirks=True) == ignored
    yarn = QWEN["rope_scaling"]
    # One says nothing.
    assert load({**QWEN, "rope_scaling": {**yarn, "attn_factor": 1.0}}) == ignored
    told = {**yarn, "attention_factor": 0.5, "attn_factor": 3}
    assert load({**QWEN, "rope_scaling": told}, engine_keys="apply").rotary.scale == 1.5
    with pytest.raises(
        ValueError, match=r"`rope_parameters.attn_factor` must be above"
    ):
        load({**QWEN, "rope_scaling": {**yarn, "attn_factor": 0}}, engine_keys="apply")


@pytest.mark.usefixtures("as_users_have_it")
def test_an_unknown_choice_is_an_error():
    with pytest.raises(ValueError, match="`engine_keys` must be one of 'apply', 'ign"):
        load(QWEN, engine_keys="both")  # pyright: ignore


def test_an_original_length_beside_layer_types_is_applied_or_ignored():
    kind = {"layer_type": "full_attention"}
    with pytest.raises(ValueError, match=f"`engine_keys` must .*{BESIDE}` 4096"):
        load(laguna(4096), **kind)
    inside = load(laguna(None, **{BESIDE: 4096}), **kind)
    assert load(laguna(4096), **kind, engine_keys="apply") == inside
    ignored = load(laguna(None), **kind)
    assert load(laguna(4096), **kind, engine_keys="ignore") == ignored
    assert load(laguna(4096), **kind, quirks=True) == ignored
    # The same length twice says nothing, and neither does one for plain layers.
    assert load(laguna(4096, **{BESIDE: 4096}), **kind) == inside
    plain = {"layer_type": "sliding_attention"}
    assert load(laguna(4096), **plain) == load(laguna(None), **plain)
    twice = laguna(8192, **{BESIDE: 4096})
    assert load(twice, **kind, engine_keys="ignore") == inside
    with pytest.raises(ValueError, match="must agree where it is given twice, but got"):
        load(twice, **kind, engine_keys="apply")
