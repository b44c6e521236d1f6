"""What `load` builds from the configuration of every model type that rotates.

The golden files hold, for each of the 382 model types of transformers 5.24.0, its
configuration and the linear map that its own code applies to queries at some positions:
see `benchmarks/hf_census.py`, which made them and measures again.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from benchmarks import hf_compare
from tests.parity.references import GOLDEN


# Where transformers has something else than a configuration, or a rotation, means. With
# `quirks=True` these match, too: see the docstring of `load`.
QUIRKS = {
    "hunyuan_vl": "the channels of a pair turn with different coordinates",
    "hunyuan_vl_text": "the channels of a pair turn with different coordinates",
    "minimax_m3_vl": "`rotary_dim` is not read",
    "minimax_m3_vl_text": "`rotary_dim` is not read",
    "qwen3_omni_moe": "the default head has 73 channels, and 74 rotate",
    "qwen3_omni_moe_text": "the default head has 73 channels, and 74 rotate",
    "qwen3_omni_moe_thinker": "the default head has 73 channels, and 74 rotate",
}


class Data(pe.frequencies.AbstractFrequencies):
    """What a schedule says at length one, as arrays and not as constants."""

    words: Any
    radians: Any

    def turns(self):
        return self.words

    def __call__(self):
        return self.radians


@eqx.filter_jit
def _turned(rotary, positions, x):
    return rotary(positions).queries(x)


def _maps(rotary, positions) -> np.ndarray:
    """As in `hf_compare`, with one program for all schedules of a layout and width."""
    kind = jnp.int32 if positions.dtype.kind == "i" else jnp.float32
    schedule = rotary.frequencies.for_length(1)
    data = Data(schedule.turns(), schedule())
    rotary = dataclasses.replace(rotary, frequencies=data)
    # A head for each channel.
    eye = np.broadcast_to(
        np.eye(rotary.dim, dtype=np.float32)[:, None],
        (rotary.dim, len(positions), rotary.dim),
    )
    positions = jnp.asarray(positions.astype(kind))
    turned = _turned(rotary, positions, jnp.asarray(eye))
    return np.asarray(turned, np.float64).swapaxes(0, 1)


@pytest.fixture(scope="module")
def census():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hf_compare, "_maps", _maps)
        yield hf_compare.Golden(GOLDEN)


@pytest.mark.parametrize("quirks", [True, False])
def test_every_model_type_that_rotates_is_as_in_transformers(census, quirks):
    wrong = {
        name: found
        for name in census.model_types
        if (found := census.differences(name, quirks))
    }
    expected = set() if quirks else set(QUIRKS)
    print(f"{len(census.model_types) - len(wrong)} of {len(census.model_types)}")
    assert len(census.model_types) == 382
    assert wrong.keys() == expected, wrong
