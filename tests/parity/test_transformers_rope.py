"""Rotary embeddings against transformers."""

from typing import Any

import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import (
    GptOssConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.llama import modeling_llama as llama

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    llama_config,
)


# Powers in float32 differ by up to 20 ulp between torch, NumPy and JAX.
FREQUENCIES = 3e-6


def assert_same_schedule(ours, theirs, length=None):
    """Frequencies relative to those of the base schedule, and the attention factor.

    Relative to the base because a blend near its slow end is a small difference, there
    with the error of the large numbers that it is the difference of.
    """
    frequencies, scale = theirs
    base: Any = ours.frequencies
    while not isinstance(base, pe.frequencies.Geometric):
        base = (
            base.short
            if isinstance(base, pe.frequencies.LongRoPEFrequencies)
            else base.base
        )
    plain = base()
    now = ours.frequencies if length is None else ours.frequencies.for_length(length)
    found, expected = as_numpy(now()), as_numpy(frequencies)
    assert_close(found / plain, expected / plain, rtol=FREQUENCIES, atol=FREQUENCIES)
    assert_close(ours.scale, scale, rtol=1e-12)


def their_schedule(settings, length=None):
    kind = settings.rope_parameters["rope_type"]
    return ROPE_INIT_FUNCTIONS[kind](settings, torch.device("cpu"), seq_len=length)


THETAS = st.sampled_from([100.0, 1e4, 5e5, 1e7]) | st.floats(50, 1e8)
DIMS = st.sampled_from([8, 16, 64, 80, 96, 128, 256])
FACTORS = st.sampled_from([1.0, 2.0, 3.0, 8.0, 40.0]) | st.floats(1, 100)
ORIGINAL = st.sampled_from([64, 2048, 4096, 8192]) | st.integers(64, 10**5)
PARTIAL = st.sampled_from([1.0, 0.5, 0.25])
MANY = hp.settings(max_examples=60, deadline=None, derandomize=True)


def rotary_dim(dim, partial):
    width = int(dim * partial)
    hp.assume(width >= 4 and width % 2 == 0)
    return width


@MANY
@hp.given(dim=DIMS, theta=THETAS, factor=FACTORS, partial=PARTIAL)
def test_linear_is_theirs(dim, theta, factor, partial):
    width = rotary_dim(dim, partial)
    ours = pe.linear_rope(dim, theta=theta, factor=factor, rotary_dim=width)
    settings = dict(factor=factor, partial_rotary_factor=partial)
    assert_same_schedule(
        ours, their_schedule(llama_config("linear", dim, theta, **settings))
    )


@MANY
@hp.given(
    dim=DIMS,
    theta=THETAS,
    factor=FACTORS,
    partial=PARTIAL,
    original=ORIGINAL,
    stretch=st.floats(0.1, 30),
    traced=st.booleans(),
)
def test_dynamic_is_theirs_for_a_length(
    dim, theta, factor, partial, original, stretch, traced
):
    width = rotary_dim(dim, partial)
    length = int(original * stretch) + 1
    ours = pe.dynamic_ntk_rope(
        dim, theta=theta, factor=factor, original_length=original, rotary_dim=width
    )
    settings = dict(factor=factor, partial_rotary_factor=partial)
    theirs = llama_config("dynamic", dim, theta, original, **settings)
    # A traced length makes the stretch in float32, where its terms cancel.
    hp.assume(not traced or factor <= 4)
    ours_length = jnp.int32(length) if traced else length
    assert_same_schedule(ours, their_schedule(theirs, length), ours_length)


YARN_SCALES = st.sampled_from(
    [
        {},
        {"attention_factor": 1.25},
        {"mscale": 1.0, "mscale_all_dim": 1.0},
        {"mscale": 0.707, "mscale_all_dim": 1.3},
    ]
)


@MANY
@hp.given(
    dim=DIMS,
    theta=THETAS,
    factor=FACTORS,
    partial=PARTIAL,
    original=ORIGINAL,
    slow=st.sampled_from([1.0, 0.5, 2.0]),
    ratio=st.sampled_from([32.0, 4.0]) | st.floats(4, 64),
    truncate=st.booleans(),
    scales=YARN_SCALES,
)
def test_yarn_is_theirs(
    dim, theta, factor, partial, original, slow, ratio, truncate, scales
):
    width = rotary_dim(dim, partial)
    shared = dict(beta_fast=slow * ratio, beta_slow=slow, truncate=truncate, **scales)
    ours = pe.yarn(
        dim,
        theta=theta,
        factor=factor,
        original_length=original,
        rotary_dim=width,
        **shared,
    )
    theirs = llama_config(
        "yarn",
        dim,
        theta,
        factor=factor,
        partial_rotary_factor=partial,
        original_max_position_embeddings=original,
        **shared,
    )
    assert_same_schedule(ours, their_schedule(theirs))


@MANY
@hp.given(
    dim=DIMS,
    theta=THETAS,
    factor=FACTORS,
    original=ORIGINAL,
    scale=st.sampled_from([None, 1.19]),
    beyond=st.sampled_from([-1, 0, 1, 1000]),
    seed=st.integers(0, 9),
)
def test_longrope_is_theirs_on_both_sides(
    dim, theta, factor, original, scale, beyond, seed
):
    numbers = np.random.default_rng(seed).uniform(1, 60, (2, dim // 2)).tolist()
    shared = dict(short_factor=numbers[0], long_factor=numbers[1], factor=factor)
    if scale is not None:
        shared["attention_factor"] = scale
    ours = pe.longrope(dim, theta=theta, original_length=original, **shared)
    theirs = llama_config(
        "longrope", dim, theta, original_max_position_embeddings=original, **shared
    )
    length = original + beyond
    assert_same_schedule(ours, their_schedule(theirs, length), length)
    assert_same_schedule(ours, their_schedule(theirs, length), jnp.int32(length))


@MANY
@hp.given(
    dim=DIMS,
    theta=THETAS,
    factor=FACTORS,
    partial=PARTIAL,
    original=ORIGINAL,
    low=st.floats(0.5, 4),
    ratio=st.sampled_from([2.0, 4.0]) | st.floats(2, 20),
)
def test_llama3_is_theirs(dim, theta, factor, partial, original, low, ratio):
    width = rotary_dim(dim, partial)
    shared = dict(low_freq_factor=low, high_freq_factor=low * ratio, factor=factor)
    ours = pe.llama3_rope(
        dim, theta=theta, original_length=original, rotary_dim=width, **shared
    )
    theirs = llama_config(
        "llama3",
        dim,
        theta,
        original_max_position_embeddings=original,
        max_length=4 * original,
        partial_rotary_factor=partial,
        **shared,
    )
    assert_same_schedule(ours, their_schedule(theirs))


@MANY
@hp.given(
    dim=DIMS,
    theta=THETAS,
    factor=FACTORS,
    fraction=st.sampled_from([1.0, 0.25, 0.334]) | st.floats(0.01, 1),
)
def test_proportional_is_theirs(dim, theta, factor, fraction):
    ours = pe.proportional_rope(dim, theta=theta, factor=factor, fraction=fraction)
    settings = dict(factor=factor, partial_rotary_factor=fraction)
    theirs = llama_config("proportional", dim, theta, **settings)
    assert_same_schedule(ours, their_schedule(theirs))


def test_gpt_oss_is_yarn_with_a_ramp_between_indices():
    theirs = gpt_oss.GptOssRotaryEmbedding(GptOssConfig())
    ours = pe.yarn(
        64, theta=150_000.0, factor=32.0, original_length=4096, truncate=False
    )
    assert_same_schedule(ours, (theirs.inv_freq, theirs.attention_scaling))
    rounded = pe.yarn(64, theta=150_000.0, factor=32.0, original_length=4096)
    assert not np.allclose(rounded.frequencies(), as_numpy(theirs.inv_freq), rtol=0.1)


@pytest.mark.parametrize("last", [2047, 2048, 5000])
@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_schedule_of_the_length_reads_it_from_the_positions_as_theirs_does(
    kind, last
):
    if kind == "dynamic":
        theirs = llama_config(kind, 64, max_length=2048, factor=2.0)
        rope = pe.dynamic_ntk_rope(64, factor=2.0, original_length=2048)
    else:
        numbers: dict[str, Any] = dict(
            short_factor=[1.5] * 32, long_factor=[7.0] * 32, factor=4.0
        )
        theirs = llama_config(
            kind, 64, original_max_position_embeddings=2048, **numbers
        )
        rope = pe.longrope(64, original_length=2048, **numbers)
    there = np.array([0, 7, last])
    cos, sin = llama.LlamaRotaryEmbedding(theirs)(torch.zeros(1), as_torch(there[None]))
    ours = jax.jit(rope)(jnp.asarray(there))
    # Both have frequencies in float32, and products with the position.
    for found, table in (ours.cos, cos), (ours.sin, sin):
        table = as_numpy(table)[0, :, :32]
        assert_close(found[:2], table[:2], atol=1e-5)
        assert_close(found[2:], table[2:], atol=FREQUENCIES * last)


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_tables_are_theirs_at_every_position_given_the_same_float32_frequencies(theta):
    schedule = pe.frequencies.Geometric(128, theta)
    rotary = pe.Rotary(schedule, arithmetic="float32")
    theirs = llama.LlamaRotaryEmbedding(llama_config("default", 128, theta))
    shared = as_numpy(schedule.turns().radians())
    assert_close(shared, theirs.inv_freq, rtol=FREQUENCIES)
    theirs.inv_freq.copy_(as_torch(shared))
    there = np.array([0, 1, 999, 30_000, 131_071, 10**6, 16_777_215])
    cos, sin = theirs(torch.zeros(1), as_torch(there[None]))
    rotation = rotary(jnp.asarray(there))
    for found, table in (rotation.cos, cos), (rotation.sin, sin):
        # The products are equal to the bit; cosines are right to an ulp.
        assert_close(found, as_numpy(table)[0, :, :64], atol=2e-7)
