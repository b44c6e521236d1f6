"""Rotary embeddings against transformers."""

import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import (
    CohereConfig,
    DeepseekV3Config,
    Gemma4VisionConfig,
    GPTJConfig,
    GptOssConfig,
    LlamaConfig,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.gemma4 import modeling_gemma4 as gemma4
from transformers.models.gpt_oss import modeling_gpt_oss as gpt_oss
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    over_leading_axes,
)


# Powers in float32 differ by up to 20 ulp between torch, NumPy and JAX.
FREQUENCIES = 3e-6


def config(rope_type, dim, theta=1e4, max_length=8192, **parameters):
    return LlamaConfig(
        hidden_size=dim,
        num_attention_heads=1,
        head_dim=dim,
        max_position_embeddings=max_length,
        rope_parameters=dict(rope_type=rope_type, rope_theta=theta, **parameters),
    )


def assert_same_schedule(ours, theirs, length=None):
    """Frequencies relative to those of the base schedule, and the attention factor.

    Relative to the base because a blend near its slow end is a small difference, there
    with the error of the large numbers that it is the difference of.
    """
    frequencies, scale = theirs
    base = ours.frequencies
    while not isinstance(base, pe.Geometric):
        base = base.short if isinstance(base, pe.LongRoPEFrequencies) else base.base
    found = as_numpy(ours.frequencies(length)) / base()
    assert_close(
        found, as_numpy(frequencies) / base(), rtol=FREQUENCIES, atol=FREQUENCIES
    )
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
    assert_same_schedule(ours, their_schedule(config("linear", dim, theta, **settings)))


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
    theirs = config("dynamic", dim, theta, original, **settings)
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
    theirs = config(
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
    theirs = config(
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
    theirs = config(
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
    theirs = config("proportional", dim, theta, **settings)
    assert_same_schedule(ours, their_schedule(theirs))


def test_gpt_oss_is_yarn_with_a_ramp_between_indices():
    theirs = gpt_oss.GptOssRotaryEmbedding(GptOssConfig())
    ours = pe.yarn(
        64, theta=150_000.0, factor=32.0, original_length=4096, truncate=False
    )
    assert_same_schedule(ours, (theirs.inv_freq, theirs.attention_scaling))
    rounded = pe.yarn(64, theta=150_000.0, factor=32.0, original_length=4096)
    assert not np.allclose(rounded.frequencies(), as_numpy(theirs.inv_freq), rtol=0.1)


RNG = np.random.default_rng(0)
Q = RNG.normal(size=(2, 3, 16, 64)).astype(np.float32)
K = RNG.normal(size=(2, 3, 16, 64)).astype(np.float32)
# Positions up to 20: an ulp of the angle is 1.9e-6, twenty ulps of the frequency are
# 2.4e-6 of it (where it is 1: none). Times a channel of up to 4, and twice.
THERE = np.arange(5, 21)
APPLIED = 2e-5


def assert_applied(rotation, theirs):
    for turn, x, found in zip(
        (rotation.queries, rotation.keys), (Q, K), theirs, strict=True
    ):
        assert_close(over_leading_axes(turn, x), as_numpy(found), atol=APPLIED)


LLAMAS = [
    ("default", {}, pe.rope, {}),
    ("linear", {"factor": 3.0}, pe.linear_rope, {"factor": 3.0}),
    (
        "yarn",
        {"factor": 4.0, "original_max_position_embeddings": 2048},
        pe.yarn,
        {"factor": 4.0, "original_length": 2048},
    ),
    (
        "llama3",
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 2048,
        },
        pe.llama3_rope,
        {"factor": 8.0, "original_length": 2048},
    ),
    (
        "proportional",
        {"partial_rotary_factor": 0.25},
        pe.proportional_rope,
        {"fraction": 0.25},
    ),
]


@pytest.mark.parametrize("kind, theirs, make, ours", LLAMAS, ids=[r[0] for r in LLAMAS])
def test_halves_are_applied_as_in_llama(kind, theirs, make, ours):
    module = llama.LlamaRotaryEmbedding(config(kind, 64, 5e5, **theirs))
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    found = llama.apply_rotary_pos_emb(as_torch(Q), as_torch(K), cos, sin)
    rotation = make(64, theta=5e5, **ours)(jnp.asarray(THERE))
    assert_close(
        over_leading_axes(rotation.queries, Q), as_numpy(found[0]), atol=APPLIED
    )
    assert_close(over_leading_axes(rotation.keys, K), as_numpy(found[1]), atol=APPLIED)


@pytest.mark.parametrize("last", [2047, 2048, 5000])
@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_a_schedule_of_the_length_reads_it_from_the_positions_as_theirs_does(
    kind, last
):
    if kind == "dynamic":
        theirs = config(kind, 64, max_length=2048, factor=2.0)
        rope = pe.dynamic_ntk_rope(64, factor=2.0, original_length=2048)
    else:
        numbers = dict(short_factor=[1.5] * 32, long_factor=[7.0] * 32, factor=4.0)
        theirs = config(kind, 64, original_max_position_embeddings=2048, **numbers)
        rope = pe.longrope(64, original_length=2048, **numbers)
    there = np.array([0, 7, last])
    cos, sin = llama.LlamaRotaryEmbedding(theirs)(as_torch(Q), as_torch(there[None]))
    ours = jax.jit(rope)(jnp.asarray(there))
    # Both have frequencies in float32, and products with the position.
    for found, table in (ours.cos, cos), (ours.sin, sin):
        table = as_numpy(table)[0, :, :32]
        assert_close(found[:2], table[:2], atol=1e-5)
        assert_close(found[2:], table[2:], atol=FREQUENCIES * last)


@pytest.mark.parametrize("theta", [1e4, 1e6])
def test_tables_are_theirs_at_every_position_given_the_same_float32_frequencies(theta):
    rotary = pe.Rotary(pe.Geometric(128, theta), arithmetic="float32")
    theirs = llama.LlamaRotaryEmbedding(config("default", 128, theta))
    shared = as_numpy(rotary.frequencies.turns().radians())
    assert_close(shared, theirs.inv_freq, rtol=FREQUENCIES)
    theirs.inv_freq.copy_(as_torch(shared))
    there = np.array([0, 1, 999, 30_000, 131_071, 10**6, 16_777_215])
    cos, sin = theirs(torch.zeros(1), as_torch(there[None]))
    rotation = rotary(jnp.asarray(there))
    for found, table in (rotation.cos, cos), (rotation.sin, sin):
        # The products are equal to the bit; cosines are right to an ulp.
        assert_close(found, as_numpy(table)[0, :, :64], atol=2e-7)


def test_adjacent_is_applied_as_in_cohere():
    settings = CohereConfig(
        hidden_size=64, num_attention_heads=1, rope_parameters={"rope_theta": 5e5}
    )
    module = cohere.CohereRotaryEmbedding(settings)
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    found = cohere.apply_rotary_pos_emb(as_torch(Q), as_torch(K), cos, sin)
    theta = settings.rope_parameters["rope_theta"]
    rotation = pe.rope(64, theta=theta, pairing="adjacent")(jnp.asarray(THERE))
    assert_close(
        over_leading_axes(rotation.queries, Q), as_numpy(found[0]), atol=APPLIED
    )
    assert_close(over_leading_axes(rotation.keys, K), as_numpy(found[1]), atol=APPLIED)


def test_partial_adjacent_is_applied_as_in_gptj():
    width = GPTJConfig().rotary_dim // 4
    table = gptj.create_sinusoidal_positions(32, width)[torch.from_numpy(THERE)]
    sin, cos = torch.split(table[None], width // 2, dim=-1)
    # Theirs is [batch, seq, heads, dim], and the caller slices.
    q = as_torch(Q.swapaxes(1, 2))
    turned = gptj.apply_rotary_pos_emb(q[..., :width], sin, cos)
    found = as_numpy(torch.cat([turned, q[..., width:]], dim=-1))
    rotary = pe.rope(64, rotary_dim=width, pairing="adjacent")
    ours = jax.vmap(rotary(jnp.asarray(THERE)).queries)(Q.swapaxes(1, 2))
    assert_close(ours, found, atol=APPLIED)
    same = pe.Pairing.adjacent(64, rotary_dim=width)
    other = pe.Rotary(pe.Geometric(width), dim=64, pairing=same)
    ours = jax.vmap(other(jnp.asarray(THERE)).queries)(Q.swapaxes(1, 2))
    assert_close(ours, found, atol=APPLIED)


@pytest.mark.parametrize("start", [0, 32])
def test_adjacent_to_halves_is_applied_as_in_deepseek_v3(start):
    width = 64 - start
    settings = DeepseekV3Config(qk_rope_head_dim=width)
    assert settings.head_dim == width
    module = deepseek.DeepseekV3RotaryEmbedding(settings)
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    parts = [as_torch(x)[..., start:] for x in (Q, K)]
    found = deepseek.apply_rotary_pos_emb_interleave(*parts, cos, sin)
    pairing = pe.Pairing.adjacent_to_halves(64, rotary_dim=width, start=start)
    rotary = pe.Rotary(pe.Geometric(width), pairing=pairing)
    rotation = rotary(jnp.asarray(THERE))
    passed = (as_torch(x)[..., :start] for x in (Q, K))
    whole = [torch.cat(pair, -1) for pair in zip(passed, found, strict=True)]
    assert_applied(rotation, whole)
    kept = over_leading_axes(rotation.keys, K)[..., :start]
    np.testing.assert_array_equal(kept, K[..., :start])


def test_halves_per_block_are_applied_as_in_the_vision_tower_of_gemma_4():
    settings = Gemma4VisionConfig(head_dim=64)
    theta = settings.rope_parameters["rope_theta"]
    module = gemma4.Gemma4VisionRotaryEmbedding(settings)
    # The same coordinate on both axes: the layout alone is in question here.
    there = as_torch(np.stack([THERE, THERE], -1))[None]
    cos, sin = module(as_torch(Q), there)
    q = as_torch(Q.swapaxes(1, 2))
    found = gemma4.apply_multidimensional_rope(q, cos, sin, there)

    class Twice(pe.AbstractStaticFrequencies):
        """One schedule for each block."""

        base: pe.Geometric

        def exact(self):
            return np.concatenate([self.base.exact()] * 2)

    pairing = pe.Pairing.halves_per_block(64, blocks=2)
    rotary = pe.Rotary(Twice(pe.Geometric(32, theta)), pairing=pairing)
    ours = jax.vmap(rotary(jnp.asarray(THERE)).queries)(Q.swapaxes(1, 2))
    assert_close(ours, as_numpy(found), atol=APPLIED)


PAIRINGS = {
    "halves": (pe.Pairing.halves(64), "halves"),
    "adjacent": (pe.Pairing.adjacent(64), "adjacent"),
}


@pytest.mark.parametrize("name", PAIRINGS)
def test_the_general_form_of_a_layout_is_its_fast_form(name):
    general, fast = (
        pe.rope(64, pairing=p)(jnp.asarray(THERE)).queries for p in PAIRINGS[name]
    )
    assert_close(over_leading_axes(general, Q), over_leading_axes(fast, Q), atol=1e-6)
