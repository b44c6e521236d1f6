"""Positions as values."""

import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


few = hp.settings(max_examples=25, deadline=None)


def test_distance_looks_back_with_a_negative_sign():
    far = pe.positions.distance(jnp.array([3, 0]), jnp.array([1, 3, 4]))
    assert far.tolist() == [[-2, 0, 1], [1, 3, 4]]


def test_distance_of_unsigned_and_of_small_integers_does_not_wrap():
    for dtype in jnp.uint8, jnp.uint32, jnp.int8:
        far = pe.positions.distance(jnp.array([100], dtype), jnp.array([0, 127], dtype))
        assert far.tolist() == [[-100, 27]]


def test_distance_is_floating_point_if_either_is():
    far = pe.positions.distance(jnp.array([3]), jnp.array([1.5]))
    assert far.dtype == jnp.float32 and far.tolist() == [[-1.5]]


def test_distance_on_a_grid_keeps_the_axes():
    p = pe.positions.grid_positions((2, 2))
    assert pe.positions.distance(p[:1], p)[0].tolist() == p.tolist()


@few
@hp.given(cuts=st.sets(st.integers(1, 19)))
def test_segments_count_from_zero_each(cuts):
    lengths = np.diff([0, *sorted(cuts), 20])
    ids = np.repeat(np.arange(len(lengths)) % 2, lengths)
    expected = np.concatenate([np.arange(n) for n in lengths])
    assert np.array_equal(pe.positions.segment_positions(jnp.asarray(ids)), expected)


def test_no_tokens_have_no_positions():
    assert pe.positions.segment_positions(jnp.zeros(0, jnp.int32)).shape == (0,)
    assert pe.positions.left_padded_positions(jnp.zeros(0, bool)).shape == (0,)
    assert pe.positions.bilevel_positions(jnp.zeros(0, bool)).shape == (0, 2)
    assert pe.positions.coupled_positions(jnp.zeros(0, bool)).shape == (0,)


@few
@hp.given(mask=st.lists(st.booleans(), min_size=12, max_size=12))
def test_tokens_that_are_there_are_counted(mask):
    positions = np.asarray(pe.positions.left_padded_positions(jnp.array(mask)))
    assert np.array_equal(positions[np.array(mask)], np.arange(sum(mask)))
    assert positions.min() >= 0 and positions.max() < len(mask)


@pytest.mark.parametrize("shape", [(1,), (4,), (2, 3), (1, 4), (3, 1, 2)])
def test_grids_are_listed_row_by_row(shape):
    assert pe.positions.grid_positions(shape).tolist() == [
        list(i) for i in np.ndindex(*shape)
    ]


@few
@hp.given(shards=st.integers(1, 6), chunk=st.integers(1, 5))
def test_zigzag_gives_every_shard_the_same_work(shards, chunk):
    length = 2 * shards * chunk
    order = np.asarray(pe.positions.zigzag(length, shards))
    assert sorted(order) == list(range(length))
    seen = (order + 1).reshape(shards, -1).sum(axis=1)
    assert (seen == seen[0]).all()
    assert np.array_equal(
        order[pe.positions.zigzag_inverse(length, shards)], np.arange(length)
    )


def test_positions_are_made_under_jit_and_vmap():
    ids = jnp.array([[0, 0, 1], [2, 3, 3]])
    made = jax.jit(jax.vmap(pe.positions.segment_positions))(ids)
    assert made.tolist() == [[0, 1, 0], [0, 0, 1]]
    padded = jax.jit(jax.vmap(pe.positions.left_padded_positions))(ids > 0)
    assert padded.tolist() == [[0, 0, 0], [0, 1, 2]]


def test_merged_patches_lie_together():
    positions = pe.positions.merged_patch_positions(6, 4, merge=2)
    blocks = np.asarray(positions).reshape(-1, 4, 2)
    assert len({tuple(p) for p in positions.tolist()}) == 24
    for block in blocks:
        corner = block[0]
        assert (corner % 2 == 0).all()
        assert (block - corner).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_normalized_positions_begin_at_the_corner_or_around_the_center():
    here = lambda *by: np.asarray(pe.positions.normalized_positions((3, 5), *by))
    centered, anchored = here("largest"), here("largest", "corner")
    np.testing.assert_allclose(
        centered[:, 0].reshape(3, 5)[:, 0], [-0.4, 0, 0.4], atol=1e-6
    )
    np.testing.assert_allclose(
        anchored[:, 0].reshape(3, 5)[:, 0], [-0.8, -0.4, 0], atol=1e-6
    )
    np.testing.assert_allclose(
        here("smallest", "corner")[:5, 1], [-2 / 3, 0, 2 / 3, 4 / 3, 2], atol=1e-6
    )
    assert (here("each", "corner") == here("each")).all()


def test_normalized_positions_are_centres_of_cells():
    p = np.asarray(pe.positions.normalized_positions((2, 3)))
    np.testing.assert_allclose(p[:, 0], np.repeat([-0.5, 0.5], 3), rtol=1e-6)
    np.testing.assert_allclose(p[:, 1], np.tile([-2 / 3, 0, 2 / 3], 2), rtol=1e-6)
    largest = np.asarray(pe.positions.normalized_positions((2, 3), by="largest"))
    np.testing.assert_allclose(largest[:, 0], np.repeat([-1 / 3, 1 / 3], 3), rtol=1e-6)
    smallest = np.asarray(pe.positions.normalized_positions((2, 3), by="smallest"))
    np.testing.assert_allclose(smallest[:3, 1], [-1, 0, 1], rtol=1e-6)
    area = np.asarray(pe.positions.normalized_positions((2, 8), by="area"))
    np.testing.assert_allclose(area[:8, 1], np.arange(-7, 8, 2) / 4, rtol=1e-6)


def test_resized_positions_reach_over_the_grid_of_training():
    whole = pe.positions.resized_positions((3, 4), onto=(256, 2), whole=True)
    assert whole.dtype == np.int32
    assert whole[::4, 0].tolist() == [0, 85, 170]
    assert whole[:4, 1].tolist() == [0, 0, 1, 1]
    spread = np.asarray(pe.positions.resized_positions((3, 4), onto=(256, 2.5)))
    np.testing.assert_allclose(spread[::4, 0], [0, 256 / 3, 512 / 3], rtol=1e-6)
    np.testing.assert_allclose(spread[:4, 1], [0, 0.625, 1.25, 1.875], rtol=1e-6)
    assert pe.positions.resized_positions((0, 2), onto=(4, 2)).shape == (0, 2)


def test_centered_positions_have_the_middle_at_zero():
    p = pe.positions.centered_positions((3, 4))
    assert sorted(set(p[:, 0].tolist())) == [-2, -1, 0]
    assert sorted(set(p[:, 1].tolist())) == [-2, -1, 0, 1]


def test_a_video_in_text_begins_and_ends_where_text_does():
    whole = pe.positions.mrope_positions([2, (4, 2, 2), 3])
    # Four frames are the largest coordinate: the text goes on at 2 + 4.
    assert whole[-3:].tolist() == [[6] * 3, [7] * 3, [8] * 3]
    # transformers goes on after two rows.
    space = pe.positions.mrope_positions([2, (4, 2, 2), 3], advance="space")
    assert space[-3:].tolist() == [[4] * 3, [5] * 3, [6] * 3]
    # Decoding goes on where the last call has ended.
    more = pe.positions.mrope_positions([2], start=int(whole.max()) + 1)
    assert more.tolist() == [[9] * 3, [10] * 3]


def test_prefixed_tokens_are_above_the_grid_and_count_on():
    positions = pe.positions.prefixed(pe.positions.grid_positions((1, 1, 2)), 2)
    assert positions.tolist() == [[-1, -1, 0], [-1, -1, 1], [0, 0, 0], [0, 0, 1]]
    assert pe.positions.prefixed(positions, 0).tolist() == positions.tolist()
    halves = pe.positions.prefixed(jnp.array([[0.5, 0.5]]))
    assert halves.dtype == jnp.float32 and halves.tolist() == [[-1, 0], [0.5, 0.5]]


@pytest.mark.usefixtures("as_users_have_it")
def test_sizes_of_a_grid_may_be_an_array_of_numpy():
    found = pe.positions.grid_positions(np.array([2, 3]))  # pyright: ignore
    assert np.array_equal(found, pe.positions.grid_positions((2, 3)))
