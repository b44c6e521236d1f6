"""Random positions against the released codes and the formulas of the papers."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import as_numpy, assert_close, golden


# gcambara/cape d456950 and mcleish7/arithmetic 86022a5, as released.
GOLDEN = golden("encodings")
KEYS = [jr.key(seed) for seed in range(400)]


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
    drawn = jr.choice(jr.key(seed), jnp.arange(64), shape=(20,), replace=False)
    ours = pe.randomized_positions(jnp.arange(20), longest=64, key=jr.key(seed))
    np.testing.assert_array_equal(ours, jnp.sort(drawn))


def test_randomized_positions_are_sorted_different_and_anywhere():
    draw = jax.jit(
        jax.vmap(
            lambda key: pe.randomized_positions(jnp.arange(8), longest=32, key=key)
        )
    )
    drawn = as_numpy(draw(jnp.stack(KEYS)))
    assert (np.diff(drawn) > 0).all()
    assert drawn.min() == 0 and drawn.max() == 31
    counts = np.bincount(drawn.ravel(), minlength=32)
    # Each is drawn in a quarter of 400: 100 with a deviation of 8.7.
    assert np.abs(counts - 100).max() < 5 * 8.7


def test_randomized_positions_follow_the_positions_given():
    key, packed = jr.key(3), jnp.array([0, 1, 2, 0, 1, 0])
    drawn = pe.randomized_positions(jnp.arange(6), longest=40, key=key)
    ours = pe.randomized_positions(packed, longest=40, key=key)
    np.testing.assert_array_equal(ours, drawn[packed])
    whole = pe.randomized_positions(packed, longest=6, key=key)
    np.testing.assert_array_equal(whole, packed)


def test_a_position_that_is_not_counted_raises():
    for wrong in -1, 4:
        with pytest.raises(Exception, match="`positions` must be between 0 and 3"):
            positions = jnp.array([0, 1, 2, wrong])
            pe.randomized_positions(positions, longest=9, key=KEYS[0])


def test_shifts_are_one_for_all_tokens_and_uniform():
    draw = jax.vmap(
        lambda key: pe.shifted_positions(jnp.arange(5), furthest=7, key=key)
    )
    moved = as_numpy(draw(jnp.stack(KEYS))) - np.arange(5)
    assert (moved == moved[:, :1]).all()
    counts = np.bincount(moved[:, 0], minlength=7)
    # 400 / 7 each, with a deviation of 7.
    assert counts.shape == (7,) and np.abs(counts - 400 / 7).max() < 5 * 7


def test_shifts_of_a_grid_are_one_for_each_axis():
    cells = pe.grid_positions((3, 4))
    moved = pe.shifted_positions(cells, furthest=1000, key=KEYS[0]) - cells
    assert (moved == moved[:1]).all() and moved[0, 0] != moved[0, 1]


PARTS = dict(shift=5.0, jitter=0.5, scale=1.5)


def _cape(key, positions=None, **settings):
    positions = jnp.arange(6) if positions is None else positions
    return pe.cape_positions(positions, key=key, **settings)


def test_each_part_of_cape_is_as_the_paper_says():
    keys, plain = jnp.stack(KEYS), np.arange(6)
    each = lambda **settings: as_numpy(
        jax.vmap(lambda key: _cape(key, **settings))(keys)
    )
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
    positions = pe.grid_positions((3, 4)) if grid else jnp.arange(6)
    for key in KEYS[:5]:
        plain = as_numpy(positions)
        shift = as_numpy(_cape(key, positions, shift=5.0)) - plain
        jitter = as_numpy(_cape(key, positions, jitter=0.5)) - plain
        scale = as_numpy(_cape(key, positions + 1, scale=1.5)) / (plain + 1)
        ours = _cape(key, positions, **PARTS)
        assert_close(ours, (plain + shift + jitter) * scale, atol=5e-6)
        assert np.ptp(scale) < 1e-6
        if grid:
            assert abs(shift[0, 0] - shift[0, 1]) > 1e-3


def test_cape_without_parts_changes_nothing():
    np.testing.assert_array_equal(_cape(KEYS[0]), np.arange(6.0))


def test_a_spacing_for_each_axis_shakes_each_as_much():
    cells = jnp.zeros((4000, 2), int)
    shaken = _cape(KEYS[0], cells, jitter=0.5, spacing=(2.0, 0.1))
    _uniform(shaken[:, 0], -1, 1)
    _uniform(shaken[:, 1], -0.05, 0.05)


def test_cape_in_evaluation_is_the_released_encoding():
    positions = jnp.arange(-4.0, 5.0) * 3
    # Angles of up to 12, made in float32.
    assert_close(pe.Sinusoidal(16)(positions), GOLDEN["cape_1d_16"], atol=2e-6)


def test_cape_of_images_is_gaussian_fourier_with_its_waves():
    m = np.arange(8)
    waves = 10 ** (m / 7) * np.stack([np.cos(m), np.sin(m)]) / 2
    encoding = pe.GaussianFourier(16, matrix=waves)
    axes = [np.linspace(-1, 1, n) for n in (4, 5)]
    points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
    sines, cosines = np.split(as_numpy(encoding(jnp.asarray(points))), 2, axis=-1)
    ours = np.concatenate([cosines, sines], axis=-1)
    # Angles of up to 10 π √2, of which an ulp is 4e-6.
    assert_close(ours, GOLDEN["cape_2d_4x5_16"], atol=1e-5)


def test_abacus_counts_digits_as_released():
    digits = jnp.asarray(np.isin(GOLDEN["abacus_ids"], [1, 2, 3]))
    ours = jax.vmap(lambda row: pe.abacus_positions(row))(digits)
    np.testing.assert_array_equal(ours, GOLDEN["abacus_positions"])


def test_abacus_starts_anywhere_and_leaves_other_tokens_alone():
    digits = jnp.array([False, True, True, False, True])
    draw = jax.vmap(lambda key: pe.abacus_positions(digits, furthest=6, key=key))
    drawn = as_numpy(draw(jnp.stack(KEYS)))
    assert not drawn[:, [0, 3]].any()
    starts = drawn[:, 1] - 1
    np.testing.assert_array_equal(drawn[:, [2, 4]], starts[:, None] + [[2, 1]])
    assert set(starts) == set(range(7))


@pytest.mark.parametrize(
    "transform",
    [
        lambda key: pe.randomized_positions(jnp.arange(9), longest=99, key=key),
        lambda key: pe.shifted_positions(jnp.arange(9), furthest=99, key=key),
        lambda key: pe.cape_positions(jnp.arange(9), **PARTS, key=key),
    ],
    ids=["randomized", "shifted", "cape"],
)
def test_the_same_key_gives_the_same_and_order_is_kept(transform, x64):
    one = transform(KEYS[1])
    np.testing.assert_array_equal(one, jax.jit(transform)(KEYS[1]))
    assert (np.asarray(one) != np.asarray(transform(KEYS[2]))).any()
    assert (np.diff(one) > 0).all()
    assert one.dtype == (
        jnp.result_type(float) if one.dtype.kind == "f" else jnp.arange(9).dtype
    )
