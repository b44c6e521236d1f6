"""The laws of schedules: what stretching may do to frequencies, and what it may not."""

import decimal
from fractions import Fraction

import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


factors = st.floats(1.0, 64.0)
lengths = st.integers(64, 2**17)
thetas = st.sampled_from([100.0, 1e4, 5e5, 1e7])
dims = st.sampled_from([4, 16, 64, 128])
many = hp.settings(max_examples=60, deadline=None)

STRETCHES = {
    "linear": lambda base, s, n: pe.Linear(base, s),
    "ntk": lambda base, s, n: pe.NTK(base, s),
    "dynamic_ntk": lambda base, s, n: pe.DynamicNTK(base, s, n),
    "by_parts": lambda base, s, n: pe.NTKByParts(base, s, n),
    "llama3": lambda base, s, n: pe.NTKByParts(base, s, n, fast=4.0),
    "yarn": lambda base, s, n: pe.YaRNFrequencies(base, s, n),
    "yarn_untruncated": lambda base, s, n: pe.YaRNFrequencies(
        base, s, n, truncate=False
    ),
}
every_stretch = pytest.mark.parametrize("stretch", STRETCHES.values(), ids=STRETCHES)


@every_stretch
@many
@hp.given(dim=dims, theta=thetas, factor=factors, length=lengths)
def test_frequencies_are_positive_and_do_not_increase(
    stretch, dim, theta, factor, length
):
    frequencies = stretch(pe.Geometric(dim, theta), factor, length)()
    assert (frequencies > 0).all()
    assert (np.diff(frequencies) <= 0).all()


@every_stretch
@many
@hp.given(dim=dims, theta=thetas, factor=factors, length=lengths)
def test_every_frequency_lies_between_kept_and_stretched(
    stretch, dim, theta, factor, length
):
    base = pe.Geometric(dim, theta)
    stretched = stretch(base, factor, length)()
    ulp = 1 + 2**-52
    assert (stretched <= base() * ulp).all()
    assert (stretched * ulp >= base() / factor).all()


@every_stretch
@many
@hp.given(dim=dims, theta=thetas, length=lengths)
def test_factor_one_changes_nothing(stretch, dim, theta, length):
    base = pe.Geometric(dim, theta)
    assert np.array_equal(stretch(base, 1.0, length)(), base())


@pytest.mark.parametrize("name", ["ntk", "by_parts", "yarn", "llama3"])
def test_the_fastest_is_kept_and_the_slowest_divided_bit_for_bit(name):
    base = pe.Geometric(128, 500_000.0)
    stretched = STRETCHES[name](base, 8.0, 8192)()
    assert stretched[0] == base()[0]
    assert stretched[-1] == base()[-1] / 8


@many
@hp.given(factor=factors, length=st.integers(1, 4096))
@hp.example(factor=16.737856863098877, length=1036)
def test_dynamic_ntk_is_ntk_at_its_own_factor(factor, length):
    base = pe.Geometric(64)
    schedule = pe.DynamicNTK(base, factor, original_length=1024)
    stretch = Fraction(max(length, 1024), 1024)
    # Exact until it is a float64, of which NTK has a few ulps of its powers.
    now = float(Fraction(factor) * (stretch - 1) + 1)
    np.testing.assert_allclose(schedule(length), pe.NTK(base, now)(), rtol=1e-15)


def test_dynamic_ntk_is_the_same_traced_but_for_float32():
    schedule = pe.DynamicNTK(pe.Geometric(64), 2.0, original_length=1024)
    for length in (1, 1024, 1025, 9000):
        traced = jax.jit(schedule)(jnp.asarray(length))
        np.testing.assert_allclose(traced, schedule(length), rtol=1e-6)


def test_longrope_switches_beyond_the_original_length_and_not_at_it():
    base = pe.Geometric(8)
    schedule = pe.LongRoPEFrequencies(base, pe.Linear(base, 4.0), 1024)
    for length, expected in (1024, base()), (1025, base() / 4), (None, base()):
        np.testing.assert_allclose(schedule(length), expected, rtol=1e-7)
    traced = jax.jit(schedule)
    np.testing.assert_allclose(traced(jnp.asarray(1024)), base(), rtol=1e-7)
    np.testing.assert_allclose(traced(jnp.asarray(1025)), base() / 4, rtol=1e-7)


def test_stopped_frequencies_are_zero_and_the_others_untouched():
    schedule = pe.Truncated(pe.Geometric(16), keep=3)
    assert np.array_equal(schedule()[:3], pe.Geometric(16)()[:3])
    assert np.array_equal(schedule()[3:], np.zeros(5))


def test_schedules_wrap_schedules():
    base = pe.Geometric(16)
    both = pe.Linear(pe.NTK(base, 4.0), 2.0)()
    assert np.array_equal(both, pe.NTK(base, 4.0)() / 2)


def test_the_users_decimal_context_does_not_matter():
    class Fresh(pe.Geometric):
        """A schedule that was never evaluated."""

    expected = pe.NTK(pe.Geometric(64), 3.0).turns()
    with decimal.localcontext(prec=5):
        found = pe.NTK(Fresh(64), 3.0).turns()
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.array_equal(a, b)


@many
@hp.given(frequency=st.floats(0, 1e9))
def test_turns_are_what_they_were_made_of(frequency):
    turns = pe.Turns.from_radians(np.array([decimal.Decimal(frequency)], object))
    # 2⁻⁶⁵ of a turn from the fixed point, 2⁻²³ of the value from float32.
    error = abs(float(turns.radians()[0]) - frequency)
    assert error <= 2**-62 + 2**-23 * frequency
