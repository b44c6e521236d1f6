"""Configurations from strangers: an error in few words, after a time that is linear."""

import time

import pytest

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import _rope, layer_types, load


class Gives:
    """An object whose method `to_dict` returns that value."""

    def __init__(self, value):
        self.value = value

    def to_dict(self):
        return self.value


def nested(depth):
    config = {}
    for _ in range(depth):
        config = {"a_config": config}
    return config


LLAMA = {"model_type": "llama", "hidden_size": 64, "num_attention_heads": 4}
HOSTILE = {
    "at most 32 parts within each other": nested(5000),
    r"that returns a dictionary, but got \[1, 2\]": Gives([1, 2]),
    "that returns a dictionary, but got 5": Gives(5),
    "File name too long": "x" * 300,
    "Download a model of the Hugging Face Hub first": "meta-llama/Llama-3.1-8B",
    "`model_type` must be one of those known": {"model_type": "l" * 10**6},
    "19988 more": {f"p{i}_config": {"model_type": "llama"} for i in range(20_000)},
    "`hidden_size` must be an integer": LLAMA | {"hidden_size": "1" * 10**6},
    "`head_dim` must be an integer": LLAMA | {"head_dim": [[0] * 1000] * 1000},
    r"got 4.0. Did you mean `factor`\?": LLAMA
    | {"rope_parameters": {"rope_type": "yarn", "facotr": 4.0}},
    "`rope_parameters.aaa": LLAMA | {"rope_parameters": {"a" * 10**6: 1}},
    "`rope_parameters.rope_type` must be": LLAMA
    | {"rope_parameters": {"rope_type": "y" * 10**6}},
    "`rope_parameters` and `rope_scaling` must agree": LLAMA
    | {"rope_parameters": {"factor": "a" * 10**6}, "rope_scaling": {"factor": 2.0}},
    "`rope_theta` must be .* but got a long integer": LLAMA | {"rope_theta": 10**5000},
    "`config` must have strings for keys": {i: i for i in range(10**5)},
    "`layer_type` must be given": {
        "model_type": "granite_swa",
        "num_hidden_layers": 65_536,
        "layer_rope_theta": [1e4 + i for i in range(65_536)],
    },
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_refusal_is_short_and_comes_soon(text):
    start = time.process_time()
    with pytest.raises(ValueError, match=text) as error:
        load(HOSTILE[text])
    assert len(str(error.value)) < 2000
    # Quadratic time would be minutes.
    assert time.process_time() - start < 20


def test_as_many_factors_as_there_may_be_take_a_second():
    start = time.process_time()
    base, factors = (
        pe.frequencies.Geometric(2**16),
        [1 + i / 2**15 for i in range(2**15)],
    )
    short, long = (pe.frequencies.Divided(base, factors) for _ in range(2))
    assert (
        len(pe.frequencies.LongRoPEFrequencies(short, long, original_length=8)())
        == 2**15
    )
    # A power of decimals for each frequency took 8 seconds.
    assert time.process_time() - start < 3


def test_a_file_that_is_nested_deeply_is_refused(tmp_path):
    path = tmp_path / "config.json"
    path.write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(ValueError, match="`config` must be JSON that is not nested"):
        load(path)


def test_rope_settings_are_read_once_and_not_for_each_kind_of_layers(monkeypatch):
    """With 16,384 kinds of layers, reading all settings for each took 47 seconds."""
    read = []

    def counted(*arguments):
        read.append(arguments)
        return given(*arguments)

    given = _rope._given
    monkeypatch.setattr(_rope, "_given", counted)
    kinds = [f"kind{i}" for i in range(20)]
    settings = {kind: {"rope_type": "default"} for kind in kinds}
    config = {"model_type": "gemma3_text", "head_dim": 8, "layer_types": kinds}
    config |= {"rope_parameters": settings}
    assert layer_types(config) == tuple(kinds)
    assert load(config).rotary.dim == 8
    assert len(read) == 1
