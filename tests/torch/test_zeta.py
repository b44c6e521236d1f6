"""What Zeta documents, in PyTorch, against arrays made by running its code and that of
the authors of xPos and YaRN; and what is wrong there and right here."""

import copy
import pickle

import numpy as np
import pytest
import torch

import eqx_posemb as pe
from eqx_posemb import functional
from eqx_posemb.interop.torch import (
    apply_rotary_pos_emb,
    duplicate_interleave,
    fixed_pos_embedding,
    linear_ramp_mask,
    RotaryEmbedding,
    rotate_every_two,
    XPOS,
    YarnEmbedding,
)
from tests.parity.references import as_torch, assert_close, golden, rotated
from tests.test_functional import ZETA_SETTINGS


SEEDS, THEIR_XPOS, YARN = golden("seeds"), golden("xpos"), golden("yarn")
# Tables in float32 have angles that are off by half an ulp of `position * frequency`.
SHORT = 5e-6


@pytest.mark.parametrize("head_dim", [16, None])
@pytest.mark.parametrize("down", [0, 1])
def test_xpos_is_that_of_torchscale(down, head_dim):
    xpos = XPOS(head_dim)
    for length in 1, 6, 7, 33:
        for offset in 0, 1, 2, 5:
            ours = xpos(as_torch(THEIR_XPOS[f"x{length}"]), offset, bool(down))
            assert_close(ours, THEIR_XPOS[f"y_L{length}_o{offset}_d{down}"], atol=SHORT)
    x64 = as_torch(THEIR_XPOS["x64"])
    ours = XPOS(64, 32)(x64, downscale=bool(down))
    # Values of up to 6.2, from angles of up to 39.
    assert_close(ours, THEIR_XPOS["y64_sb32" + "_down" * down], atol=2e-5)


@pytest.mark.parametrize("head_dim", [8, None])
def test_xpos_of_queries_and_keys_at_once_is_that_of_calls(head_dim):
    xpos = XPOS(head_dim)
    # Long enough for factors that are subnormal in float32, and their inverse is not.
    q, k = torch.randn(1, 1, 8), torch.randn(2, 1, 1, 8)
    ours = xpos.rotate_queries_and_keys(q, k, 72_000)
    assert_close(ours[0], xpos(q, 72_000), atol=0)
    assert_close(ours[1], xpos(k, 72_000, downscale=True), atol=0)
    q, k = torch.randn(3, 7, 8), torch.randn(7, 8)
    ours = xpos.rotate_queries_and_keys(q, k)
    assert_close(ours[0], xpos(q), atol=0)
    assert_close(ours[1], xpos(k, downscale=True), atol=0)


def test_the_parts_of_xpos_are_those_of_torchscale():
    sin, cos = fixed_pos_embedding(torch.zeros(32, 512))
    assert_close(sin[:, ::32], SEEDS["fpe_sin_32_512"], atol=SHORT)
    assert_close(cos[:, ::32], SEEDS["fpe_cos_32_512"], atol=SHORT)
    assert_close(XPOS(16).scale, SEEDS["scale16"], atol=1e-7)


@pytest.mark.parametrize("scale", [3, "table"])
def test_tables_for_pairs_and_for_channels_turn_alike(scale):
    x = torch.randn(2, 3, 5, 8)
    sin, cos = fixed_pos_embedding(x[0, 0, :, :4])
    if scale == "table":
        scale = torch.rand(5, 4)
    wide = duplicate_interleave(scale * torch.ones(5, 4))
    twice = duplicate_interleave(sin), duplicate_interleave(cos)
    by_parts = (x * twice[1] + rotate_every_two(x) * twice[0]) * wide
    for tables, each in ((sin, cos), scale), (twice, wide):
        ours = apply_rotary_pos_emb(x, *tables, scale=each)
        # Sums of two products of up to 4 and 3, in another order.
        torch.testing.assert_close(ours, by_parts, atol=4e-6, rtol=0)


@pytest.mark.parametrize("name", list(ZETA_SETTINGS))
def test_angles_and_growth_are_those_of_zeta(name):
    length, dim, settings = ZETA_SETTINGS[name]
    angles, scale = RotaryEmbedding(dim, **settings)(length, "cpu")
    assert_close(angles, SEEDS[f"zeta_{name}_freqs"], atol=SHORT)
    assert_close(torch.as_tensor(scale), SEEDS[f"zeta_{name}_scale"], atol=2e-6)
    cos, sin = RotaryEmbedding(dim, **settings).cos_sin(torch.arange(length))
    torch.testing.assert_close(
        (cos, sin), (angles.cos(), angles.sin()), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(
    "name, dim, stretch, original, base",
    [
        ("s2_2k_d64", 64, 2, 2048, 10_000),
        ("s4_4k_d128", 128, 4, 4096, 10_000),
        ("s32_8k_5e5", 128, 32, 8192, 500_000),
        ("s4_64_d64", 64, 4, 64, 10_000),
        ("s1_2k_d64", 64, 1, 2048, 10_000),
        ("s8_2k_d32_b100", 32, 8, 2048, 100),
    ],
)
def test_tables_are_those_of_yarn(name, dim, stretch, original, base):
    yarn = YarnEmbedding(
        dim,
        stretch * original,
        base,
        original_max_position_embeddings=original,
        finetuned=True,
    )
    cos, sin = yarn.tables(torch.zeros(dim), 64)
    # Angles of up to 63, of float32 frequencies.
    assert_close(cos[0, 0], YARN[f"{name}_cos"], atol=2e-5)
    assert_close(sin[0, 0], YARN[f"{name}_sin"], atol=2e-5)
    x = torch.randn(2, 64, dim)
    half = torch.cat([-x[..., dim // 2 :], x[..., : dim // 2]], dim=-1)
    torch.testing.assert_close(yarn(x), (x * cos + half * sin)[0], atol=5e-6, rtol=0)


def test_long_inputs_stretch_as_far_as_they_need_and_leave_no_trace():
    yarn = YarnEmbedding(64)
    short = yarn.tables(torch.zeros(64), 100)
    angles = torch.arange(100)[:, None] * torch.tensor(pe.frequencies.Geometric(64)())
    torch.testing.assert_close(short[0][0, 0, :, :32], angles.cos().float())
    cos, _ = yarn.tables(torch.zeros(64), 3000)
    # Angles of up to 3000, of float32 frequencies.
    assert_close(cos[0, 0, 2992:], YARN["dyn3000_cos_tail"], atol=3e-4)
    again = yarn.tables(torch.zeros(64), 100)
    torch.testing.assert_close(again, short, atol=0, rtol=0)
    same = YarnEmbedding(64, 3000, finetuned=True)
    x = torch.randn(3000, 64)
    torch.testing.assert_close(yarn(x), same(x), atol=0, rtol=0)
    last = yarn(x[2999:], seq_len=3000, positions=torch.tensor([2999]))
    torch.testing.assert_close(last, yarn(x)[2999:], atol=0, rtol=0)


def test_queries_and_keys_share_the_tables_of_yarn():
    yarn, q, k = YarnEmbedding(8), torch.randn(4, 5, 8), torch.randn(2, 5, 8)
    both = yarn.rotate_queries_and_keys(q, k, 3000, positions=torch.arange(3, 8))
    wanted = [yarn(each, 3000, positions=torch.arange(3, 8)) for each in (q, k)]
    torch.testing.assert_close(list(both), wanted, atol=0, rtol=0)


def test_attn_factor_and_extrapolation_are_yarns():
    x = torch.randn(9, 64)
    plain, doubled, slowed = (
        YarnEmbedding(64, 4096, finetuned=True, **settings)
        for settings in ({}, dict(attn_factor=2), dict(extrapolation_factor=0))
    )
    torch.testing.assert_close(doubled(x), 2 * plain(x))
    linear, _ = rotated(pe.linear_rope(64, factor=2.0), np.arange(9), x)
    wanted = functional.get_mscale(2) * linear
    assert_close(slowed(x), wanted, atol=2e-6)


def test_the_ramp_is_that_of_yarns_authors():
    for name in SEEDS:
        if name.startswith("yarn_ramp_"):
            least, most, dim = name.removeprefix("yarn_ramp_").split("_")
            ours = linear_ramp_mask(float(least), float(most), int(dim))
            assert_close(ours, SEEDS[name], atol=1e-6)


MODULES = {
    "xpos": lambda: XPOS(8),
    "xpos of any width": XPOS,
    "yarn": lambda: YarnEmbedding(8),
    "long yarn": lambda: YarnEmbedding(8, 4, original_max_position_embeddings=4),
    "finetuned yarn": lambda: YarnEmbedding(8, 4096, finetuned=True),
    "rotary": lambda: Rotated(RotaryEmbedding(8, use_xpos=True)),
}


class Rotated(torch.nn.Module):
    """A user of angles and growth."""

    def __init__(self, embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, x):
        angles, scale = self.embedding(x.shape[-2], x.device)
        half = torch.cat([-x[..., 4:], x[..., :4]], dim=-1)
        return ((x * angles.cos() + half * angles.sin()) * scale).to(x.dtype)


@pytest.mark.parametrize("name", list(MODULES))
def test_gradients_are_right(name):
    x = torch.randn(2, 5, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(MODULES[name](), (x,))


@pytest.mark.parametrize("name", list(MODULES))
def test_it_is_moved_copied_and_saved_as_a_module_is(name):
    module, x = MODULES[name](), torch.randn(2, 5, 8)
    wanted = module(x)
    with torch.device("meta"):
        empty = MODULES[name]()
    for moved in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        copy.deepcopy(module).half().double(),
        empty.to_empty(device="cpu"),
    ):
        assert torch.equal(moved(x), wanted)
    assert module.state_dict() == {}
    half = module(x.bfloat16())
    assert half.dtype == torch.bfloat16
    # An input and an output that are rounded to 8 bits, of up to 4.
    torch.testing.assert_close(half.float(), wanted, atol=8 * 2**-8, rtol=0)


def test_state_dicts_of_zeta_load():
    XPOS(8).load_state_dict({"scale": torch.ones(4)})
    RotaryEmbedding(8).load_state_dict({"inv_freq": torch.ones(4)})
    YarnEmbedding(8).load_state_dict({"inv_freq": torch.ones(4)})
    inside = torch.nn.Sequential(XPOS(8), torch.nn.Linear(8, 8))
    state = inside.state_dict() | {"0.scale": torch.ones(4)}
    inside.load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*other"):
        XPOS(8).load_state_dict({"other": torch.ones(4)})


def test_results_are_where_they_are_asked_for():
    angles, scale = RotaryEmbedding(8, use_xpos=True)(5, torch.device("meta"))
    assert angles.is_meta and scale.is_meta


@pytest.mark.usefixtures("as_users_have_it")
@pytest.mark.parametrize(
    "text, call",
    [
        ("`scale_base` must be positive.*got 0", lambda: XPOS(8, 0)),
        ("`dim` must be even and positive.*got 7", lambda: XPOS(7)),
        (
            "with `dim` as `head_dim`, 8, but got .5, 6.",
            lambda: XPOS(8)(torch.ones(5, 6)),
        ),
        (
            "with `dim` as `head_dim`, 8, but got .5, 6.",
            lambda: XPOS(8).rotate_queries_and_keys(torch.ones(5, 8), torch.ones(5, 6)),
        ),
        (
            "the same tokens and dtype.*float32 of shape .5, 8. and torch.float64",
            lambda: XPOS(8).rotate_queries_and_keys(
                torch.ones(5, 8), torch.ones(5, 8).double()
            ),
        ),
        ("as `head_dim`, even, but got .5, 7.", lambda: XPOS()(torch.ones(5, 7))),
        ("`scale` must have a `head_dim`", lambda: XPOS().scale),
        (
            "does not overflow torch.float16, but got 100000 positions.*512",
            lambda: XPOS(8)(torch.ones(1, 8).half(), offset=99_999),
        ),
        ("an even last axis.*got shape .3,.", lambda: rotate_every_two(torch.ones(3))),
        (
            "`base_rescale_factor` must be positive.*got 0",
            lambda: RotaryEmbedding(8, base_rescale_factor=0),
        ),
        (
            "`factor` must be at least 1",
            lambda: RotaryEmbedding(8, interpolation_factor=0.5),
        ),
        (
            "`max_position_embeddings` must be at least the original, 2048, but got 64",
            lambda: YarnEmbedding(8, 64),
        ),
        (
            "`original_max_position_embeddings` must be positive.*got 0",
            lambda: YarnEmbedding(8, original_max_position_embeddings=0),
        ),
        (
            "`attn_factor` must be positive.*got 0",
            lambda: YarnEmbedding(8, attn_factor=0),
        ),
        ("with dim=8, but got .5, 6.", lambda: YarnEmbedding(8)(torch.ones(5, 6))),
        (
            "the same tokens and dtype.*shape .5, 8. and.*shape .4, 8.",
            lambda: YarnEmbedding(8).rotate_queries_and_keys(
                torch.ones(5, 8), torch.ones(4, 8)
            ),
        ),
        (
            "`seq_len` must be at least the 5 tokens of `x`, but got 4",
            lambda: YarnEmbedding(8)(torch.ones(5, 8), 4),
        ),
    ],
)
def test_errors_say_the_rule(text, call):
    with pytest.raises(ValueError, match=text):
        call()


def test_rotary_embedding_of_two_channels_has_one_frequency():
    angles, _ = RotaryEmbedding(2, base_rescale_factor=8.0)(4, "cpu")
    assert angles.tolist() == [[t, t] for t in range(4)]


def test_xpos_does_not_lose_angles_to_low_precision():
    x = torch.ones(2048, 8).bfloat16()
    wanted = XPOS(8)(x.double())
    # One rounding of the result, of 8 bits.
    relative = (XPOS(8)(x).double() - wanted).abs() / wanted.abs().amax(1, keepdim=True)
    assert relative.max() < 2**-8
