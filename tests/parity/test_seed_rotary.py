"""Rotary embeddings against arrays made by running their authors' code.

torchscale (xPos, git 4d1e0e8), transformers 5.23.0 (halves), rotary-embedding-torch
(adjacent, partial, xPos; git 8bb4643) and yarn (git 995db5b), on CPU in float32.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, on_device, rotated, run


# Tables in float32 have angles that are off by half an ulp of `position * frequency`:
# 4e-6 at position 64, and 2e-6 at 33. That times channels of up to 4, and twice.
SHORT = 1e-5

XPOS, APPLY, YARN = golden("xpos"), golden("rope_apply"), golden("yarn")
OFFSETS = 0, 1, 2, 5


@functools.cache
def _xpos_of_length(length):
    """Queries and keys, for each offset."""
    # Their center is the middle of all `length + offset` tokens, rounded up.
    ropes = [
        pe.xpos(16, center=math.ceil((length + offset) / 2), pairing="adjacent")
        for offset in OFFSETS
    ]
    positions = [np.arange(offset, offset + length) for offset in OFFSETS]

    def turned(positions, x):
        rotations = [rope(p) for rope, p in zip(ropes, positions, strict=True)]
        each = jax.vmap(lambda row: [(r.queries(row), r.keys(row)) for r in rotations])
        return each(x.reshape(-1, length, 16))

    found = run(turned, positions, XPOS[f"x{length}"])
    return dict(zip(OFFSETS, found, strict=True))


@pytest.mark.parametrize("turn, down", [("queries", 0), ("keys", 1)])
@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("length", [1, 6, 7, 33])
def test_xpos_is_torchscale_with_its_centre_for_that_length(length, offset, turn, down):
    theirs = XPOS[f"y_L{length}_o{offset}_d{down}"]
    ours = _xpos_of_length(length)[offset][down].reshape(theirs.shape)
    assert_close(ours, theirs, atol=5e-6)


def test_xpos_is_torchscale_at_another_scale_base():
    rope = pe.xpos(64, scale_base=32.0, center=20, pairing="adjacent")
    q, k = rotated(rope, np.arange(40), XPOS["x64"])
    # Values of up to 6.2, from angles of up to 39 (ulp 3.8e-6).
    assert_close(q, XPOS["y64_sb32"], atol=2e-5)
    assert_close(k, XPOS["y64_sb32_down"], atol=2e-5)


@pytest.mark.parametrize("center", [0, 10, -100, 3000])
def test_logits_of_xpos_are_those_of_torchscale_at_any_centre(center):
    rope = pe.xpos(16, center=center, pairing="adjacent")
    found = rotated(rope, np.arange(20), XPOS["q"], XPOS["k"])
    q, k = (x.astype(np.float64) for x in found)
    # The growth is a float32 number of up to 8 nepers: its ulp is relative to logits.
    atol = SHORT * max(1, abs(center) / 1000)
    assert_close(q @ k.swapaxes(1, 2), XPOS["logits"], atol=atol)


@pytest.mark.parametrize("thetas", [(1e4, 5e5), (5e5, 1e4)])
@pytest.mark.parametrize("jitted", [False, True])
def test_halves_are_those_of_llama_for_two_thetas_in_one_process(thetas, jitted):
    def turn(q, k):
        rotations = [pe.rope(32, theta=theta)(jnp.arange(12)) for theta in thetas]
        each_head = lambda f: jax.vmap(jax.vmap(f))
        return [(each_head(r.queries)(q), each_head(r.keys)(k)) for r in rotations]

    q, k = APPLY["q"], APPLY["k"]
    found = run(turn, q, k) if jitted else turn(*on_device((q, k)))
    for (q, k), theta in zip(found, thetas, strict=True):
        assert_close(q, APPLY[f"half_q_{theta:.0f}"], atol=SHORT)
        assert_close(k, APPLY[f"half_k_{theta:.0f}"], atol=SHORT)


@pytest.mark.parametrize("theta", [1e4, 5e5])
def test_adjacent_is_that_of_rotary_embedding_torch(theta):
    rope = pe.rope(32, theta=theta, pairing="adjacent")
    for offset, name in (0, ""), (7, "_off7"):
        ours, _ = rotated(rope, np.arange(12) + offset, APPLY["q"])
        theirs = APPLY[f"inter_q{name}_{theta:.0f}"]
        assert_close(ours, theirs, atol=SHORT)


def test_partial_adjacent_is_that_of_rotary_embedding_torch():
    rope = pe.rope(32, rotary_dim=16, pairing="adjacent")
    ours, _ = rotated(rope, np.arange(12), APPLY["q"])
    assert_close(ours, APPLY["inter_partial16_q"], atol=SHORT)
    np.testing.assert_array_equal(ours[..., 16:], APPLY["q"][..., 16:])


def test_adjacent_xpos_is_that_of_rotary_embedding_torch():
    # Their center is half of the length, rounded down.
    rope = pe.xpos(32, center=6, pairing="adjacent")
    found = rotated(rope, np.arange(12), APPLY["q"], APPLY["k"])
    for ours, name in zip(found, "qk", strict=True):
        assert_close(ours, APPLY[f"inter_xpos_{name}"], atol=SHORT)


@pytest.mark.parametrize("make", [pe.rope, pe.xpos])
def test_halves_of_permuted_channels_are_adjacent_permuted(make):
    order = np.r_[0:32:2, 1:32:2]
    positions, q = np.arange(100, 112), APPLY["q"]
    halves = rotated(make(32, pairing="halves"), positions, q[..., order])
    adjacent = rotated(make(32, pairing="adjacent"), positions, q)
    for ours, other in zip(halves, adjacent, strict=True):
        assert_close(ours, other[..., order], atol=1e-6)


def _yarn(factor, original, dim, theta=1e4, **settings):
    return pe.yarn(
        dim, factor=factor, original_length=original, theta=theta, **settings
    )


YARNS = {
    "s2_2k_d64": _yarn(2.0, 2048, 64),
    "s4_4k_d128": _yarn(4.0, 4096, 128),
    "s16_4k_d128": _yarn(16.0, 4096, 128),
    "s32_8k_5e5": _yarn(32.0, 8192, 128, theta=5e5),
    "s4_64_d64": _yarn(4.0, 64, 64),
    "s1_2k_d64": _yarn(1.0, 2048, 64),
    "s8_2k_d32_b100": _yarn(8.0, 2048, 32, theta=100.0),
    "ef0.0_af1.0": _yarn(4.0, 2048, 64, extrapolation_factor=0.0),
    "ef0.5_af1.0": _yarn(4.0, 2048, 64, extrapolation_factor=0.5),
    # Their `attn_factor` multiplies the temperature; ours is the final value.
    "ef1.0_af2.0": _yarn(4.0, 2048, 64, attention_factor=2 * (0.1 * math.log(4) + 1)),
    # Their dynamic form at length 3000, and their fine-tuned form for 8192.
    "dyn3000": _yarn(3000 / 2048, 2048, 64),
    "ft8192": _yarn(8192 / 2048, 2048, 64),
}


@pytest.mark.parametrize("name", YARNS)
def test_yarn_has_the_frequencies_and_the_scale_of_its_authors(name):
    # Theirs are float32: a power of about 4 ulp, and five more roundings.
    assert_close(YARNS[name].frequencies(), YARN[f"{name}_inv"], rtol=2e-6)
    assert_close(YARNS[name].scale, YARN[f"{name}_mscale"], atol=1e-12)


@pytest.mark.parametrize("name", [n for n in YARNS if f"{n}_range" in YARN])
def test_yarn_blends_within_the_range_of_its_authors(name):
    schedule = YARNS[name].frequencies
    assert isinstance(schedule, pe.frequencies.YaRNFrequencies)
    ratio = schedule() / schedule.base()
    low, high = YARN[f"{name}_range"]
    assert (ratio[: low + 1] == 1).all()
    if schedule.factor > 1:
        # float64 divides by the factor to within an ulp.
        assert_close(
            ratio[high:] * schedule.factor, np.ones(len(ratio[high:])), atol=4e-16
        )
        between = ratio[low + 1 : high]
        assert ((1 / schedule.factor < between) & (between < 1)).all()
        assert (np.diff(ratio[low : high + 1]) < 0).all()


@pytest.mark.parametrize("name", [n for n in YARNS if f"{n}_cos" in YARN])
def test_yarn_has_the_tables_of_its_authors(name):
    for ours, part in zip(_tables(name, np.arange(64)), ("cos", "sin"), strict=True):
        # Theirs repeat their half. Angles of up to 63 have an ulp of 3.8e-6 in float32,
        # and frequencies of 2e-6 relative would make 1.3e-4: they are 20 times better.
        theirs = YARN[f"{name}_{part}"]
        assert_close(np.concatenate([ours] * 2, -1), theirs, atol=2e-5)


def test_yarn_has_the_last_rows_of_a_long_table_of_its_authors():
    ours, _ = _tables("dyn3000", np.arange(2992, 3000))
    # Angles of 3000 have an ulp of 2.4e-4 in float32.
    theirs = YARN["dyn3000_cos_tail"]
    assert_close(np.concatenate([ours, ours], -1), theirs, atol=3e-4)


def _tables(name, positions):
    rotation = run(YARNS[name], positions)
    return rotation.cos, rotation.sin
