"""Mistakes that once went unseen: each is an error now, or right."""

# ruff: noqa: E501

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb import functional
from eqx_posemb._registry import resolved

from .helpers import ROWS


KEY = np.zeros(2, np.uint32)
P = np.arange(4, dtype=np.int32)


def case(text, call):
    return pytest.param(text, call, id=text[:60])


def embedding(**slots):
    return lambda: pe.PositionalEmbedding(**slots)


# A part in the wrong slot.
# fmt: off
WRONG_SLOTS = [
    case("`encoding` must be an AbstractEncoding or None, but got a Rotary.*Give it as `rotary=...`", embedding(encoding=pe.rope(8))),
    case("`encoding` must be .*but got an ALiBi.*Give it as `bias=...`", embedding(encoding=pe.ALiBi(2))),
    case("`bias` must be an AbstractBias or None, but got a Rotary.*`rotary=...`", embedding(bias=pe.rope(8))),
    case("`score` must be an AbstractScore or None, but got a Sinusoidal.*`encoding=...`", embedding(score=pe.Sinusoidal(8))),
    case("`rotary` must be an AbstractRotary, an AbstractProducts or None, but got the function `rope`. Call it: `rope\\(...\\)`", embedding(rotary=pe.rope)),
    case("`bias` must be .*but got the class `ALiBi`. Call it: `ALiBi\\(...\\)`", embedding(bias=pe.ALiBi)),
    case("`rotary` must be .*but got 'rope'. `eqx_posemb.make` builds", embedding(rotary="rope")),
    case("`rotary` must be .*but got a PositionalEmbedding.*Give one of its slots", lambda: pe.PositionalEmbedding(rotary=pe.PositionalEmbedding())),
    case("`rotary` must be .*but got a Geometric. Give it as `rotary=eqx_posemb.Rotary", embedding(rotary=pe.frequencies.Geometric(8))),
    case("`bias` must be .*but got an array of shape \\(300,\\)", embedding(bias=np.ones(300))),
]
# fmt: on


@pytest.mark.parametrize("text, call", WRONG_SLOTS)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_part_in_the_wrong_slot_is_an_error_with_a_cure(text, call):
    with pytest.raises(TypeError, match=text) as raised:
        call()
    assert len(str(raised.value)) < 250


UNNAMED = [
    (pe.rope(8), "got a Rotary without one. Give it as `rotary=...`"),
    (pe.rope, "got the function `rope` without one. Call it"),
    (pe.PositionalEmbedding(), "got a PositionalEmbedding without one. Give one of"),
]


@pytest.mark.parametrize("part, text", UNNAMED)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_slot_is_given_by_its_name(part, text):
    with pytest.raises(
        TypeError, match=f"name of its slot.*encoding, rotary, bias.*{text}"
    ):
        pe.PositionalEmbedding(part, pe.ALiBi(2))  # pyright: ignore


def test_slots_may_hold_anything_where_a_tree_is_edited():
    full = pe.PositionalEmbedding(rotary=pe.rope(8), bias=pe.KERPLE(2, key=jr.key(0)))
    for other in None, object(), "a placeholder":
        edited = eqx.tree_at(lambda e: e.bias, full, other)
        assert edited.bias is other and edited.rotary == full.rotary
    assert jax.tree.leaves(jax.tree.map(lambda _: "x", full)) == ["x"] * 2
    assert eqx.filter(full, lambda _: False).rotary is not None


def test_slots_are_filled_in_transformed_functions():
    def build(key):
        return pe.PositionalEmbedding(bias=pe.KERPLE(2, key=key))

    keys = jr.split(jr.key(0), 3)
    assert all(x.shape == (3, 2) for x in jax.tree.leaves(eqx.filter_vmap(build)(keys)))
    for made in eqx.filter_jit(build)(keys[0]), eqx.filter_eval_shape(build, keys[0]):
        assert isinstance(made.bias, pe.KERPLE)


# Positions that cannot tell tokens apart.
Q = np.ones((2, 4, 8), np.float32)
X = np.ones((4, 8), np.float32)
BASE = pe.frequencies.Geometric(8)
EMPTY = pe.PositionalEmbedding()
BY_BLOCKS = dict(implementation="blockwise", block_size=4)
GRID = pe.LearnedGrid((2, 2), 8, key=jr.key(0))
FOURIER = pe.LearnedFourier(8, axes=1, key=jr.key(0))


def cells(p):
    return (np if isinstance(p, np.ndarray) else jnp).stack([p, p], axis=1)


ENTRANCES = {
    "rotary": lambda p: pe.rope(8)(p),
    "rotary, in float32": lambda p: pe.Rotary(BASE, arithmetic="float32")(p),
    "rotary, on a grid": lambda p: pe.axial_rope(8)(cells(p)),
    "rotary, temperature": lambda p: pe.Temperature(0.1, 8192)(p),
    "rotary, learned temperature": lambda p: pe.ScalableSoftmax(2)(p),
    "rotary, lie": lambda p: pe.LieRE(8, count=1, key=KEY)(p[:, None]),
    "rotary, pope": lambda p: pe.PoPE(8, heads=2)(p),
    "rotary, extended": lambda p: pe.ReRoPE(pe.rope(8), 4).products(Q, Q, p, P),
    "encoding": lambda p: pe.Sinusoidal(8)(p),
    "encoding, a table": lambda p: pe.Learned(8, 8, key=KEY)(p),
    "encoding, a table of cells": lambda p: GRID(cells(p)),
    "encoding, waves": lambda p: pe.GaussianFourier(8, axes=1)(p[:, None]),
    "encoding, learned waves": lambda p: FOURIER(p[:, None]),
    "bias": lambda p: pe.ALiBi(2)(p, P),
    "bias of keys": lambda p: pe.ALiBi(2)(P, p),
    "bias, mlp": lambda p: pe.FIRE(2, key=KEY)(p, P),
    "bias, buckets": lambda p: pe.T5Bias(2, key=KEY)(p, P),
    "bias, absolute": lambda p: pe.TUPE(8, 8, 2, 4, key=KEY)(p, P),
    "bias, gates": lambda p: pe.Forgetting(1)(p[:, None], p[:, None]),
    "bias, reset": lambda p: pe.ResetBias(pe.ALiBi(2), 2)(p, p),
    "bias, factors": lambda p: pe.Sandwich(2, dim=8).low_rank(p, P),
    "score": lambda p: pe.Shaw(8, key=KEY)(Q, Q, p, P),
    "score, waves": lambda p: pe.TransformerXL(2, 8, 16, key=KEY)(Q, Q, p, P),
    "attend": lambda p: EMPTY.attend(Q, Q, Q, p, P),
    "attend, keys": lambda p: EMPTY.attend(Q, Q, Q, P, p),
    "attend by blocks": lambda p: EMPTY.attend(Q, Q, Q, p, p, **BY_BLOCKS),
    "logits": lambda p: EMPTY.logits(Q, Q, P, p),
    "for_kernel": lambda p: EMPTY.for_kernel(Q, Q, Q, p, P),
    "embed, no encoding": lambda p: EMPTY.embed(X, p),
    "embed": lambda p: pe.PositionalEmbedding(encoding=pe.Sinusoidal(8)).embed(X, p),
    "distance": lambda p: pe.positions.distance(p, P),
    "prefixed": lambda p: pe.positions.prefixed(cells(p)),
    "zero_prefixed": lambda p: pe.positions.zero_prefixed(p[:, None], 1),
    "shifted": lambda p: pe.positions.shifted_positions(p, furthest=9, key=KEY),
    "cape": lambda p: pe.positions.cape_positions(p, key=KEY),
    "functional.sinusoidal": lambda p: functional.sinusoidal(p, 8),
    "functional.xpos": lambda p: functional.xpos(X, p),
    "functional.rotary_embedding": lambda p: functional.rotary_embedding(p, 8),
    "functional.fixed_pos_embedding": lambda p: functional.fixed_pos_embedding(X, p),
}


@pytest.mark.parametrize("place", ENTRANCES)
@pytest.mark.usefixtures("as_users_have_it")
def test_positions_that_round_integers_are_an_error(place):
    for dtype in jnp.bfloat16, jnp.float16:
        text = rf"positions` must be integers.*but got {np.dtype(dtype)}.*`jnp.int32`"
        with pytest.raises(ValueError, match=text):
            jax.eval_shape(ENTRANCES[place], jnp.zeros(4, dtype))


@pytest.mark.parametrize("name", [name for name in ROWS if name != "nope"])
@pytest.mark.usefixtures("as_users_have_it")
def test_no_part_takes_positions_that_round_integers_or_are_a_list(name):
    axes = resolved(ROWS[name].axes, SIZES)
    shape = (4, axes) if axes > 1 else (4,)

    def call(p):
        made = pe.make(name, **SIZES)
        if made.rotary is not None:
            if isinstance(made.rotary, pe.abstract.AbstractProducts):
                given = {name: jnp.ones((4, 16)) for name in made.reads}
                return made.rotary.products(Q, Q, p, p, **given)
            return made.rotary(p)
        if made.encoding is not None:
            return made.encoding(p)
        if made.bias is not None:
            return made.bias(p, p)
        given = {name: jnp.ones((4, 16)) for name in made.reads}
        return made.score(Q, Q, p, p, **given)

    with pytest.raises(ValueError, match=r"positions` must be integers.*`jnp.int32`"):
        jax.eval_shape(lambda: call(jnp.zeros(shape, jnp.bfloat16)))
    # A part that reads each token by itself may convert a list.
    try:
        jax.eval_shape(lambda: call(np.zeros(shape, int).tolist()))
    except ValueError as error:
        assert "positions` must be an array, but got a list" in str(error)


# Positions that are narrow, or too wide.
SHUFFLED = np.array([7, 3, 100, 2, 0, 1, 90, 4, 60, 5, 6, 8], np.int32)
# Two blocks of four have the same steps modulo 256.
ALIKE = np.array([4, 0, 1, 2, 0, 252, 253, 254, 5, 6, 7, 8], np.int32)
NARROW = np.uint8, np.int8, np.uint16
SIZES = dict(heads=2, head_dim=8, dim=16, length=512, key=jr.key(0))


@pytest.mark.parametrize(
    "name", ["learned", "tupe_absolute", "t5", "alibi_symmetric", "kerple"]
)
def test_narrow_integers_are_the_positions_that_they_are(name):
    made = pe.make(name, **SIZES)
    q = jr.normal(jr.key(1), (2, 12, 8))
    x = jnp.zeros((12, 16))

    @jax.jit
    def outputs(p):
        attend = lambda how: made.attend(
            q, q, q, p, p, implementation=how, block_size=4
        )
        return attend("dense"), attend("blockwise"), made.embed(x, p)

    for positions, dtypes in (SHUFFLED, NARROW), (ALIKE, NARROW[::2]):
        dense, _, embedded = outputs(positions)
        for dtype in np.int32, *dtypes:
            *attended, rows = outputs(positions.astype(dtype))
            for out in attended:
                np.testing.assert_allclose(out, dense, atol=1e-5, rtol=0)
            np.testing.assert_array_equal(rows, embedded)


@pytest.mark.usefixtures("as_users_have_it")
def test_narrow_integers_have_rows_and_prefixes():
    table = jnp.arange(600.0).reshape(300, 2)
    for dtype in NARROW:
        p = jnp.asarray(SHUFFLED, dtype)
        found = functional.embedding(table, p), functional.learned(table, p)
        for rows in found:
            np.testing.assert_array_equal(rows, table[SHUFFLED])
        cells = jnp.stack([p, p], axis=1)
        moved = (
            pe.positions.zero_prefixed(cells, 1) - 1,
            pe.positions.prefixed(cells, 1),
        )
        assert moved[0].tolist()[:2] == [[-1, -1], [6, 6]]
        assert moved[1].tolist()[:2] == [[-1, 0], [7, 7]]
        special = pe.ResetBias(pe.ALiBi(2), 2, (-1, 255))
        assert special(p, p).shape == (2, 12, 12)


@pytest.mark.parametrize("place", ENTRANCES)
@pytest.mark.usefixtures("as_users_have_it")
def test_numpy_positions_that_would_wrap_are_an_error(place):
    for far in 3_000_000_000, -(2**40):
        positions = np.full(4, far, np.int64)
        text = rf"positions` must be .*2147483647.*but got {far}.*jax_enable_x64"
        with pytest.raises(ValueError, match=text):
            jax.eval_shape(partial(ENTRANCES[place], positions))


@pytest.mark.usefixtures("as_users_have_it")
def test_numpy_positions_may_be_wide_where_they_fit():
    near = np.arange(4, dtype=np.int64)
    np.testing.assert_array_equal(pe.rope(8)(near).cos, pe.rope(8)(jnp.arange(4)).cos)
    with jax.enable_x64(True):
        assert pe.positions.distance(near, near + 2**40)[0, 0] == 2**40


# Numbers beside positions that round or wrap as positions do.
MIXED = pe.dynamic_ntk_rope(8, factor=4.0, original_length=2)
BESIDE_POSITIONS = {
    "length": lambda n: MIXED(P, length=n[0]),
    "length of an embedding": lambda n: MIXED_EMBEDDING.at(P, length=n[0]),
    "start": lambda n: pe.positions.consecutive(4, n[0]),
    "start of text": lambda n: pe.positions.mrope_positions([2], start=n[0]),
    "start of small steps": lambda n: pe.positions.v2pe_positions(
        [2], span=1, start=n[0]
    ),
    "start of circles": lambda n: pe.positions.circle_positions([2], start=n[0]),
    "q_order": lambda n: EMPTY.attend(Q, Q, Q, P, P, q_order=n, k_order=P),
    "k_order": lambda n: EMPTY.attend(Q, Q, Q, P, P, q_order=P, k_order=n),
    "q_segments": lambda n: EMPTY.attend(Q, Q, Q, P, P, q_segments=n, k_segments=P),
    "k_segments": lambda n: EMPTY.attend(Q, Q, Q, P, P, q_segments=P, k_segments=n),
    "segment_ids": lambda n: pe.positions.segment_positions(n),
}
MIXED_EMBEDDING = pe.PositionalEmbedding(rotary=MIXED)


@pytest.mark.parametrize("place", BESIDE_POSITIONS)
@pytest.mark.usefixtures("as_users_have_it")
def test_numbers_beside_positions_are_kept_or_refused(place):
    call, name = BESIDE_POSITIONS[place], place.split()[0]
    for dtype in jnp.bfloat16, jnp.float16:
        with pytest.raises(ValueError, match=f"`{name}` must be integers.*`jnp.int32`"):
            call(jnp.ones(4, dtype))
    call(np.ones(4, np.int64))
    # A length is a number of the host, which keeps all integers.
    if name != "length":
        text = f"`{name}` must be .*2147483647.*but got 1099511627776.*jax_enable_x64"
        with pytest.raises(ValueError, match=text):
            call(np.full(4, 2**40))


@pytest.mark.usefixtures("as_users_have_it")
def test_text_that_begins_near_the_end_of_int32_does_not_wrap():
    start = 2**31 - 2
    assert pe.positions.mrope_positions([2], start=start)[-1, 0] == start + 1
    with pytest.raises(
        ValueError, match=r"`start` must leave.*but got 2147483646, and"
    ):
        pe.positions.mrope_positions([3], start=start)


# The number of axes.
# fmt: off
TOO_MANY_AXES = [
    case("`mask` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.left_padded_positions(np.ones((2, 3), bool))),
    case("`segment_ids` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.segment_positions(np.ones((2, 3), np.int32))),
    case("`segment_ids` must have shape .seq.*but got ..*Give one for each token", lambda: pe.positions.segment_positions(np.int32(3))),
    case("`digits` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.abacus_positions(np.ones((2, 3), bool))),
    case("`digits` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.coupled_positions(np.ones((2, 3), bool))),
    case("`lowest_first` must be True or False, or have shape .seq. = .3,. as `digits`, but got shape .2,.", lambda: pe.positions.coupled_positions(np.ones(3, bool), lowest_first=np.ones(2, bool))),
    case("`positions` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.randomized_positions(np.ones((2, 3), np.int32), longest=9, key=KEY)),
    case("`positions` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.pose_positions(np.ones((2, 3), np.int32), longest=9, key=KEY)),
    case("`positions` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.cream_positions(np.ones((2, 3), np.int32), longest=9, key=KEY)),
    case("`ends` must have shape .seq.*but got .2, 3.. Use `jax.vmap`", lambda: pe.positions.bilevel_positions(np.ones((2, 3), bool))),
    case("`mask` must have shape .height, width.*but got .2, 3, 4.. Use `jax.vmap`", lambda: pe.positions.detr_positions(np.ones((2, 3, 4), bool))),
    case("`positions` must have shape .seq, axes.*but got shape .5, 2, 2.. Use `jax.vmap`", lambda: pe.positions.prefixed(np.ones((5, 2, 2), np.int32))),
    case("`positions` must have shape .seq, axes.*but got .5, 2, 2.. Use `jax.vmap`", lambda: pe.positions.zero_prefixed(np.ones((5, 2, 2), np.int32), 1)),
    case("`positions` must have shape .seq, axes.*but got .5,..", lambda: pe.positions.zero_prefixed(np.ones(5, np.int32), 1)),
    case("`positions` must have shape .seq. or .seq, axes.*but got .2, 3, 2.. Use `jax.vmap`", lambda: pe.positions.shifted_positions(np.ones((2, 3, 2), np.int32), furthest=2, key=KEY)),
    case("`positions` must have shape .seq. or .seq, axes.*but got .2, 3, 2.. Use `jax.vmap`", lambda: pe.positions.cape_positions(np.ones((2, 3, 2), np.int32), key=KEY)),
    case("`q_positions` and `k_positions` must have shapes .q. and .k., or .q, axes. and .k, axes.*got .3,. and .3, 2.. Use `jax.vmap`", lambda: pe.positions.distance(np.ones(3, np.int32), np.ones((3, 2), np.int32))),
    case("`q_positions` and `k_positions` must have shapes.*got .2, 3. and .2, 4.. Use `jax.vmap`", lambda: pe.positions.distance(np.ones((2, 3), np.int32), np.ones((2, 4), np.int32))),
    case("`q_positions` must have shape .seq. or .seq, axes.*but got ... Give one for each token", lambda: EMPTY.attend(Q, Q, Q, np.int32(1), P)),
    case("`k_positions` must have shape .seq. or .seq, axes.*but got .2, 4, 1.. Use `jax.vmap`", lambda: EMPTY.at(P, np.ones((2, 4, 1), np.int32))),
    case("`positions` must have shape .seq.*but got .2, 4.. Use `jax.vmap`", lambda: functional.rotary_embedding(np.ones((2, 4), np.int32), 8)),
    case("`positions` must have shape .seq.*but got .2, 4.. Use `jax.vmap`", lambda: functional.fixed_pos_embedding(X, np.ones((2, 4), np.int32))),
    case("`q_positions` and `k_positions` must have shapes.*got .. and .3,.", lambda: pe.positions.distance(np.int32(1), np.ones(3, np.int32))),
]
# fmt: on


@pytest.mark.parametrize("text, call", TOO_MANY_AXES)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_batch_is_no_sequence(text, call):
    with pytest.raises(ValueError, match=text):
        jax.eval_shape(call)


# A bias that hides all keys.
class Hiding(pe.abstract.AbstractBias):
    """Negative infinity for the first query, and for one key of the others."""

    slope: jax.Array

    def __call__(self, q_positions, k_positions):
        far = self.slope * pe.positions.distance(q_positions, k_positions)[None].astype(
            float
        )
        hidden = (q_positions[:, None] == 0) | (k_positions[None] == 1)
        return jnp.where(hidden, -jnp.inf, far).repeat(2, axis=0)


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
def test_a_query_whose_keys_a_bias_hides_gets_zeros(implementation):
    made = pe.PositionalEmbedding(bias=Hiding(jnp.array(0.5)))
    q, k, v = jr.normal(jr.key(0), (3, 2, 4, 8))

    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def loss(args):
        made, q, k, v = args
        p = jnp.asarray(P)
        out = made.attend(q, k, v, p, p, implementation=implementation, block_size=2)
        return jnp.sum(out**2), out

    with jax.debug_nans(True):
        (_, out), (by_bias, by_q, by_k, by_v) = loss((made, q, k, v))
    np.testing.assert_array_equal(out[:, 0], 0)
    logits = np.einsum("hqd,hkd->hqk", q, k) / np.sqrt(8) + 0.5 * (P - P[:, None])
    weights = np.exp(logits) * (P != 1)
    weights /= weights.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(out[:, 1:], (weights @ np.asarray(v))[:, 1:], atol=1e-5)
    np.testing.assert_array_equal(by_q[:, 0], 0)
    for gradient in by_bias.bias.slope, by_q, by_k, by_v:
        assert np.isfinite(gradient).all() and np.any(gradient)


# First guesses, each with its cure.
ROPE = pe.rope(8)
ROTATED = pe.PositionalEmbedding(rotary=ROPE)
PLACED = ROTATED.at(jnp.asarray(P))
ENCODED = pe.PositionalEmbedding(encoding=pe.Sinusoidal(8))
# fmt: off
GUESSES = [
    case("`base` must be an AbstractStaticFrequencies, but got an array of shape \\(4,\\).*`eqx_posemb.frequencies.Listed`", lambda: pe.frequencies.Tabulated(np.ones(4))),
    case("`base` must be .*but got a list.*Listed", lambda: pe.frequencies.Tabulated([1.0, 0.1])),
    case("`base` must be an AbstractStaticFrequencies, but got 8.*Geometric", lambda: pe.frequencies.Linear(8, 2.0)),
    case("`base` must be .*but got 64", lambda: pe.frequencies.DynamicNTK(64, 2.0, 8)),
    case("`base` must be .*but got 64", lambda: pe.frequencies.Truncated(64, 2)),
    case("`base` must be .*but got 64", lambda: pe.frequencies.Divided(64, (1.0,))),
    case("`short` must be .*but got 64", lambda: pe.frequencies.LongRoPEFrequencies(64, 64, 8)),
    case("`parts` must be .*but got 64", lambda: pe.frequencies.Concatenated((64,))),
    case("`weight` must be an array, but got a Geometric.*LearnedFrequencies\\(schedule\\(\\)\\)", lambda: pe.frequencies.LearnedFrequencies(pe.frequencies.Geometric(8))),
    case("`weight` must be an array, but got a list.*jnp.array", lambda: pe.frequencies.LearnedFrequencies([1.0])),
    case("`frequencies` must be an AbstractFrequencies, but got 64.*eqx_posemb.frequencies.Geometric\\(dim=64\\)", lambda: pe.Rotary(64)),
    case("`frequencies` must be .*but got the class `Geometric`. Call it", lambda: pe.Rotary(pe.frequencies.Geometric)),
    case("`parts` must be an AbstractRotary, but got 64.*eqx_posemb.rope", lambda: pe.rotations.Chain((64,))),
    case("`rotary` must be an AbstractRotary, but got 64", lambda: pe.ReRoPE(64, 4)),
    case("`biases` must be an AbstractBias, but got a Rotary.*ALiBi", lambda: pe.SumBias(ROPE)),
    case("`bias` must be an AbstractBias, but got 2", lambda: pe.ResetBias(2, 2)),
    case("float32 of shape \\(4, 8\\).*Call it with positions.*`rope\\(positions\\).queries\\(q\\)`", lambda: ROPE(X)),
    case("float32 of shape \\(2, 4, 8\\).*Call it with positions", lambda: ROPE(Q)),
    case("int32 of shape \\(1, 4\\). Use `jax.vmap`", lambda: ROPE(P[None])),
    case("int32 of shape \\(\\).*`jnp.arange\\(count\\)`", lambda: ROPE(10)),
    case("positions alone, but got 2 arguments.*`rope\\(positions\\).queries", lambda: ROPE(X, P)),
    case("`Rotary` has no attribute `queries`. Call it with positions", lambda: ROPE.queries(X)),
    case("`Rotary` has no attribute `other`.$", lambda: ROPE.other),
    case("methods `queries` and `keys`, but got a call with 1 .*rotation.queries\\(q\\)", lambda: ROPE(P)(Q)),
    case("method for each place, but got a call with 2 .*embedding.embed\\(x, positions\\)", lambda: ROTATED(X, P)),
    case("`PositionalEmbedding` has no attribute `queries`.*embedding.at\\(positions\\).queries", lambda: ROTATED.queries(Q)),
    case("`q` must have shape \\[heads, seq, dim\\], but got \\(4, 8\\). Give the one head an axis", lambda: ROTATED.attend(Q[0], Q[0], Q[0], P, P)),
    case("the same `dim`, but got .* and \\(2, 4, 6\\). Project both", lambda: ROTATED.attend(Q, Q[..., :6], Q, P, P)),
    case("`q` must have shape .*but got \\(1, 2, 4, 8\\). Use `jax.vmap`", lambda: ROTATED.attend(Q[None], Q[None], Q[None], P, P)),
    case("the 4 tokens of `q`, but got shape \\(2, 4\\) for .* dim\\]. Use `jax.vmap` over a batch.\n", lambda: EMPTY.attend(Q, Q, Q, *2 * [np.stack([P, P])])),
    case("the 2 tokens of `q`, but got shape \\(4,\\) for \\(4, 2, 8\\), which is \\[heads, seq, dim\\].\n", lambda: EMPTY.attend(*3 * [np.swapaxes(Q, 0, 1)], P, P)),
    case("`x` must have .*got \\(2, 4, 8\\). Use `jax.vmap`", lambda: ENCODED.embed(Q, P)),
    case("`x` must have .*got \\(4, 16\\). Build the encoding", lambda: ENCODED.embed(np.ones((4, 16)), P)),
    case("`x` must have .*got \\(5, 8\\). Give a position for each", lambda: ENCODED.embed(np.ones((5, 8)), P)),
    case("`positions` must have shape \\[seq\\].*got \\(\\). Give one for each token", lambda: pe.Sinusoidal(8)(10)),
    case("`positions` must be an array of integers or floats.*got None.*jnp.arange", lambda: ROPE(None)),
    case("`q_positions` must be an array of integers or floats.*got an object", lambda: ROTATED.at(object())),
    case("`positions` must be integers or floats, but got complex64", lambda: ROPE(np.ones(4, np.complex64))),
    case("`q_positions` must be an array, but got 6. Tokens", lambda: pe.ALiBi(2)(6, 6)),
    case("`segment_ids` must be an array, but got a list", lambda: pe.positions.segment_positions([0, 0, 1])),
    case("`k_positions` must be an array, but got a list", lambda: pe.positions.distance(P, [0, 1])),
    case("`q_positions` must be an array, but got a list", lambda: pe.FIRE(2, key=KEY)([0, 1], P)),
    case("`q_positions` must be an array, but got a list", lambda: pe.Forgetting(1)([[0.0]], P[:, None])),
    case("`q_order` must be an array, but got a list", lambda: EMPTY.attend(Q, Q, Q, P, P, q_order=[0, 1, 2, 3], k_order=P)),
    case("shape \\[seq, 2\\], but got int32 of shape \\(4,\\). `eqx_posemb.positions.grid_positions`", lambda: pe.axial_rope(8)(P)),
    case("shape \\[seq, 3\\], but got int32 of shape \\(4,\\). `eqx_posemb.positions.mrope_positions`", lambda: pe.mrope(12, sizes=(2, 2, 2))(P)),
    case("at least 2 axes, but got shape \\(4,\\). `eqx_posemb.positions.grid_positions`", lambda: pe.positions.prefixed(P)),
    case("`q` must be an array .heads, seq, dim., but got None", lambda: PLACED.attend(None, Q, Q)),
    case("`v` must have shape .heads, seq, dim., but got .4, 8..*`v.None.`", lambda: PLACED.attend(Q, Q, Q[0])),
    case("`q` must have shape .heads, seq, dim., but got .4, 8.", lambda: PLACED.queries(Q[0])),
    case("call with 1 argument.*`placed.attend\\(q, k, v\\)`", lambda: PLACED(Q)),
    case("`window` must be .*integers.*got 2.5", lambda: PLACED.attend(Q, Q, Q, window=2.5)),
    case("`window` must be .*got \\(1, 2, 3\\)", lambda: PLACED.attend(Q, Q, Q, window=(1, 2, 3))),
    case("`mask` must be boolean.*but got 'causal'", lambda: PLACED.attend(Q, Q, Q, mask="causal")),
    case("`window` must be .*got '4'", lambda: PLACED.attend(Q, Q, Q, window="4")),
    case("`k` must have shape .*got \\(4,\\). Give a vector for each head and token", lambda: ROTATED.attend(Q, P, Q, P, P)),
    case("`key` must be a key, such as `jax.random.key\\(0\\)`, but got None", lambda: pe.Shaw(8, key=None)),
    case("`widths` must have .*got 4", lambda: pe.axial_rope(8, widths=4)),
    case("`sizes` must have .*got 4", lambda: pe.mrope(8, sizes=4)),
    case("`special` must have .*got 0", lambda: pe.ResetBias(pe.ALiBi(2), 2, 0)),
    case("`axes` must be an AbstractAxes, but got 2", lambda: pe.Rotary(BASE, axes=2)),
    case("`implementation` must be one of .*but got 'xxxx.*\\.\\.\\.", lambda: PLACED.attend(Q, Q, Q, implementation="x" * 999)),
    case("`block_size` must be an integer, but got 2.5", lambda: PLACED.attend(Q, Q, Q, block_size=2.5)),
    case("`q_order` must be from .*got 1099511627776", lambda: PLACED.attend(Q, Q, Q, causal=True, q_order=np.full(4, 2**40), k_order=P)),
    case("`length` must be one positive integer.*got '6'", lambda: ROTATED.at(P, length="6")),
    case("`length` must be one .*array of shape \\(2,\\)", lambda: ROTATED.at(P, length=np.ones(2))),
    case("`dim` must be even.*got '64'", lambda: pe.rope("64")),
    case("`dim` must be even.*got 64.0", lambda: pe.rope(64.0)),
    case("`heads` must be at least 1.*got '8'", lambda: pe.ALiBi("8")),
    case("`heads` must be an integer, but got 2.0", lambda: pe.ALiBi(2.0)),
    case("`q_positions` must have shape \\[seq\\].*got \\(2, 4\\)", lambda: pe.ALiBi(2)(np.stack([P, P]), P)),
]
# fmt: on


@pytest.mark.parametrize("text, call", GUESSES)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_first_guess_gets_its_cure(text, call):
    with pytest.raises((ValueError, TypeError, AttributeError), match=text) as raised:
        call()
    assert len(str(raised.value)) < 350


# The first of the positions.
def test_the_least_float_position_has_the_angle_of_the_least_integer():
    least = -(2**31)
    far = jax.jit(pe.rope(64))(jnp.array([least, 0, 2.0**31], jnp.float32))
    exact = jax.jit(pe.rope(64))(jnp.array([least, 0], jnp.int32))
    np.testing.assert_allclose(far.cos[0], exact.cos[0], atol=1e-6, rtol=0)
    np.testing.assert_allclose(far.sin[0], exact.sin[0], atol=1e-6, rtol=0)
    assert np.isnan(far.cos[2]).all()
