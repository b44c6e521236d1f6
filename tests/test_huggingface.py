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


<<<<<<< HEAD
BAD = [math.nan, math.inf, -1, 0, "1", [], {}, True, 10**400, -1e-300]
NUMBERS = {
    "default": ["rope_theta"],
    "linear": ["factor", "rope_theta"],
    "dynamic": ["factor"],
    "yarn": ["factor", "original_max_position_embeddings", "attention_factor"],
    "llama3": ["factor", "low_freq_factor", "high_freq_factor"],
    "longrope": ["short_factor", "long_factor", "original_max_position_embeddings"],
}
GOOD = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 2.0, "original_max_position_embeddings": 512},
    "llama3": {
        "factor": 2.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 512,
    },
    "longrope": {
        "short_factor": [1.0] * 8,
        "long_factor": [2.0] * 8,
        "original_max_position_embeddings": 512,
    },
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:12])
@pytest.mark.parametrize("kind", NUMBERS)
def test_a_bad_number_in_the_rope_settings_is_named(kind, bad):
    assert load(scaled(rope_type=kind, **GOOD[kind])).rotary.dim == 16
    for key in NUMBERS[kind]:
        listed = [bad] * 8 if isinstance(GOOD[kind].get(key), list) else bad
        with pytest.raises(ValueError, match=f"`rope_parameters.{key}` must"):
            load(scaled(rope_type=kind, **(GOOD[kind] | {key: listed})))


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: repr(bad)[:12])
@pytest.mark.parametrize("key", ["hidden_size", "num_attention_heads", "head_dim"])
def test_a_bad_width_is_named(key, bad):
    with pytest.raises(ValueError, match=f"`{key}"):
        load(llama(**{key: bad}))


@pytest.mark.parametrize("kind", GOOD)
def test_what_a_rope_type_does_not_read_is_an_error(kind):
    for key in ("beta", "factors", "mrope_section", "truncated", "alpha", "finetuned"):
        if (kind, key) == ("yarn", "finetuned"):  # Published files have this key.
            continue
        with pytest.raises(ValueError, match=f"`rope_parameters.{key}` must not be"):
            load(scaled(rope_type=kind, **GOOD[kind], **{key: 1.0}))


@pytest.mark.parametrize("kind", [kind for kind in GOOD if kind != "default"])
def test_what_a_rope_type_needs_is_an_error_if_it_is_missing(kind):
    needed = next(iter(GOOD[kind]))
    # The factor of YaRN follows from the original length, which is then missing too.
    gone = {needed, *GOOD["yarn"]} if kind == "yarn" else {needed}
    rest = {key: value for key, value in GOOD[kind].items() if key not in gone}
    with pytest.raises(ValueError, match=f"`rope_parameters.{needed}` must be given"):
        load(scaled(rope_type=kind, **rest))


CONTRADICTIONS = {
    "`rope_type` and `type`": scaled(rope_type="linear", type="yarn", factor=2.0),
    "`rope_parameters` and `rope_scaling`": scaled(rope_type="linear", factor=2.0)
    | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "`original_max_position_embeddings` must agree": scaled(**YARN)
    | {"original_max_position_embeddings": 1024},
    "`partial_rotary_factor` must be the same": llama(
        model_type="glm4",
        partial_rotary_factor=0.5,
        rope_parameters={"rope_type": "default", "partial_rotary_factor": 0.25},
    ),
    "`low_freq_factor` must be at most": scaled(
        rope_type="llama3", **(GOOD["llama3"] | {"low_freq_factor": 8.0})
    ),
    "`beta_slow` must be at most": scaled(**YARN, beta_slow=64.0),
    "`short_factor` must have a number for each of the 8": scaled(
        rope_type="longrope", **(GOOD["longrope"] | {"short_factor": [1.0]})
    ),
    "`mrope_section` must add up to the 8": llama(
        model_type="qwen2_vl_text",
        rope_parameters={"rope_type": "default", "mrope_section": [1, 2, 3]},
    ),
    "`mrope_interleaved` must be false": llama(
        model_type="qwen2_vl_text",
        rope_parameters={"mrope_section": [2, 3, 3], "mrope_interleaved": True},
    ),
    "got 'su4'": scaled(rope_type="su4"),
    "got the default of the model type, []": scaled(rope_type="mrope"),
    "must be one for text": scaled(rope_type="axial"),
    "got 'yarn'": {"model_type": "pixtral", "rope_parameters": YARN},
    "`head_dim` must be even": llama(head_dim=15),
    "beside settings for each": llama(
        model_type="gemma3_text",
        rope_parameters={"full_attention": {}, "factor": 2.0},
    ),
    "`attn_config.alibi` must be true": {
        "model_type": "mpt",
        "attn_config": {"alibi": False},
    },
    "`position_embeddings_type` must be 'rotary'": {"model_type": "wav2vec2-bert"},
    "`position_embedding_type` must be 'absolute'": {
        "model_type": "bert",
        "position_embedding_type": "relative_key",
    },
    "`model_type` must be given": {},
    "`model_type` must be a string": {"model_type": 3},
}


@pytest.mark.parametrize("text", CONTRADICTIONS)
def test_a_contradiction_is_an_error(text):
    with pytest.raises(ValueError, match=re.escape(text)):
        load(CONTRADICTIONS[text])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["", "default", "yarn", "longrope", "full_attention", "rotary"])
    | st.sampled_from([10**4 * "x", 10**3 * [1.5], 40 * "[" + 40 * "]"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["rope_type", "factor", "a"]), inner, max_size=3
        )
    ),
    max_leaves=5,
)
KEY = re.compile(r"`[\w.\-<>/' ]+`")


@st.composite
def broken(draw):
    """A configuration of the census with some of its keys changed, added or gone."""
    name = draw(st.sampled_from(NAMES))
    found = CENSUS.model_types[name]
    path = draw(st.sampled_from(sorted(found["rotary"])))
    config = copy.deepcopy(part_at(found["config"], path))
    for _ in range(draw(st.integers(1, 3))):
        place = config
        rope = [config.get("rope_parameters")]
        rope += rope[0].values() if isinstance(rope[0], dict) else []
        rope = [value for value in rope if isinstance(value, dict)]
        if rope and draw(st.booleans()):
            place = draw(st.sampled_from(rope))
        relevant = [
            k for k in place if re.search("rope|rotary|head|hidden|layer|pos", k)
        ]
        key = draw(st.sampled_from([*sorted(relevant), *MORE]))
        if draw(st.integers(0, 4)):
            place[key] = draw(JSON)
        else:
            place.pop(key, None)
    return config


MORE = (
    "rope_type",
    "type",
    "factor",
    "rope_theta",
    "rope_scaling",
    "rope_parameters",
    "partial_rotary_factor",
    "original_max_position_embeddings",
    "mrope_section",
    "head_dim",
    "short_factor",
    "beta_fast",
)


@pytest.mark.thorough
@QUICK
@hp.given(config=broken(), quirks=st.booleans())
def test_whatever_a_configuration_says_it_loads_or_says_why_not(config, quirks):
    try:
        kinds = dict.fromkeys(layer_types(config))
        for kind in kinds:
            load(config, layer_type=kind, quirks=quirks)
    except ValueError as reason:
        assert KEY.search(str(reason)), reason
        assert len(str(reason)) <= 2000


@pytest.mark.thorough
@QUICK
@hp.given(config=JSON | st.dictionaries(st.sampled_from([*LLAMA, *MORE]), JSON))
def test_whatever_is_no_configuration_is_refused_in_few_words(config):
    try:
        load(config)
    except (ValueError, FileNotFoundError) as reason:
        assert len(str(reason)) <= 2000


=======
>>>>>>> baa2e69327718d165b8647014ea4049ae0fe8c5a
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


LATENT = ["deepseek_v2", "deepseek_v3", "glm4_moe_lite", "longcat_flash", "minicpm3"]


@pytest.mark.parametrize("model_type", LATENT)
def test_proportional_rope_of_latent_attention_is_over_the_channels_that_rotate(
    model_type,
):
    proportional = {"rope_type": "proportional", "partial_rotary_factor": 0.5}
    config = {"model_type": model_type, "qk_rope_head_dim": 64, "rope_theta": 1e4}
    rotary = load({**config, "rope_parameters": proportional}).rotary
    kept = np.arange(32) < 16
    wanted = np.where(kept, 1e4 ** (-np.arange(32) / 32), 0)
    np.testing.assert_allclose(rotary.frequencies(), wanted, rtol=1e-12)


def test_values_that_rotate_are_refused():
    config = {"model_type": "roformer", "rotary_value": True}
    with pytest.raises(ValueError, match="`rotary_value` must be False for this model"):
        load(config)
