"""What users read when something is wrong: argument, rule, value and cure."""

from types import SimpleNamespace

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import TypeCheckError

import eqx_posemb as pe


pytestmark = pytest.mark.usefixtures("as_users_have_it")
KEY = jr.key(0)
BASE = pe.frequencies.Geometric(16)
P = jnp.arange(4)
Q = jnp.ones((2, 4, 16))
MAKE = dict(heads=2, head_dim=16, dim=32, length=8, key=KEY)
GRID = pe.LearnedGrid((2, 2), 8, key=KEY)
EMPTY = pe.PositionalEmbedding()
# What JAX does not take, in the form of a tensor of PyTorch.
TENSOR = SimpleNamespace(ndim=3, shape=(2, 4, 16))


class Reading(pe.abstract.AbstractScore):
    reads = ("q_state",)

    def __call__(self, q, k, q_positions, k_positions, *, q_state=None):
        raise NotImplementedError


READING = pe.PositionalEmbedding(score=Reading())


def case(text, call):
    return pytest.param(text, call, id=text[:60])


# Tables, a case a line.
# fmt: off
SETTINGS = [
    # Frequencies.
    case("`dim` must be even and positive, to be rotated in pairs, but got 7", lambda: pe.frequencies.Geometric(7)),
    case("`theta` must be positive and finite, but got -1.0", lambda: pe.frequencies.Geometric(8, -1)),
    case("`dim` must be even and positive.*but got 7\\.", lambda: pe.GaussianFourier(np.int64(7))),
    case("`heads` must be an integer, but got 2\\.5\\.", lambda: pe.T5Bias(np.float32(2.5), key=KEY)),
    case("`theta` must be positive and finite, but got inf", lambda: pe.frequencies.Geometric(8, float("inf"))),
    case("`dim` must be at least 4 for `endpoint=True`.*but got 2", lambda: pe.frequencies.Geometric(2, endpoint=True)),
    case("`factor` must be at least 1 and finite, but got 0.5", lambda: pe.frequencies.Linear(BASE, 0.5)),
    case("`factor` must be at least 1 and finite, but got nan", lambda: pe.frequencies.NTK(BASE, float("nan"))),
    case("`base` must have at least 2 frequencies.*got 1. Rotate at least 4", lambda: pe.frequencies.NTK(pe.frequencies.Geometric(2), 2.0)),
    case("`base` must have at least 2 frequencies.*got 1. Rotate at least 4", lambda: pe.frequencies.DynamicNTK(pe.frequencies.Geometric(2), 2.0, 8)),
    case("`original_length` must be at least 1 and finite, but got 0", lambda: pe.frequencies.DynamicNTK(BASE, 2.0, 0)),
    case("`original_length` must be positive and finite, but got -3", lambda: pe.frequencies.NTKByParts(BASE, 2.0, -3)),
    case("`0 <= slow <= fast`, but got slow=4.0 and fast=1.0", lambda: pe.frequencies.NTKByParts(BASE, 2.0, 8, slow=4, fast=1)),
    case("`0 < slow <= fast`, but got slow=0.0 and fast=32.0", lambda: pe.frequencies.YaRNFrequencies(BASE, 2.0, 8, slow=0)),
    case("`extrapolation_factor` must be between 0 and 1, but got 2.0", lambda: pe.frequencies.YaRNFrequencies(BASE, 2.0, 8, extrapolation_factor=2)),
    case("`base` must have a `theta` above 1.*but got 1.0", lambda: pe.frequencies.YaRNFrequencies(pe.frequencies.Geometric(8, 1.0), 2.0, 8)),
    case("`divisors` must have one number per frequency, 8, but got 2", lambda: pe.frequencies.Divided(BASE, (1.0, 2.0))),
    case("`divisors` must be positive and finite, but got", lambda: pe.frequencies.Divided(BASE, (0.0,) * 8)),
    case("`short` and `long` must have the same number of frequencies, but got 8 and 4", lambda: pe.frequencies.LongRoPEFrequencies(BASE, pe.frequencies.Geometric(8), 8)),
    case("`original_length` must be positive and finite, but got 0", lambda: pe.frequencies.LongRoPEFrequencies(BASE, BASE, 0)),
    case("`keep` must be between 0 and 8, the number of frequencies, but got 9", lambda: pe.frequencies.Truncated(BASE, 9)),
    case("`count` must be at least 2 and finite, but got 1", lambda: pe.frequencies.Clipped(BASE, 1)),
    case("`count` must be between 2 and 8, the number of frequencies, but got 9", lambda: pe.frequencies.Clipped(BASE, 9)),
    case("`base` must have wavelengths of at least half a position, but got a frequency of 13.0", lambda: pe.frequencies.Resonance(pe.frequencies.Listed((13.0,)))()),
    case("`fraction` must give between 1 and 4 of 4 pairs, but got 0.2", lambda: pe.rope_id(8, length=64, fraction=0.2)),
    case("`fraction` must give between 1 and 4 of 4 pairs, but got 1.3", lambda: pe.rope_id(8, length=64, fraction=1.3)),
    case("`length` must be at least `turns` times `shortest`, 64.0, but got 63. Make", lambda: pe.rope_id(8, length=63)),
    case("`dim` must be even and positive, to be rotated in pairs, but got 7", lambda: pe.rope_id(7, length=64)),
    case("`shortest` must be positive and finite, but got 0", lambda: pe.rope_id(8, length=64, shortest=0)),
    case("`turns` must be positive and finite, but got 0", lambda: pe.rope_id(8, length=64, turns=0)),
    case("`length` must be positive and finite, but got 0", lambda: pe.rope_id(8, length=0)),
    case("`pair` must be between 0 and 7, the last pair of `base`, but got 8", lambda: pe.frequencies.RIFLEx(BASE, 8, 64)),
    case("`length` must be long enough for the period of pair 2 to grow, but got 9 frames", lambda: pe.frequencies.RIFLEx(BASE, 2, 9)),
    case("`turns_in_length` must be positive and finite, but got 0.0", lambda: pe.frequencies.RIFLEx(BASE, 2, 64, 0)),
    case("`base` must be geometric.*but got a Linear. Give `eqx_posemb.frequencies.Geometric", lambda: pe.frequencies.DyPE(pe.frequencies.Linear(BASE, 2.0), 2.0)),
    case("`method` must be one of 'ntk', 'yarn', but got 'pi'", lambda: pe.frequencies.DyPE(BASE, 2.0, "pi")),
    case("`original_length` must be given for `method='yarn'`, to count turns, but got None", lambda: pe.frequencies.DyPE(BASE, 2.0, "yarn")),
    # Rotary embeddings.
    case("`factor` must be one number, or one for each of the 2 coordinates, but got \\(2.0,\\)", lambda: pe.dype_rope(16, factor=(2.0,))),
    case("`rotary_dim` must be at most `dim`, 8, but got 16", lambda: pe.rope(8, rotary_dim=16)),
    case("`rotary_dim` must be even and positive.*but got 3", lambda: pe.rope(8, rotary_dim=3)),
    case("`pairing` must be one of 'halves', 'adjacent', but got 'half'", lambda: pe.rope(8, pairing="half")),
    case("`pairing` must cover the 8 channels of a head, but got a pairing of 16", lambda: pe.rope(8, pairing=pe.rotations.Pairing.halves(16))),
    case("`pairing` must use each angle of the schedule, 4, but got a pairing of 8", lambda: pe.Rotary(pe.frequencies.Geometric(8), pairing=pe.rotations.Pairing.halves(16))),
    case("`pairing` must use each angle of the schedule, 96, but got a pairing of 32", lambda: pe.Rotary(pe.frequencies.Geometric(192), dim=192, pairing=pe.rotations.Pairing.adjacent(192, 64, 128))),
    case("`dim` must be at least the number of rotated channels, 16, but got 8", lambda: pe.Rotary(BASE, dim=8)),
    case("`decay` must be over the rotated channels, 16, but got one over 8", lambda: pe.Rotary(BASE, decay=pe.rotations.XPosDecay(8))),
    case("`scale` must be positive and finite, but got 0.0", lambda: pe.Rotary(BASE, scale=0.0)),
    case("`arithmetic` must be one of 'exact', 'float32', but got 'bfloat16'", lambda: pe.Rotary(BASE, arithmetic="bfloat16")),
    case("`scale_base` must be positive and finite, but got 0.0", lambda: pe.xpos(8, scale_base=0)),
    case("`dim` must be even and positive.*but got 5", lambda: pe.rotations.XPosDecay(5)),
    case("`mscale` and `mscale_all_dim` go together.*got mscale=1.0 and mscale_all_dim=None", lambda: pe.yarn(8, factor=2, original_length=8, mscale=1.0)),
    case("`attention_factor` replaces `mscale`.*Give either", lambda: pe.yarn(8, factor=2, original_length=8, mscale=1.0, mscale_all_dim=1.0, attention_factor=2.0)),
    case("`attention_factor` must be positive and finite, but got -1", lambda: pe.yarn(8, factor=2, original_length=8, attention_factor=-1)),
    case("`mscale` must be positive and finite, but got 0.0", lambda: pe.yarn(8, factor=2, original_length=8, mscale=0.0, mscale_all_dim=1.0)),
    case("`mscale_all_dim` must be positive and finite, but got 0.0", lambda: pe.yarn(8, factor=2, original_length=8, mscale=1.0, mscale_all_dim=0.0)),
    case("`factor` must be at least 1 and finite, but got 0.5", lambda: pe.longrope(4, short_factor=(1, 1), long_factor=(1, 1), original_length=8, factor=0.5)),
    case("`original_length` must be at least 2 and finite, but got 1", lambda: pe.longrope(4, short_factor=(1, 1), long_factor=(1, 1), original_length=1, factor=2)),
    case("`attention_factor` must be positive and finite, but got 0", lambda: pe.longrope(4, short_factor=(1, 1), long_factor=(1, 1), original_length=8, factor=2, attention_factor=0)),
    case("`fraction` must be positive and finite, but got 0", lambda: pe.proportional_rope(8, fraction=0)),
    # Pairings.
    case("must have one entry per channel each, but got 2, 1, 2 and 2", lambda: pe.rotations.Pairing((0, 1), (1,), (1, 1), (0, 0))),
    case("`source` and `partner` must be channels, from 0 to 1, but got", lambda: pe.rotations.Pairing((0, 2), (1, 0), (1, 1), (0, 0))),
    case("`sign` must be -1, 0 or 1, but got", lambda: pe.rotations.Pairing((0, 1), (1, 0), (2, 1), (0, 0))),
    case("`pair` must not be negative, but got", lambda: pe.rotations.Pairing((0, 1), (1, 0), (1, 1), (0, -1))),
    case("`blocks` must cut the rotated channels.*got 3 blocks of 8 channels", lambda: pe.rotations.Pairing.halves_per_block(8, 3)),
    case("must fit into `dim`, but got 8 from 4 on in 8", lambda: pe.rotations.Pairing.halves(8, 8, start=4)),
    # Axes.
    case("`count` must be at least 1", lambda: pe.axes.Axial(0)),
    case("`count` must be at least 1", lambda: pe.axes.Mixed(0)),
    case("`sizes` must have one number of pairs, not negative, .*but got \\(\\)", lambda: pe.axes.Sections(())),
    case("`order` must be one of 'chunked', .*but got 'mixed'", lambda: pe.axes.Sections((1, 1), "mixed")),
    case("`sizes` must add up to the number of frequencies, 8, but got \\(2, 2\\), which are 4", lambda: pe.Rotary(BASE, axes=pe.axes.Sections((2, 2)))),
    case("evenly among 3 coordinates, but the schedule has 8", lambda: pe.Rotary(BASE, axes=pe.axes.Mixed(3))),
    case("`axes` and `frequencies` must have one entry per angle each, but got 2 and 1", lambda: pe.axes.Assigned((0, 1), (0,))),
    case("`axes` and `frequencies` must not be negative", lambda: pe.axes.Assigned((0, -1), (0, 1))),
    case("must be indices of the schedule, from 0 to 7, but got 8", lambda: pe.Rotary(BASE, axes=pe.axes.Assigned((0, 1), (0, 8)))),
    case("`decay` must be None where there are `axes`", lambda: pe.Rotary(BASE, axes=pe.axes.Axial(2), decay=pe.rotations.XPosDecay(32))),
    case("`positions` must be .*of shape \\[seq, 2\\], but got int32 of shape \\(4,\\)", lambda: pe.axial_rope(8)(P)),
    case("`dim` must be a multiple of 4, for pairs along.*but got 6", lambda: pe.mixed_rope(6, heads=2, key=KEY)),
    case("`q` must have shape \\[..., heads, seq, dim\\] with heads=2, seq=4 and dim=8", lambda: pe.ComRoPE(8, heads=2, key=KEY)(jnp.ones((4, 2))).queries(Q)),
    case("`heads` must be at least 1", lambda: pe.mixed_rope(8, heads=0, key=KEY)),
    case("`block` must be an integer of at least 2 that divides `dim`, 6, but got 4", lambda: pe.ComRoPE(6, heads=2, block=4, key=KEY)),
    case("`block` must give each coordinate the same.*but got 3 blocks for 2", lambda: pe.ComRoPE(6, heads=2, block=2, kind="axial", key=KEY)),
    case("`kind` must be one of 'dependent', 'axial', but got 'ld'", lambda: pe.ComRoPE(8, heads=2, kind="ld", key=KEY)),
    case("`q` must have shape \\[..., heads, seq, dim\\] with heads=2, seq=4 and dim=8", lambda: pe.mixed_rope(8, heads=2, key=KEY)(jnp.ones((4, 2))).queries(Q)),
    case("`parts` must have at least one schedule", lambda: pe.frequencies.Concatenated(())),
    case("`weight` must have shape \\[half\\] or \\[heads, half\\], but got \\(1, 1, 4\\)", lambda: pe.frequencies.LearnedFrequencies(jnp.ones((1, 1, 4)))),
    case("`frequencies` must be finite and not negative.*flip the signs", lambda: pe.frequencies.Listed((1.0, -1.0))),
    case("`factor` must be positive and finite, but got 0.0", lambda: pe.frequencies.Scaled(BASE, 0)),
    case("`factor` must be at least 1 and finite, but got 0.5", lambda: pe.frequencies.NTKMixed(BASE, 0.5)),
    case("`exponent` must be positive and finite, but got 0.0", lambda: pe.frequencies.NTKMixed(BASE, 2.0, 0)),
    # Maps of queries and keys that are no rotations.
    case("`parts` must have at least one map, but got none", lambda: pe.rotations.Chain(())),
    case("`beta` must be positive and finite", lambda: pe.Temperature(0, 8)),
    case("`length` must be positive and finite", lambda: pe.Temperature(0.1, -1)),
    case("`kind` must be one of 'stepped', 'log', 'power', but got 'sqrt'", lambda: pe.Temperature(0.1, 8, kind="sqrt")),
    case("`positions` must have shape \\[seq\\], to count.*\\(4, 2\\)", lambda: pe.Temperature(0.1, 8)(jnp.ones((4, 2)))),
    case("`q` must have shape \\[..., seq, dim\\] with seq = \\(4,\\).*got \\(4, 2, 16\\).*in_axes=1", lambda: pe.Temperature(0.1, 8)(P).queries(jnp.swapaxes(Q, 0, 1))),
    case("`heads` must be at least 1", lambda: pe.ScalableSoftmax(0)),
    case("`dim` must be at least 1", lambda: pe.PoPE(0, heads=2)),
    case("`heads` must be at least 1", lambda: pe.PoPE(8, heads=0)),
    case("`positions` must have shape \\[seq\\], for one angle.*got \\(4, 2\\)", lambda: pe.PoPE(8, heads=2)(jnp.ones((4, 2)))),
    case("`k` must have shape \\[heads, seq, dim\\] = \\(2, 4, 8\\), .*got \\(2, 4, 16\\)", lambda: pe.PoPE(8, heads=2)(P).keys(Q)),
    case("`length` must be at least 2π, for one frequency to turn.*got 3", lambda: pe.FoPE(8, heads=2, length=3, key=KEY)),
    case("`pairing` must be one of 'halves', 'adjacent', but got 'half'", lambda: pe.FoPE(8, heads=2, length=64, pairing="half", key=KEY)),
    case("`std` must be positive", lambda: pe.FoPE(8, heads=2, length=64, std=0, key=KEY)),
    case("`positions` must have shape \\[seq\\], for one angle.*got \\(4, 2\\)", lambda: pe.FoPE(8, heads=2, length=64, key=KEY)(jnp.ones((4, 2)))),
    case("`block` must be an integer of at least 2 that divides `dim`, 8, but got 3", lambda: pe.LieRE(8, block=3, key=KEY)),
    case("`block` must be an integer of at least 2 that divides `dim`, 8, but got 4.0", lambda: pe.LieRE(8, block=4.0, key=KEY)),
    case("`block` must be an integer of at least 2 that divides `dim`, 8, but got 1", lambda: pe.ComRoPE(8, heads=2, block=1, key=KEY)),
    case("`count` must be at least 1", lambda: pe.LieRE(8, count=0, key=KEY)),
    case("`scale` must be positive", lambda: pe.LieRE(8, scale=0, key=KEY)),
    case("`positions` must have shape .* with 2 axes, but got shape \\(4,\\)", lambda: pe.LieRE(8, key=KEY)(P)),
    case("`q` must have shape \\[..., seq, dim\\] with seq=4 and dim=8.*got \\(2, 4, 16\\)", lambda: pe.LieRE(8, key=KEY)(jnp.ones((4, 2))).queries(Q)),
    case("`std` must be positive", lambda: pe.rotations.Cayley(8, std=0, key=KEY)),
    case("`source` must have every channel once, to be undone", lambda: pe.rotations.Pairing((0, 0), (1, 1), (-1, 1), (0, 0)).of_output()),
    case("`window` must be at least 1", lambda: pe.ReRoPE(pe.rope(8), 0)),
    case("`factor` must be at least 1, but got 0.5", lambda: pe.ReRoPE(pe.rope(8), 4, 0.5)),
    case("`group` must be at least 1", lambda: pe.SelfExtend(pe.rope(8), 0, 4)),
    case("`chunk` must be larger than `window`, 8, but got 8", lambda: pe.DualChunk(pe.rope(8), 8, 8)),
    case("`k_positions` must have shape \\[seq\\], to be near or far, but got \\(4, 2\\)", lambda: pe.ReRoPE(pe.rope(16), 4).products(Q, Q, P, jnp.ones((4, 2)))),
    # Positions of patches.
    case("`height` and `width` must be multiples of `merge`, 2, but got 3 and 4", lambda: pe.positions.merged_patch_positions(3, 4)),
    case("`onto` must have one size for each of the 2 axes of the grid, but got \\(3,\\)", lambda: pe.positions.resized_positions((2, 2), (3,))),
    case("`onto` must be positive and finite, but got 0", lambda: pe.positions.resized_positions((2, 2), (3, 0))),
    case("`onto` must be integers where `whole` is, but got \\(3, 2.5\\)", lambda: pe.positions.resized_positions((2, 2), (3, 2.5), whole=True)),
    case("`by` must be one of 'each', 'largest', 'smallest', 'area', but got 'all'", lambda: pe.positions.normalized_positions((2, 2), "all")),
    case("`anchor` must be one of 'center', 'corner', but got 'middle'", lambda: pe.positions.normalized_positions((2, 2), anchor="middle")),
    case("`count` must be at least 0", lambda: pe.positions.zero_prefixed(jnp.ones((4, 2)), -1)),
    case("`runs` must be numbers of tokens of text, or .*but got \\(1, 2\\)", lambda: pe.positions.mrope_positions([(1, 2)])),
    case("`advance` must be one of 'largest', 'space', 'time', but got 'frame'", lambda: pe.positions.mrope_positions([1], advance="frame")),
    case("`layout` must be one of 'corner', 'diagonal', 'reset', but got 'middle'", lambda: pe.positions.mrope_positions([1], layout="middle")),
    case("`span` must be positive and finite, but got 0", lambda: pe.positions.v2pe_positions([1], span=0)),
    case("`runs` must be numbers of tokens of text, or .*but got \\(1, 2\\)", lambda: pe.positions.v2pe_positions([(1, 2)], span=1.0)),
    case("`runs` must be numbers of tokens of text, or .*but got \\(1, 2\\)", lambda: pe.positions.circle_positions([(1, 2)])),
    case("`radius` must be positive and finite, but got 0", lambda: pe.positions.circle_positions([1], radius=0)),
    case("`share` must be between 0 and 1, but got 1.5", lambda: pe.positions.circle_positions([1], share=1.5)),
    case("`longest` must be at least the number of tokens, 4, but got 3", lambda: pe.positions.pose_positions(P, longest=3, key=KEY)),
    case("`longest` must be at least the number of tokens, 4, but got 3", lambda: pe.positions.cream_positions(P, longest=3, key=KEY)),
    case("`positions` must have more than 10 tokens for a `longest` of 5, to have tokens between the ends, but got 4", lambda: pe.positions.cream_positions(P, longest=5, key=KEY)),
    case("`deviation` must be positive and finite, but got 0", lambda: pe.positions.cream_positions(jnp.arange(9), longest=9, deviation=0, key=KEY)),
    case("`mean` must be positive and finite, but got 0", lambda: pe.positions.cream_positions(jnp.arange(9), longest=9, mean=0, key=KEY)),
    # Encodings.
    case("`layout` must be one of 'interleaved', .*but got 'concat'", lambda: pe.Sinusoidal(8, layout="concat")),
    case("`dim` must be even for `layout='interleaved'`.*but got 7", lambda: pe.Sinusoidal(7)),
    case("`dim` must be at least 4 and finite, but got 3", lambda: pe.Sinusoidal(3, layout="tensor2tensor")),
    case("`theta` must be positive and finite, but got 0.0", lambda: pe.Sinusoidal(8, 0.0)),
    case("`length` must be at least 1 and finite, but got 0", lambda: pe.Learned(0, 8, key=KEY)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.Learned(8, 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.Learned(8, 8, std=0, key=KEY)),
    case("`offset` must be at least 0 and finite, but got -1", lambda: pe.Learned(8, 8, offset=-1, key=KEY)),
    case("`padding_idx` must be between 0 and 9, the last row of the table, but got 10", lambda: pe.Learned(8, 8, offset=2, padding_idx=10, key=KEY)),
    case("`dim` must give each axis pairs of channels, at least 1 of them.*2 axes, but got 6. Take a multiple of 8", lambda: pe.SinusoidalGrid(6)),
    case("`dim` must give each axis pairs of channels, at least 2 of them.*but got 4", lambda: pe.SinusoidalGrid(4, layout="big_vision")),
    case("`layout` must be one of 'mae', .*but got 'vit'", lambda: pe.SinusoidalGrid(8, layout="vit")),
    case("`axes` must be 2 for `layout='mae'`, but got 3", lambda: pe.SinusoidalGrid(12, axes=3)),
    case("`axes` must be at least 1 and finite, but got 0", lambda: pe.SinusoidalGrid(12, 0, "positional_encodings")),
    case("`theta` must be positive and finite, but got 0.0", lambda: pe.SinusoidalGrid(8, theta=0)),
    case("`shape` must have one positive size for each axis of the grid, but got \\(\\)", lambda: pe.LearnedGrid((), 8, key=KEY)),
    case("`shape` must have one positive size.*but got \\(2, 0\\)", lambda: pe.LearnedGrid((2, 0), 8, key=KEY)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.LearnedGrid((2, 2), 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.LearnedGrid((2, 2), 8, std=0, key=KEY)),
    case("`prefix` must be at least 0 and finite, but got -1", lambda: pe.LearnedGrid((2, 2), 8, prefix=-1, key=KEY)),
    case("`shape` must have a size for each of the 2 axes of the grid, but got \\(3,\\)", lambda: GRID.resized((3,))),
    case("`shape` must have one positive size for each axis of the grid, but got \\(3, 0\\)", lambda: GRID.resized((3, 0))),
    case("`method` must be one of 'bicubic', 'bilinear', but got 'cubic'", lambda: GRID.resized((3, 3), method="cubic")),
    case("`scale` must be positive and finite, but got 0", lambda: pe.Learned(8, 8, scale=0, key=KEY)),
    case("`scale` must be positive and finite, but got 0", lambda: pe.ScaledSinusoidal(8, scale=0)),
    case("`shape` must have one positive size for each axis of the grid, but got \\(0,\\)", lambda: pe.AxialLearned((0,), 8, key=KEY)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.AxialLearned((2, 2), 0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.AxialLearned((2, 2), 8, std=0, key=KEY)),
    case("`dims` must have a positive number for each of the 2 axes of `shape`, but got \\(8,\\)", lambda: pe.AxialLearned((2, 2), 8, dims=(8,), key=KEY)),
    case("`dims` must sum to `dim`, 8, but got \\(4, 5\\). Leave it out", lambda: pe.AxialLearned((2, 2), 8, dims=(4, 5), key=KEY)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.LearnedBox(0, key=KEY)),
    case("`size` must be at least 1 and finite, but got 0", lambda: pe.LearnedBox(8, size=0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.LearnedBox(8, std=0, key=KEY)),
    case("`edge_dim` must be positive, and four of it leave an even number of the 9 channels.*but got 1", lambda: pe.LearnedBox(9, edge_dim=1, key=KEY)),
    case("`bands` must be at least 1 and finite, but got 0", lambda: pe.Fourier(0, (8,))),
    case("`resolution` must have a number for each axis, but got none", lambda: pe.Fourier(8, ())),
    case("`resolution` must be positive and finite, but got 0.0", lambda: pe.Fourier(8, (8, 0))),
    case("`spacing` must be one of 'linear', 'geometric', but got 'log'", lambda: pe.Fourier(8, (8,), "log")),
    case("`dim` must be even and positive, for every sine to have its cosine, but got 5", lambda: pe.GaussianFourier(5)),
    case("`axes` must be at least 1 and finite, but got 0", lambda: pe.GaussianFourier(8, axes=0)),
    case("`scale` must be positive and finite, but got 0", lambda: pe.GaussianFourier(8, scale=0)),
    case("`matrix` must have shape \\[axes, dim / 2\\], \\(2, 4\\), but got \\(4, 2\\)", lambda: pe.GaussianFourier(8, matrix=[[0.0, 1.0]] * 4)),
    case("`dim` must be at least 1 and finite, but got 0", lambda: pe.LearnedFourier(0, features=2, key=KEY)),
    case("`groups` must be at least 1 and finite, but got 0", lambda: pe.LearnedFourier(8, groups=0, key=KEY)),
    case("`gamma` must be positive and finite, but got 0", lambda: pe.LearnedFourier(8, gamma=0, key=KEY)),
    case("`features` must be even and positive.*but got 7", lambda: pe.LearnedFourier(7, key=KEY)),
    case("`groups` must divide `axes` and `dim`.*but got 2 for 3 axes and 8 channels", lambda: pe.LearnedFourier(8, axes=3, groups=2, key=KEY)),
    # Biases.
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.ALiBi(0)),
    case("`convention` must be one of 'power_of_two', 'geometric', but got 'mpt'", lambda: pe.ALiBi(3, convention="mpt")),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.T5Bias(0, key=KEY)),
    case("`std` must be positive and finite, but got 0", lambda: pe.T5Bias(2, std=0, key=KEY)),
    case("`num_buckets` must be even for bidirectional=True, but got 5", lambda: pe.T5Bias(2, num_buckets=5, key=KEY)),
    case("`num_buckets` must be at least 2 and finite, but got 1", lambda: pe.T5Bias(2, num_buckets=1, bidirectional=False, key=KEY)),
    case("`max_distance` must be beyond the 8 distances.*but got 8. Lower", lambda: pe.T5Bias(2, max_distance=8, key=KEY)),
    case("`heads` must be at least 1 and finite, but got 0", lambda: pe.KERPLE(0, key=KEY)),
    case("`kind` must be one of 'log', 'power', but got 'sqrt'", lambda: pe.KERPLE(2, kind="sqrt", key=KEY)),
    # The bundle and the registry.
    case("`scale` must be positive and finite, but got -1", lambda: pe.PositionalEmbedding(scale=-1)),
    case("^`name` must be one of the names of variants, but got 'Rope'. Did you mean 'rope'", lambda: pe.make("Rope", **MAKE)),
    case("`name` must be one of .*rope, .*but got 'zzz'. `eqx_posemb.variants\\(\\)` lists", lambda: pe.make("zzz", **MAKE)),
    case("`rope` has the settings dim, theta, pairing, rotary_dim, but got base", lambda: pe.make("rope", **MAKE, base=1e6)),
    case("`length` must be at least 1 and finite, but got 0", lambda: pe.make("rope", **{**MAKE, "length": 0})),
    # Positions.
    case("`shape` must have one size, not negative, for each axis", lambda: pe.positions.grid_positions(())),
    case("`shape` must have one size, not negative, for each axis", lambda: pe.positions.grid_positions((2, -1))),
    case("`centered` must be False where `normalized` is.*but got True. Subtract", lambda: pe.positions.detr_positions(jnp.ones((2, 2), bool), normalized=False, centered=True)),
    case("`longest` must be at least 1 and finite, but got None", lambda: pe.positions.randomized_positions(P, longest=None, key=KEY)),
    case("`start` must be one integer, but got an array of shape", lambda: pe.positions.consecutive(4, P)),
    case("`longest` must be at least the number of tokens, 4, but got 3", lambda: pe.positions.randomized_positions(P, longest=3, key=KEY)),
    case("`furthest` must be at least 1 and finite, but got 0", lambda: pe.positions.shifted_positions(P, furthest=0, key=KEY)),
    case("`shift` must be at least 0 and finite, but got -1", lambda: pe.positions.cape_positions(P, shift=-1, key=KEY)),
    case("`jitter` must be at least 0 and finite, but got -1", lambda: pe.positions.cape_positions(P, jitter=-1, key=KEY)),
    case("`scale` must be at least 1 and finite, but got 0.5", lambda: pe.positions.cape_positions(P, scale=0.5, key=KEY)),
    case("`spacing` must be positive and finite, but got 0", lambda: pe.positions.cape_positions(P, spacing=0, key=KEY)),
    case("`spacing` must be one number, or one for each axis.*\\(4,\\), but got \\(1, 2\\)", lambda: pe.positions.cape_positions(P, spacing=(1, 2), key=KEY)),
    case("`furthest` must be at least 0 and finite, but got -1", lambda: pe.positions.abacus_positions(P > 0, furthest=-1)),
    case("`furthest` must be at least 0 and finite, but got -1", lambda: pe.positions.coupled_positions(P > 0, furthest=-1)),
    case("`length` must be a multiple of `2 \\* shards`.*length=6 and shards=2. Pad", lambda: pe.positions.zigzag(6, 2)),
    case("`theta` must be positive and finite, but got '1e4'", lambda: pe.rope(8, theta="1e4")),
    case("`factor` must be at least 1 and finite, but got None", lambda: pe.linear_rope(8, factor=None)),
    case("`factor` must be at least 1, but got 'x'", lambda: pe.ReRoPE(pe.rope(8), window=2, factor="x")),
    case("`shards` must be at least 1 and finite, but got 0", lambda: pe.positions.zigzag_inverse(6, 0)),
    case("`length` must be at least 0 and finite, but got an array of shape \\(6,\\)", lambda: pe.positions.zigzag(jnp.arange(6), 2)),
    case("`length` must be at least 0 and finite, but got an array", lambda: pe.positions.consecutive(jnp.arange(6))),
    case("`shape` must have one size, not negative, for each axis of the grid, but got 4", lambda: pe.positions.grid_positions(4)),
    case("`shape` must have one positive size for each axis of the grid, but got 4", lambda: pe.LearnedGrid(4, 8, key=KEY)),
    case("`shape` must have one positive size for each axis of the grid, but got 4", lambda: GRID.resized(4)),
    case("`shape` must have one size, not negative, for each axis of the grid, but got 4", lambda: pe.positions.normalized_positions(4)),
    case("`shape` must have one size, not negative, for each axis of the grid, but got 4", lambda: pe.positions.centered_positions(4)),
    case("`window` must be a positive height and width, but got 7", lambda: pe.SwinBias(7, 2, key=KEY)),
    case("`runs` must be a sequence, such as \\[3, \\(1, 2, 2\\)\\], but got 5", lambda: pe.positions.mrope_positions(5)),
]

SHAPES = [
    case("`positions` must be integers or floats of shape \\[seq\\].*\\(2, 2\\).*vmap", lambda: pe.rope(8)(jnp.ones((2, 2)))),
    case("`positions` must be integers or floats, but got key", lambda: pe.rope(8)(jr.split(KEY, 2))),
    case("`positions` must be integers or floats, but got bool.*left_padded", lambda: pe.rope(8)(jnp.ones(2, bool))),
    case("`q` must have shape \\[..., seq, dim\\] with seq=4 and dim=16.*\\(4, 2, 16\\).*in_axes=1", lambda: pe.rope(16)(P).queries(jnp.swapaxes(Q, 0, 1))),
    case("`k` must have shape \\[..., seq, dim\\] with seq=4 and dim=8.*\\(4, 16\\)", lambda: pe.rope(8)(P).keys(Q[0])),
    case("`q` must be an array, but got an array of shape .*as_torch", lambda: pe.rope(16)(P).queries(TENSOR)),
    case("`k` must be an array, but got an array of shape .*as_torch", lambda: pe.LieRE(16, key=KEY)(jnp.ones((4, 2))).keys(TENSOR)),
    case("`k` must be an array, but got an array of shape .*as_torch", lambda: pe.PoPE(16, heads=2)(P).keys(TENSOR)),
    case("`q` must be an array, but got an array of shape .*as_torch", lambda: pe.Temperature(0.1, 8)(P).queries(TENSOR)),
    case("`q` must be an array .heads, seq, dim., but got an array of shape .*as_torch", lambda: pe.PositionalEmbedding().attend(TENSOR, TENSOR, TENSOR, P, P)),
    case("`key` must be `jax.random.key.0.`, but got 0", lambda: pe.make("t5", **{**MAKE, "key": 0})),
    case("`key` must be `jax.random.key.3.`, but got 3", lambda: pe.T5Bias(2, key=3)),
    case("`key` must be `jax.random.key.3.`, but got 3", lambda: pe.string_rope(8, key=3)),
    case("`key` must be `jax.random.key.3.`, but got 3", lambda: pe.mixed_rope(8, heads=2, key=3)),
    case("`key` must be `jax.random.key.3.`, but got 3", lambda: pe.tupe(8, 8, 2, 4, key=3)),
    *(
        case("`key` must be `jax.random.key.3.`, but got 3", draw)
        for draw in (
            lambda: pe.positions.randomized_positions(P, longest=9, key=3),
            lambda: pe.positions.shifted_positions(P, furthest=9, key=3),
            lambda: pe.positions.cape_positions(P, key=3),
            lambda: pe.positions.pose_positions(P, longest=9, key=3),
            lambda: pe.positions.cream_positions(jnp.arange(9), longest=9, key=3),
            lambda: pe.positions.abacus_positions(P > 0, key=3),
            lambda: pe.positions.coupled_positions(P > 0, key=3),
        )
    ),
    case("`q` must be floating point, but got int32", lambda: pe.rope(16)(P).queries(jnp.ones((4, 16), jnp.int32))),
    case("`positions` must be integers, to look rows up with, but got float32", lambda: pe.Learned(8, 8, key=KEY)(jnp.ones(2))),
    case("`positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4,\\)", lambda: pe.SinusoidalGrid(8)(P)),
    case("`positions` must have shape \\[seq, axes\\] with 2 axes, but got shape \\(4, 3\\)", lambda: GRID(jnp.ones((4, 3), int))),
    case("`positions` must be integers, to look rows up with, but got float32", lambda: GRID(jnp.ones((4, 2)))),
    case("`positions` must have shape \\[seq, axes\\] with at least 2 axes.*\\(4,\\)", lambda: pe.positions.prefixed(P)),
    case("`q_positions` and `k_positions` must be integers, to sort.*float32", lambda: pe.T5Bias(2, key=KEY)(jnp.ones(2), P)),
    case("`q_positions` and `k_positions` must be integers, to sort.*float32", lambda: pe.T5Bias(2, key=KEY)(P, jnp.ones(2))),
    case("`x` must have the shape \\[seq, dim\\].*\\(4, 8\\), but got \\(4, 9\\)", lambda: pe.PositionalEmbedding(encoding=pe.Sinusoidal(8)).embed(jnp.ones((4, 9)), P)),
    case("`q` must have shape .*but got \\(4, 16\\). Give the one head an axis", lambda: EMPTY.logits(Q[0], Q, P, P)),
    case("`q` and `k` must have shapes.*the same `dim`, but got \\(2, 4, 16\\) and \\(2, 4, 8\\)", lambda: EMPTY.logits(Q, Q[..., :8], P, P)),
    case("heads of `q` must be a multiple of the number of heads of `k`, but got 2 and 3", lambda: EMPTY.logits(Q, jnp.ones((3, 4, 16)), P, P)),
    case("`q_positions` must have a position for each of the 4 tokens of `q`.*\\(3,\\)", lambda: EMPTY.logits(Q, Q, P[:3], P)),
    case("`k_positions` must have a position for each of the 4 tokens of `k`.*\\(3,\\)", lambda: EMPTY.logits(Q, Q, P, P[:3])),
    case("`bias` must give the shape.*\\(2, 4, 4\\), but got \\(3, 4, 4\\).*the heads of `q`", lambda: pe.PositionalEmbedding(bias=pe.ALiBi(3)).logits(Q, Q, P, P)),
    case("`v` must have a value for each key.*\\[2, 4\\], but got shape \\(2, 3, 16\\)", lambda: EMPTY.attend(Q, Q, Q[:, :3], P, P)),
    case("`k_state` must be None for an embedding that does not read it.*shapes \\(4, 2\\). The class attribute `reads`", lambda: EMPTY.logits(Q, Q, P, P, k_state=jnp.ones((4, 2)))),
    case("`q_state` must have arrays \\[seq, ...\\].*of the 4 tokens of `q`, but got shape \\(3, 2\\)", lambda: READING.attend(Q, Q, Q, P, P, q_state=(jnp.ones(4), jnp.ones((3, 2))))),
    case("`v` must have a value for each key.*\\[2, 4\\], but got shape \\(2, 3, 16\\)", lambda: EMPTY.for_kernel(Q, Q, Q[:, :3], P, P)),
    case("`pieces` must be at least 1 and finite, but got 0", lambda: EMPTY.for_kernel(Q, Q, Q, P, P, pieces=0)),
    case("`rotary` must turn each token by itself.*got a ReRoPE. Use `attend`", lambda: pe.PositionalEmbedding(rotary=pe.ReRoPE(pe.rope(16), 4)).for_kernel(Q, Q, Q, P, P)),
    case("`bias` must have `low_rank`, to be channels.*got a KERPLE. Use `attend`", lambda: pe.PositionalEmbedding(bias=pe.KERPLE(2, key=KEY)).for_kernel(Q, Q, Q, P, P)),
    case("`score` must have `low_rank`, to be channels.*got a Shaw. Use `attend`", lambda: pe.PositionalEmbedding(score=pe.Shaw(16, key=KEY)).for_kernel(Q, Q, Q, P, P)),
    case("`q` must not be float16 where there are channels.*ends at 65,504", lambda: pe.PositionalEmbedding(bias=pe.ALiBi(2)).for_kernel(*(3 * [Q.astype(jnp.float16)]), P, P)),
    case("`implementation` must be one of 'auto', 'dense', 'blockwise', 'pallas', but got 'flash'", lambda: EMPTY.attend(Q, Q, Q, P, P, implementation="flash")),
    case("`q_order` and `k_order` go together", lambda: EMPTY.attend(Q, Q, Q, P, P, causal=True, q_order=P)),
    case("`k_order` must have an integer for each of the 4 tokens.*\\(3,\\)", lambda: EMPTY.attend(Q, Q, Q, P, P, q_order=P, k_order=P[:3])),
    case("`q_order` must be integers.*float32.*int32", lambda: EMPTY.attend(Q, Q, Q, P, P, q_order=P.astype("float32"), k_order=P)),
    case("`causal` and `window` compare positions of shape \\[seq\\].*\\(4, 2\\).*use `mask`", lambda: EMPTY.attend(Q, Q, Q, pe.positions.grid_positions((2, 2)), pe.positions.grid_positions((2, 2)), causal=True)),
    case("`sinks` must be one floating-point logit for each of the 2 heads.*\\(3,\\)", lambda: EMPTY.attend(Q, Q, Q, P, P, sinks=jnp.ones(3))),
    case("`sinks` must be one floating-point logit.*int32", lambda: EMPTY.attend(Q, Q, Q, P, P, sinks=jnp.arange(2))),
    case("`axis_name` must be an axis of a mesh under `jax.shard_map`, but got 'seq'", lambda: EMPTY.attend(Q, Q, Q, P, P, axis_name="seq")),
    case("`q_positions` must be an array, but got 10. Tokens from 0 on have", lambda: pe.T5Bias(4, key=KEY)(10, 10)),
    case("`soft_cap` must be positive and finite, but got 0.0", lambda: EMPTY.attend(Q, Q, Q, P, P, soft_cap=0.0)),
    case("`block_size` must be at least 1 and finite, but got 0", lambda: EMPTY.attend(Q, Q, Q, P, P, block_size=0)),
    case("`k_segments` must have an id for each of the 4 tokens of `k`.*\\(3,\\)", lambda: EMPTY.attend(Q, Q, Q, P, P, q_segments=P, k_segments=P[:3])),
    case("`q_segments` and `k_segments` go together", lambda: EMPTY.attend(Q, Q, Q, P, P, q_segments=P)),
    case("`mask` must be boolean.*but got float32. Add numbers to logits by a bias", lambda: EMPTY.attend(Q, Q, Q, P, P, mask=jnp.ones((4, 4)))),
    case("`mask` must have shape \\[q, k\\] = \\(4, 4\\) or.*\\(2, 4, 4\\), but got \\(4, 3\\)", lambda: EMPTY.attend(Q, Q, Q, P, P, mask=jnp.ones((4, 3), bool))),
    case("`window` must be a positive number of positions.*but got 0", lambda: EMPTY.attend(Q, Q, Q, P, P, window=0)),
    case("`window` must be.*pair \\(back, ahead\\).*but got \\(2, -1\\)", lambda: EMPTY.attend(Q, Q, Q, P, P, window=(2, -1))),
]
# fmt: on


@pytest.mark.parametrize("text, call", SETTINGS)
def test_a_wrong_setting_says_so_when_it_is_made(text, call):
    with pytest.raises(ValueError, match=text):
        call()


@pytest.mark.parametrize("text, call", SHAPES)
def test_a_wrong_shape_says_so_when_it_is_traced(text, call):
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(call)


def test_negative_frequencies_say_what_to_do_instead():
    class Backwards(pe.frequencies.AbstractStaticFrequencies):
        def exact(self):
            return -BASE.exact()

    with pytest.raises(ValueError, match="flip the signs of the pairing"):
        Backwards().turns()


@pytest.mark.parametrize(
    "dtype, far", [(jnp.float32, 40_000), (jnp.bfloat16, 40_000), (jnp.float16, 5000)]
)
def test_xpos_says_so_where_it_overflows(dtype, far):
    @eqx.filter_jit
    def turn(p):
        return pe.xpos(64)(p).queries(jnp.ones((1, 64), dtype))

    assert jnp.isfinite(turn(jnp.array([far * 4 // 5]))).all()
    for p in far, -far:
        with pytest.raises(Exception, match=r"xPos overflows .* Move `center`"):
            jax.block_until_ready(turn(jnp.array([p])))


def test_the_checks_of_a_test_run_are_on_elsewhere(request):
    """The fixture of this file switches them off, and no other test does."""
    import jaxtyping

    jaxtyping.config.update("jaxtyping_disable", False)
    with pytest.raises(TypeCheckError, match="positions"):
        pe.rope(8)(jnp.asarray(2))
