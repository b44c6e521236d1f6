"""What the command line says of a model's configuration."""

import json
import math

import numpy as np
import pytest

from eqx_posemb.__main__ import main


# The published configuration of Llama 3.1 8B, as far as positions go.
LLAMA = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "max_position_embeddings": 131072,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 512,
}


@pytest.fixture
def said(tmp_path, capsys):
    """What is printed of a configuration."""

    def run(config, *words, code=0):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config))
        assert main(["inspect", str(path), *words]) == code
        printed = capsys.readouterr()
        return (printed.err if code else printed.out).rstrip("\n")

    return run


@pytest.fixture
def facts(said):
    return lambda config, *words: json.loads(said(config, "--json", *words))


def small(**changes):
    return {**SMALL, **changes}


def scaled(**rope):
    return small(rope_scaling=rope)


def test_a_report_for_readers(said):
    assert (
        said(LLAMA)
        == """\
llama: 32 layers, a context of 131,072 positions

Layers 0-31, rope:
    rotary            eqx_posemb.Rotary over eqx_posemb.frequencies.NTKByParts
    channels          128 of 128 rotate
    pairs             halves
    theta             500,000
    trained length    8,192 positions
    frequencies       64
      kept            29: pairs 0-28, wavelengths of 6.28 to 1,956 positions
      blended         6: pairs 29-34, wavelengths of 2,900 to 35,198 positions
      over 8          29: pairs 35-63, wavelengths of 65,750 to 20,473,564 positions
    wavelengths       up to 20,473,564 positions: 0.0064 turns in the context
    less than a turn  29 pairs in the trained length, before scaling
    attention factor  1

Warnings:
  * The context of 131,072 positions is longer than the 8,192 of training times
    the scaling factor, 8: the slowest pairs reach new angles, unless the model
    was trained further there.
  * Angles from a product in float32, as transformers has them, are off by up to
    0.006 radians at the end of this context, and by more than 0.001 from
    contexts of 32,768 positions on. Here they are exact to 1e-7, so logits
    differ from the logits of transformers."""
    )


def test_a_report_for_machines_has_the_numbers_of_the_formula(facts):
    (kind,) = facts(LLAMA)["kinds"]
    (rotary,) = kind["rotary"]
    assert kind["layers"] == list(range(32))
    waves = 2 * math.pi * 500_000.0 ** (np.arange(64) / 64)
    turns = 8192 / waves
    kept, divided = turns > 4, turns < 1
    frequencies = rotary["frequencies"]
    assert frequencies["kept"]["count"] == kept.sum()
    assert frequencies["interpolated"]["count"] == divided.sum()
    assert frequencies["blended"]["count"] == (~kept & ~divided).sum()
    # The last digits of a float64 power.
    assert np.allclose(
        frequencies["interpolated"]["wavelengths"],
        [8 * waves[divided].min(), 8 * waves.max()],
        rtol=1e-12,
        atol=0,
    )
    assert rotary["unfinished"] == divided.sum()
    assert rotary["turns_of_slowest"] == pytest.approx(131072 / (8 * waves.max()))


@pytest.mark.thorough
def test_the_error_of_float32_is_that_of_torch(facts):
    import torch

    (rotary,) = facts(small(max_position_embeddings=65536))["kinds"][0]["rotary"]
    exact = 10_000.0 ** (-np.arange(8) / 8)
    positions = np.arange(65536 - 256, 65536)[:, None]
    theirs = torch.tensor(positions).float() * torch.tensor(exact).float()
    error = np.abs(theirs.double().numpy() - positions * exact).max()
    assert rotary["float32_error"] == error > 1e-3
    assert rotary["float32_limit"] <= 65536


def test_short_contexts_need_no_warning(facts):
    report = facts(SMALL)
    assert report["warnings"] == []
    assert report["kinds"][0]["rotary"][0]["float32_error"] < 1e-3


def test_attention_factor_and_scale_of_logits(said):
    yarn = dict(factor=4.0, original_max_position_embeddings=128)
    text = said(scaled(rope_type="yarn", **yarn))
    factor = 0.1 * math.log(4) + 1
    assert f"attention factor  {factor:.6g}, and so logits {factor**2:.6g}" in text
    assert "logits times  1\n" in said({"model_type": "t5"})


def test_channels_that_pass_through_are_not_counted_as_rotating(said):
    proportional = dict(rope_type="proportional", partial_rotary_factor=0.25)
    config = {"model_type": "gemma4_text", "head_dim": 64, "num_hidden_layers": 1}
    config |= {"layer_types": ["full_attention"], "global_head_dim": 64}
    text = said({**config, "rope_parameters": {"full_attention": proportional}})
    assert "16 of 64 rotate" in text and "do not turn     24: pairs 8-31" in text


def test_layers_that_differ_are_told_apart(said):
    text = said({"model_type": "smollm3", "num_hidden_layers": 9})
    assert "\nLayers 0-2, 4-6, 8, rope:\n" in text
    assert "\nLayers 3, 7, nope:\n    rotary  eqx_posemb.NoPE()" in text


COUNTED = {
    "bloom": ["n_layer"],
    "gpt2": ["n_layer"],
    "gptj": ["n_layer"],
    "codegen": ["n_layer"],
    "mpt": ["n_layers"],
    "dbrx": ["n_layers"],
    "distilbert": ["n_layers"],
    "gpt_neo": ["num_layers"],
    "bart": ["encoder_layers", "decoder_layers"],
    "moonshine": ["encoder_num_hidden_layers", "decoder_num_hidden_layers"],
    "qwen2_vl_vision": ["depth"],
    # Spellings of other model types.
    "llama": ["n_layer"],
    "nomic_bert": ["n_layer"],
    "bert": ["num_hidden_layers"],
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", COUNTED)
def test_layers_are_counted_in_every_spelling(name, facts):
    keys = COUNTED[name]
    assert facts({"model_type": name} | dict.fromkeys(keys, 3))["layer_count"] == (
        3 * len(keys)
    )
    # The default is that of transformers.
    assert facts({"model_type": name})["layer_count"] > 1


def test_layers_that_do_not_rotate_are_not_headed_rope(said):
    assert "\nLayers 0-1:\n    bias" in said({"model_type": "bloom", "n_layer": 2})
    assert "\nLayers 0-1:\n    encoding" in said({"model_type": "gpt2", "n_layer": 2})
    still = {"model_type": "zamba2", "num_hidden_layers": 2}
    assert "\nLayers 0-1:\n" in said(still) and "* The layers do not" in said(still)
    assert "\nLayers 0-1, rope:\n" in said(SMALL)


def test_sections_of_coordinates_are_shown(facts, said):
    rope = {"type": "mrope", "mrope_section": [2, 3, 3]}
    config = small(model_type="qwen2_vl_text", rope_scaling=rope)
    text = "of 3 coordinates, which turn 2, 3, 3 pairs, chunked"
    assert f"    positions         {text}\n" in said(config)
    (rotary,) = facts(config)["kinds"][0]["rotary"]
    assert (rotary["sections"], rotary["order"]) == ([2, 3, 3], "chunked")


WINDOWS = {
    "mistral": ({}, [0, 1, 2, 3], None),
    "qwen2": (
        {"use_sliding_window": True, "max_window_layers": 2},
        [2, 3],
        "layers 2-3",
    ),
    "gemma2": ({}, [0, 2], "layers 0, 2"),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_the_layers_that_have_a_window_are_shown(name, facts, said):
    keys, layers, where = WINDOWS[name]
    config = small(model_type=name, num_hidden_layers=4, sliding_window=64, **keys)
    (kind,) = facts(config)["kinds"]
    assert (kind["window"], kind["window_layers"]) == (64, layers)
    text = said(config)
    assert "window            64 keys" + (f" in {where}\n" if where else "\n") in text
    seers = where.capitalize() if where else "Layers of the type 'rope'"
    assert f"* {seers} attend to 64 keys" in text
    none = {"use_sliding_window": True, "max_window_layers": 4}
    whole = small(model_type="qwen2", num_hidden_layers=4, sliding_window=64, **none)
    assert facts(whole)["kinds"][0]["window"] is None


WARNINGS = {
    "depend on the length in use, from 512 positions on: keys": scaled(
        type="dynamic", factor=2.0
    ),
    "from 64 positions on: keys that were cached": small(
        model_type="phi3",
        original_max_position_embeddings=64,
        rope_scaling=dict(
            type="longrope", short_factor=[1.0] * 8, long_factor=[2.0] * 8
        ),
    ),
    "The context of 512 positions is longer than the 64 of training": scaled(
        rope_type="yarn", factor=4.0, original_max_position_embeddings=64
    ),
    "'rope' attend to 128 keys at most. The window is no part of the embedding: give "
    "`window=128`": small(model_type="mistral", sliding_window=128),
    "attend within chunks of 64 positions": {
        "model_type": "llama4_text",
        "attention_chunk_size": 64,
    },
    "'nope' do not rotate": {"model_type": "smollm3", "num_hidden_layers": 4},
    "The table of positions has 512 rows.": {"model_type": "bert"},
    "All distances from 128 on are in one bucket": {"model_type": "t5"},
    "Layers of the type 'sliding_attention' have a sink": {
        "model_type": "mimo_v2_flash",
        "num_hidden_layers": 8,
    },
    "transformers computes something else for layers of the type 'full_attention'": (
        small(
            model_type="gemma3_text",
            layer_types=["full_attention"] * 2,
            rope_parameters={
                "full_attention": dict(
                    rope_type="yarn",
                    factor=4.0,
                    original_max_position_embeddings=128,
                    truncate=False,
                )
            },
        )
    ),
}


@pytest.mark.parametrize("text", WARNINGS)
def test_a_careful_engineer_would_warn(text, facts):
    warnings = facts(WARNINGS[text])["warnings"]
    assert sum(text in warning for warning in warnings) == 1
    assert len(warnings) == len(set(warnings))


def test_a_window_belongs_to_the_layers_that_slide(facts):
    layers = ["sliding_attention", "full_attention"]
    config = small(model_type="gemma3_text", layer_types=layers, sliding_window=128)
    windows = {kind["layer_type"]: kind["window"] for kind in facts(config)["kinds"]}
    assert windows == {"sliding_attention": 128, "full_attention": None}
    # Layers of another kind beside them see all keys.
    dense = dict(model_type="cohere2_moe", first_k_dense_replace=1, layer_types=layers)
    kinds = facts(small(**dense, sliding_window=128))["kinds"]
    windows = {kind["layer_type"]: kind["window"] for kind in kinds}
    assert windows == {"rope": None, "full_attention": None}


@pytest.mark.parametrize(
    "counted, layers",
    [
        (None, [1, 3, 5]),
        ([[["global"], 2], [["local", "global"], 2]], [2, 4]),
        ([[["global"], 10**9]], []),
        ([[{}, "x"]], [1, 3, 5]),
    ],
)
def test_local_layers_have_a_window(counted, layers, facts):
    config = {"model_type": "gpt_neo", "num_layers": 6, "max_position_embeddings": 8}
    config |= {"hidden_size": 64} | ({"attention_types": counted} if counted else {})
    (kind,) = facts(config)["kinds"]
    assert kind["window_layers"] == layers
    assert kind["window"] == (256 if layers else None)


def test_a_window_that_is_not_used_is_not_warned_of(facts):
    config = small(model_type="qwen2", sliding_window=128, use_sliding_window=False)
    assert facts(config)["warnings"] == []


def test_keys_that_nothing_reads_are_listed(facts, said):
    report = facts(small(rope_thetta=5e5, rotary_dim=8))
    assert report["unread"] == {"rope_thetta": 5e5, "rotary_dim": 8}
    assert report["kinds"] == facts(SMALL)["kinds"]
    assert "The key `rope_thetta` with the value 500000.0 is not" in said(
        small(rope_thetta=5e5)
    )


@pytest.mark.parametrize("part", ["text", "vision"])
def test_keys_beside_the_parts_that_no_part_reads_are_listed(part, facts):
    text = small(model_type="qwen2_vl_text", rope_scaling={"mrope_section": [2, 3, 3]})
    right = VISION | {"text_config": text}
    report = facts(right | {"rope_thetta": 5e5}, "--part", part)
    assert report["unread"] == {"rope_thetta": 5e5}
    assert report["kinds"] == facts(right, "--part", part)["kinds"]


def test_keys_that_engines_read_are_applied_or_ignored(facts, said):
    config = scaled(rope_type="yarn", factor=4.0, attn_factor=2.0)
    assert "--engine-keys must be given for `rope_parameters.attn" in said(
        config, code=2
    )
    for choice, multiple in ("apply", 2), ("ignore", 1):
        (kind,) = facts(config, "--engine-keys", choice)["kinds"]
        factor = multiple * (0.1 * math.log(4) + 1)
        assert kind["rotary"][0]["attention_factor"] == pytest.approx(factor)
        assert kind["as_transformers"] == (choice == "ignore")


VISION = {
    "model_type": "qwen2_vl",
    "text_config": small(model_type="qwen2_vl_text"),
    "vision_config": {"model_type": "qwen2_vl"},
}


def test_a_model_of_several_parts_names_them_and_the_option(said):
    assert said(VISION, code=2) == (
        "eqx-posemb inspect: --part must be given, as several parts of 'qwen2_vl' have "
        "positions: `text_config`, `vision_config`, but got None. Choose it by --part "
        "text_config."
    )


def test_a_part_is_read_as_its_own_type(said):
    assert said(VISION, "--part", "vision_config").startswith("qwen2_vl_vision: 32 lay")
    assert "of 2 coordinates" in said(VISION, "--part", "vision")


def test_a_part_that_is_not_there_is_answered_by_those_that_are(said):
    text = said(VISION, "--part", "audio_config", code=2)
    assert text.endswith(
        "--part must be a part of the model, but got 'audio_config'. It has "
        "`text_config`, `vision_config`."
    )
    text = said(SMALL, "--part", "a", code=2)
    assert text.endswith("--part must be None for a model of one part, but got 'a'.")


def test_an_unknown_model_type_names_those_near_and_the_option(said):
    text = said({"model_type": "lama"}, code=2)
    assert "such as llama" in text and "but got 'lama'. --model-type says" in text
    assert said({**SMALL, "model_type": "lama"}, "--model-type", "llama") == said(SMALL)
    assert "--model-type says what to read it as" in said({}, code=2)


def test_a_contradiction_is_one_line_that_names_the_key(said):
    text = said(scaled(rope_type="linear"), code=2)
    assert text.startswith("eqx-posemb inspect: `rope_parameters.factor` must be given")
    assert "\n" not in text


def test_a_missing_file_is_one_line(tmp_path, capsys):
    missing = tmp_path / "missing.json"
    assert main(["inspect", str(missing)]) == 2
    assert capsys.readouterr().err == (
        "eqx-posemb inspect: `config` must be a path to a config.json or its folder, "
        f"but got {missing}: No such file or directory.\n"
    )
    assert main(["inspect", str(tmp_path)]) == 2
    assert (
        f"but got {tmp_path / 'config.json'}: No such file" in capsys.readouterr().err
    )
    (tmp_path / "config.json").write_text("{")
    assert main(["inspect", str(tmp_path)]) == 2
    assert "`config` must be JSON, but got" in capsys.readouterr().err
