"""What `load` says of the model types of transformers that it does not build."""

import contextlib
import re

import pytest
from transformers import CONFIG_MAPPING

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import load
from eqx_posemb.interop.huggingface._parts import part_of
from eqx_posemb.interop.huggingface._rows import _by_hand, models


def refused(model_type):
    """The error for the default configuration, or None if it has a row to read."""
    config = {"model_type": model_type}
    # Some classes have no default configuration.
    with contextlib.suppress(Exception):
        config = CONFIG_MAPPING[model_type]().to_dict()
    try:
        part_of(config, None)
    except ValueError as error:
        return str(error)
    return None


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_every_model_type_has_a_row_or_a_reason():
    reasons = _by_hand()["reasons"].values()
    lost = []
    for model_type in CONFIG_MAPPING:
        message = refused(model_type)
        if message is None or "`part` must be given" in message:
            continue
        if not any(reason in message for reason in reasons):
            lost.append((model_type, message))
    assert not lost, lost


def test_reasons_name_classes_that_there_are():
    table = _by_hand()
    assert set(table["model_types"].values()) == set(table["reasons"])
    both = set(table["model_types"]) & set(models())
    assert all("instead" in models()[name] for name in both)
    for reason in table["reasons"].values():
        for name in re.findall(r"`eqx_posemb.(\w+)`", reason):
            made = getattr(pe, name)
            builds = "by `from_state_dict`" not in reason
            assert builds or hasattr(made, "from_state_dict"), name


@pytest.mark.parametrize(
    "model_type, name",
    [
        ("yolos", "LearnedGrid"),
        ("wav2vec2", "PositionalConvolution"),
        ("inkling2_loop_text", "Inkling"),
        ("deberta-v2", "DeBERTa"),
        ("xlnet", "TransformerXL"),
        ("swinv2", "LogCPB"),
        ("mamba", "no positional embedding"),
        ("resnet", "no positional embedding"),
    ],
)
def test_the_error_names_the_class_to_build(model_type, name):
    with pytest.raises(ValueError, match=f"`model_type` must .*{model_type}.*{name}"):
        load({"model_type": model_type})
