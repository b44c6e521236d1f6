"""Random positions against the released codes and the formulas of the papers."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, cells, golden, run


# gcambara/cape d456950 and mcleish7/arithmetic 86022a5, as released.
GOLDEN = golden("encodings")
COUNT = 400


def _with_each_key(draw):
    """What 400 keys draw."""
    return run(jax.vmap(lambda seed: draw(jr.key(seed))), np.arange(COUNT))


def _uniform(draws, low, high):
    """Within the range, to its ends, and with the moments of a uniform."""
    draws = np.asarray(draws, np.float64).ravel()
    assert low <= draws.min() < low + 0.02 * (high - low)
    assert high - 0.02 * (high - low) < draws.max() <= high
    # Five standard errors of the mean and, a little more than that, of the variance.
    wide, count = high - low, draws.size
    assert abs(draws.mean() - (low + high) / 2) < 5 * wide / (12 * count) ** 0.5
    assert abs(draws.var() / (wide**2 / 12) - 1) < 5 / count**0.5


@pytest.mark.parametrize("seed", range(3))
def test_randomized_positions_are_those_of_deepmind_by_the_same_key(seed):
    ours, drawn = _both_draws()
    np.testing.assert_array_equal(ours[seed], np.sort(drawn[seed]))


@functools.cache
def _both_draws():
    def draw(seed):
        key = jr.key(seed)
        theirs = jr.choice(key, jnp.arange(64), shape=(20,), replace=False)
        return pe.positions.randomized_positions(
            jnp.arange(20), longest=64, key=key
        ), theirs

    return run(jax.vmap(draw), np.arange(3))


def test_randomized_positions_are_sorted_different_and_anywhere():
    drawn = _with_each_key(
        lambda key: pe.positions.randomized_positions(
            jnp.arange(8), longest=32, key=key
        )
    )
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() == 0 and drawn.max() == 31
    counts = np.bincount(drawn.ravel(), minlength=32)
    # Each is drawn in a quarter of 400: 100 with a deviation of 8.7.
    assert np.abs(counts - 100).max() < 5 * 8.7


def test_randomized_positions_follow_the_positions_given():
    packed = np.array([0, 1, 2, 0, 1, 0])

    def draw(positions, longest):
        return pe.positions.randomized_positions(
            positions, longest=longest, key=jr.key(3)
        )

    drawn = run(draw, np.arange(6), 40)
    np.testing.assert_array_equal(run(draw, packed, 40), drawn[packed])
    np.testing.assert_array_equal(run(draw, packed, 6), packed)


@pytest.mark.parametrize(
    "name", ["randomized_positions", "pose_positions", "cream_positions"]
)
def test_a_position_that_is_not_counted_raises(name):
    draw = getattr(pe.positions, name)
    for wrong in -1, 12:
        with pytest.raises(Exception, match="`positions` must be between 0 and 11"):
            run(
                lambda p: draw(p, longest=15, key=jr.key(0)),
                np.array([*range(11), wrong]),
            )


def test_shifts_are_one_for_all_tokens_and_uniform():
    moved = _with_each_key(
        lambda key: pe.positions.shifted_positions(jnp.arange(5), furthest=7, key=key)
    ) - np.arange(5)
    assert (moved == moved[:, :1]).all()
    counts = np.bincount(moved[:, 0], minlength=7)
    # 400 / 7 each, with a deviation of 7.
    assert counts.shape == (7,) and np.abs(counts - 400 / 7).max() < 5 * 7


def test_shifts_of_a_grid_are_one_for_each_axis():
    there = cells((3, 4))
    move = lambda p: pe.positions.shifted_positions(p, furthest=1000, key=jr.key(0))
    moved = run(move, there) - there
    assert (moved == moved[:1]).all() and moved[0, 0] != moved[0, 1]


PARTS = dict(shift=5.0, jitter=0.5, scale=1.5)


def _cape(key, positions=None, **settings):
    positions = jnp.arange(6) if positions is None else positions
    return pe.positions.cape_positions(positions, key=key, **settings)


def test_each_part_of_cape_is_as_the_paper_says():
    plain = np.arange(6)
    each = lambda **settings: _with_each_key(lambda key: _cape(key, **settings))
    shift = each(shift=5.0) - plain
    np.testing.assert_allclose(shift, np.repeat(shift[:, :1], 6, 1), atol=1e-6)
    _uniform(shift[:, 0], -5, 5)
    jitter = each(jitter=0.5, spacing=0.25) - plain
    _uniform(jitter, -0.125, 0.125)
    scale = each(scale=1.5)
    np.testing.assert_allclose(scale, scale[:, 1:2] * plain, rtol=1e-6)
    _uniform(np.log(scale[:, 1]), -np.log(1.5), np.log(1.5))


@pytest.mark.parametrize("grid", [False, True])
def test_the_parts_of_cape_go_together_as_in_its_formula(grid):
    plain = cells((3, 4)) if grid else np.arange(6)

    def parts(seed):
        draw = lambda p, **settings: _cape(jr.key(seed), p, **settings)
        there = jnp.asarray(plain)
        return (
            draw(there, shift=5.0),
            draw(there, jitter=0.5),
            draw(there + 1, scale=1.5),
            draw(there, **PARTS),
        )

    for moved, shaken, stretched, ours in zip(
        *run(jax.vmap(parts), np.arange(5)), strict=True
    ):
        shift, jitter, scale = moved - plain, shaken - plain, stretched / (plain + 1)
        assert_close(ours, (plain + shift + jitter) * scale, atol=5e-6)
        assert np.ptp(scale) < 1e-6
        if grid:
            assert abs(shift[0, 0] - shift[0, 1]) > 1e-3


def test_cape_without_parts_changes_nothing():
    np.testing.assert_array_equal(run(lambda: _cape(jr.key(0))), np.arange(6.0))


def test_a_spacing_for_each_axis_shakes_each_as_much():
    there = np.zeros((4000, 2), int)
    shake = lambda p: _cape(jr.key(0), p, jitter=0.5, spacing=(2.0, 0.1))
    shaken = run(shake, there)
    _uniform(shaken[:, 0], -1, 1)
    _uniform(shaken[:, 1], -0.05, 0.05)


def test_cape_in_evaluation_is_the_released_encoding():
    positions = np.arange(-4, 5, dtype=np.float32) * 3
    # Angles of up to 12, made in float32.
    assert_close(run(pe.Sinusoidal(16), positions), GOLDEN["cape_1d_16"], atol=2e-6)


def test_cape_of_images_is_gaussian_fourier_with_its_waves():
    m = np.arange(8)
    waves = 10 ** (m / 7) * np.stack([np.cos(m), np.sin(m)]) / 2
    encoding = pe.GaussianFourier(16, matrix=waves)
    axes = [np.linspace(-1, 1, n) for n in (4, 5)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    sines, cosines = np.split(run(encoding, points), 2, axis=-1)
    ours = np.concatenate([cosines, sines], axis=-1)
    # Angles of up to 10 π √2, of which an ulp is 4e-6.
    assert_close(ours, GOLDEN["cape_2d_4x5_16"], atol=1e-5)


def test_abacus_counts_digits_as_released():
    digits = np.isin(GOLDEN["abacus_ids"], [1, 2, 3])
    ours = run(jax.vmap(lambda row: pe.positions.abacus_positions(row)), digits)
    np.testing.assert_array_equal(ours, GOLDEN["abacus_positions"])


def test_abacus_starts_anywhere_and_leaves_other_tokens_alone():
    digits = np.array([False, True, True, False, True])
    drawn = _with_each_key(
        lambda key: pe.positions.abacus_positions(
            jnp.asarray(digits), furthest=6, key=key
        )
    )
    assert not drawn[:, [0, 3]].any()
    starts = drawn[:, 1] - 1
    np.testing.assert_array_equal(drawn[:, [2, 4]], starts[:, None] + [[2, 1]])
    assert set(starts) == set(range(7))


@pytest.mark.parametrize(
    "transform",
    [
        lambda key: pe.positions.randomized_positions(
            jnp.arange(9), longest=99, key=key
        ),
        lambda key: pe.positions.shifted_positions(jnp.arange(9), furthest=99, key=key),
        lambda key: pe.positions.cape_positions(jnp.arange(9), **PARTS, key=key),
    ],
    ids=["randomized", "shifted", "cape"],
)
def test_the_same_key_gives_the_same_and_order_is_kept(transform, x64):
    one = transform(jr.key(1))
    jitted = run(jax.vmap(lambda seed: transform(jr.key(seed))), np.array([1, 2]))
    np.testing.assert_array_equal(one, jitted[0])
    assert (jitted[0] != jitted[1]).any()
    assert (np.diff(one) > 0).all()
    kind = float if one.dtype.kind == "f" else int
    assert one.dtype == jax.dtypes.canonicalize_dtype(kind)
