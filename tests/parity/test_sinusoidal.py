"""Sinusoidal encodings against transformers, fairseq and diffusers."""

import functools

import numpy as np
import pytest
import torch
from transformers.models.ctrl.modeling_ctrl import positional_encoding
from transformers.models.distilbert.modeling_distilbert import (
    create_sinusoidal_embeddings,
)
from transformers.models.m2m_100.modeling_m2m_100 import (
    M2M100SinusoidalPositionalEmbedding,
)
from transformers.models.marian.modeling_marian import (
    MarianSinusoidalPositionalEmbedding,
)
from transformers.models.whisper.modeling_whisper import sinusoids

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, run


GOLDEN = golden("sinusoidal")


@functools.cache
def _ours(rows, dim, layout, theta=10_000.0):
    return run(pe.Sinusoidal(dim, theta, layout=layout), np.arange(rows))


def _distilbert(rows, dim):
    return create_sinusoidal_embeddings(rows, dim, torch.empty(rows, dim))


def _marian(rows, dim):
    return MarianSinusoidalPositionalEmbedding(rows, dim).create_weight()


def _ctrl(rows, dim):
    return positional_encoding(rows, dim, torch.float64)


def _m2m100(rows, dim):
    return M2M100SinusoidalPositionalEmbedding.get_embedding(rows, dim)


def _diffusers(rows, dim, flip_sin_to_cos=True, downscale_freq_shift=0):
    """The formula of `get_timestep_embedding`."""
    half = dim // 2
    exponent = -np.log(10_000) * np.arange(half) / (half - downscale_freq_shift)
    angles = np.arange(rows)[:, None] * np.exp(exponent)[None]
    parts = [np.sin(angles), np.cos(angles)]
    table = np.concatenate(parts[::-1] if flip_sin_to_cos else parts, axis=-1)
    return np.pad(table, [(0, 0), (0, dim % 2)])


# Tables made in float64 are met as well as ours are true, 1e-7, and as theirs are
# rounded, 3e-8. Those made in float32 are off by an ulp of the largest angle, and by 4
# more of each frequency.
FLOAT64, FLOAT32 = (lambda rows: 2e-7), (lambda rows: 2e-7 + 5 * 6e-8 * rows)
TABLES = [
    ("interleaved", _distilbert, FLOAT64),
    ("concatenated", _marian, FLOAT64),
    ("concatenated", _ctrl, FLOAT64),
    ("tensor2tensor", sinusoids, FLOAT32),
    ("tensor2tensor", _m2m100, FLOAT32),
    ("diffusion", _diffusers, FLOAT64),
]


@pytest.mark.parametrize("layout, theirs, atol", TABLES)
@pytest.mark.parametrize("rows, dim", [(5, 4), (40, 32), (512, 64), (1500, 128)])
def test_each_layout_is_that_of_its_models(layout, theirs, atol, rows, dim):
    assert_close(_ours(rows, dim, layout), theirs(rows, dim), atol=atol(rows))


@pytest.mark.parametrize(
    "flip, shift, layout",
    [
        (False, 0, "concatenated"),
        (False, 1, "tensor2tensor"),
        (True, 0, "diffusion"),
        (True, 1, "tensor2tensor"),
    ],
)
def test_the_four_settings_of_diffusers_are_layouts(flip, shift, layout):
    ours = _ours(1000, 32, layout)
    if flip and shift:
        ours = np.roll(ours, 16, axis=-1)
    assert_close(ours, _diffusers(1000, 32, flip, shift), atol=2e-7)


@pytest.mark.parametrize("dim", [5, 7, 33])
@pytest.mark.parametrize(
    "layout, theirs", [("tensor2tensor", _m2m100), ("diffusion", _diffusers)]
)
def test_an_odd_number_of_channels_leaves_the_last_zero(layout, theirs, dim):
    ours = _ours(40, dim, layout)
    assert_close(ours, theirs(40, dim), atol=FLOAT32(40))
    assert not ours[:, -1].any()


@pytest.mark.parametrize("name", GOLDEN)
def test_tensor2tensor_is_the_golden_form_of_fairseq(name):
    _, _, dim, padding = name.split("_")
    theirs = GOLDEN[name]
    ours = _ours(16, int(dim), "tensor2tensor").copy()
    if padding != "None":
        # fairseq has a row of zeros for padding; here padding is a matter of masks.
        assert not theirs[int(padding)].any()
        ours[int(padding)] = 0
    assert_close(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("theta", [100.0, 5e5])
def test_theta_is_the_base(theta):
    angles = np.arange(50)[:, None] * theta ** (-np.arange(8) / 8)[None]
    ours = _ours(50, 16, "concatenated", theta)
    assert_close(ours, np.concatenate([np.sin(angles), np.cos(angles)], -1), atol=2e-7)
