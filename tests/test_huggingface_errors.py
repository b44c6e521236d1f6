"""Reading configurations: what is wrong with them."""

import copy
import math
import re

import hypothesis as hp
import hypothesis.strategies as st
import pytest

from benchmarks.hf_compare import Golden, part_at
from eqx_posemb.interop.huggingface import layer_types, load
from tests.helpers import GOLDEN
from tests.test_huggingface import LLAMA, llama, scaled, YARN


CENSUS = Golden(GOLDEN)
NAMES = sorted(CENSUS.model_types)
QUICK = hp.settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[hp.HealthCheck.too_slow],
)
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
    "`rope_parameters.rope_type` and `rope_parameters.type`": scaled(
        rope_type="linear", type="yarn", factor=2.0
    ),
    "`rope_parameters` and `rope_scaling`": scaled(rope_type="linear", factor=2.0)
    | {"rope_scaling": {"type": "linear", "factor": 4.0}},
    "and `original_max_position_embeddings` must agree": scaled(**YARN)
    | {"original_max_position_embeddings": 1024},
    "and `partial_rotary_factor` must agree, but got 0.25 and 0.5": llama(
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
    '`model_type="gemma3_text"` for a text alone': {"model_type": "gemma3"},
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
