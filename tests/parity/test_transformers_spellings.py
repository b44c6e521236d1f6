"""A configuration says the same before and after its class has read it.

The classes of transformers move, rename and drop what a file says. For each model type
and each spelling that its class accepts, `load` of the file must be `load` of what the
class makes of it. No model is built.
"""

import copy
import dataclasses

import equinox as eqx
import pytest
from transformers import CONFIG_MAPPING

from eqx_posemb.interop.huggingface import layer_types, load
from eqx_posemb.interop.huggingface._layers import labels_of, rotating_labels
from eqx_posemb.interop.huggingface._parts import part_of
from eqx_posemb.interop.huggingface._rotaries import layer_of
from eqx_posemb.interop.huggingface._rows import models
from eqx_posemb.interop.huggingface._unread import unread


YARN = {"factor": 4.0, "original_max_position_embeddings": 2048}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
THETA = {"rope_theta": 12345.0}
DEFAULT = {"rope_type": "default", **THETA}
SPELLINGS = {
    "nothing": {},
    "null": {"rope_scaling": None},
    "theta": THETA,
    "share": {"partial_rotary_factor": 0.5},
    "theta beside yarn": {**THETA, "rope_scaling": {"rope_type": "yarn", **YARN}},
    "old name of yarn": {**THETA, "rope_scaling": {"type": "yarn", **YARN}},
    "yarn": {"rope_scaling": {"rope_type": "yarn", **YARN}},
    "theta within yarn": {"rope_scaling": {"rope_type": "yarn", **THETA, **YARN}},
    "parameters": {"rope_parameters": {"rope_type": "yarn", **THETA, **YARN}},
    "theta beside parameters": {
        **THETA,
        "rope_parameters": {"rope_type": "yarn", **YARN},
    },
    "theta within parameters": {"rope_parameters": DEFAULT},
    "theta alone within parameters": {"rope_parameters": THETA},
    "share within parameters": {
        "rope_parameters": {**DEFAULT, "partial_rotary_factor": 0.5}
    },
    "linear": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "dynamic": {"rope_scaling": {"type": "dynamic", "factor": 2.0}},
    "llama3": {"rope_theta": 5e5, "rope_scaling": LLAMA3},
}
# LFM3's class gives the share of its global layers to its local ones, which rotate
# whole heads whatever it is.
EXCEPTIONS = {("lfm3", "share")}


def loaded(config):
    """What `load` builds the kinds of layers from, which takes less time than building
    them, or None for an error."""
    try:
        settings, _ = part_of(config, None)
        if "adds" in settings.row:
            kinds = dict.fromkeys(layer_types(config))
            # Shapes alone: drawing a table takes longer than reading a file.
            of = lambda kind: eqx.filter_eval_shape(load, config, layer_type=kind)
            return {str(of(kind)) for kind in kinds}
        labels = {*labels_of(settings)}
        every = {*labels, *rotating_labels(settings)}
        of = lambda label: layer_of(settings, label)
        made = {label: of(label) for label in labels}
        if unread(settings, lambda: map(of, every)):
            return None
    except ValueError:
        return None
    return {
        _seen(layer, settings.row) if layer.rope else None for layer in made.values()
    }


def _seen(layer, row):
    """Without settings that have no effect on layers of the kind."""
    rope = layer.rope
    if rope.kind != "proportional":
        rope = dataclasses.replace(rope, partial=1.0)
    if rope.kind != "dynamic":
        rope = dataclasses.replace(rope, length=0)
    if list(rope.sections) == row.get("sections"):
        rope = dataclasses.replace(rope, sections=())
    return dataclasses.replace(layer, rope=rope)


def spellings(model_type):
    """All of them, with long and short divisors as many as the model has pairs."""
    yield from SPELLINGS.items()
    layers = loaded({"model_type": model_type}) or ()
    pairs = max((getattr(each, "width", 2) // 2 for each in layers), default=1)
    lists = {"short_factor": [1.0] * pairs, "long_factor": [4.0] * pairs}
    yield "longrope", {"rope_scaling": {"type": "longrope", **lists, **YARN}}


# Each model type has one spelling in so many. At 1, which takes minutes, it has all.
EVERY = 12


def disagreements(model_type, start):
    """Where a file says something else than what its class makes of it."""
    for name, spelling in list(spellings(model_type))[start % EVERY :: EVERY]:
        try:
            told = CONFIG_MAPPING[model_type](**copy.deepcopy(spelling)).to_dict()
        except Exception:
            # Each class has errors of its own for what it does not accept.
            continue
        ours, theirs = loaded({"model_type": model_type, **spelling}), loaded(told)
        if ours != theirs and (model_type, name) not in EXCEPTIONS:
            yield name, ours, theirs


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_a_file_says_what_its_class_makes_of_it():
    types = [name for name in models() if name in CONFIG_MAPPING]
    assert len(types) > 250
    wrong = [
        f"{model_type}, {name}: {ours} is not {theirs}"
        for i, model_type in enumerate(types)
        for name, ours, theirs in disagreements(model_type, i)
    ]
    assert not wrong, "\n".join(wrong)
