"""The laws of schedules: what stretching may do to frequencies, and what it may not."""

import decimal
from fractions import Fraction
from typing import ClassVar

import equinox as eqx
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
    "linear": lambda base, s, n: pe.frequencies.Linear(base, s),
    "ntk": lambda base, s, n: pe.frequencies.NTK(base, s),
    "dynamic_ntk": lambda base, s, n: pe.frequencies.DynamicNTK(base, s, n),
    "by_parts": lambda base, s, n: pe.frequencies.NTKByParts(base, s, n),
    "llama3": lambda base, s, n: pe.frequencies.NTKByParts(base, s, n, fast=4.0),
    "yarn": lambda base, s, n: pe.frequencies.YaRNFrequencies(base, s, n),
    "yarn_untruncated": lambda base, s, n: pe.frequencies.YaRNFrequencies(
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
    frequencies = stretch(pe.frequencies.Geometric(dim, theta), factor, length)()
    assert (frequencies > 0).all()
    assert (np.diff(frequencies) <= 0).all()


@every_stretch
@many
@hp.given(dim=dims, theta=thetas, factor=factors, length=lengths)
def test_every_frequency_lies_between_kept_and_stretched(
    stretch, dim, theta, factor, length
):
    base = pe.frequencies.Geometric(dim, theta)
    stretched = stretch(base, factor, length)()
    ulp = 1 + 2**-52
    assert (stretched <= base() * ulp).all()
    assert (stretched * ulp >= base() / factor).all()


@every_stretch
@many
@hp.given(dim=dims, theta=thetas, length=lengths)
def test_factor_one_changes_nothing(stretch, dim, theta, length):
    base = pe.frequencies.Geometric(dim, theta)
    assert np.array_equal(stretch(base, 1.0, length)(), base())


@pytest.mark.parametrize("name", ["ntk", "by_parts", "yarn", "llama3"])
def test_the_fastest_is_kept_and_the_slowest_divided_bit_for_bit(name):
    base = pe.frequencies.Geometric(128, 500_000.0)
    stretched = STRETCHES[name](base, 8.0, 8192)()
    assert stretched[0] == base()[0]
    assert stretched[-1] == base()[-1] / 8


@many
@hp.given(factor=factors, length=st.integers(1, 4096))
@hp.example(factor=16.737856863098877, length=1036)
def test_dynamic_ntk_is_ntk_at_its_own_factor(factor, length):
    base = pe.frequencies.Geometric(64)
    schedule = pe.frequencies.DynamicNTK(base, factor, original_length=1024)
    stretch = Fraction(max(length, 1024), 1024)
    # Exact until it is a float64, of which NTK has a few ulps of its powers.
    now = float(Fraction(factor) * (stretch - 1) + 1)
    np.testing.assert_allclose(
        schedule(length), pe.frequencies.NTK(base, now)(), rtol=1e-15
    )


def test_dynamic_ntk_is_the_same_traced_but_for_float32():
    schedule = pe.frequencies.DynamicNTK(
        pe.frequencies.Geometric(64), 2.0, original_length=1024
    )
    for length in (1, 1024, 1025, 9000):
        traced = jax.jit(schedule)(jnp.asarray(length))
        np.testing.assert_allclose(traced, schedule(length), rtol=1e-6)


def test_longrope_switches_beyond_the_original_length_and_not_at_it():
    base = pe.frequencies.Geometric(8)
    schedule = pe.frequencies.LongRoPEFrequencies(
        base, pe.frequencies.Linear(base, 4.0), 1024
    )
    for length, expected in (1024, base()), (1025, base() / 4), (None, base()):
        np.testing.assert_allclose(schedule(length), expected, rtol=1e-7)
    traced = jax.jit(schedule)
    np.testing.assert_allclose(traced(jnp.asarray(1024)), base(), rtol=1e-7)
    np.testing.assert_allclose(traced(jnp.asarray(1025)), base() / 4, rtol=1e-7)


def test_stopped_frequencies_are_zero_and_the_others_untouched():
    schedule = pe.frequencies.Truncated(pe.frequencies.Geometric(16), keep=3)
    assert np.array_equal(schedule()[:3], pe.frequencies.Geometric(16)()[:3])
    assert np.array_equal(schedule()[3:], np.zeros(5))


def test_schedules_wrap_schedules():
    base = pe.frequencies.Geometric(16)
    both = pe.frequencies.Linear(pe.frequencies.NTK(base, 4.0), 2.0)()
    assert np.array_equal(both, pe.frequencies.NTK(base, 4.0)() / 2)


def test_the_users_decimal_context_does_not_matter():
    class Fresh(pe.frequencies.Geometric):
        """A schedule that was never evaluated."""

    expected = pe.frequencies.NTK(pe.frequencies.Geometric(64), 3.0).turns()
    with decimal.localcontext(prec=5):
        found = pe.frequencies.NTK(Fresh(64), 3.0).turns()
    for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
        assert np.array_equal(a, b)


@many
@hp.given(frequency=st.floats(0, 1e9))
def test_turns_are_what_they_were_made_of(frequency):
    turns = pe.frequencies.Turns.from_radians(
        np.array([decimal.Decimal(frequency)], object)
    )
    # 2⁻⁶⁵ of a turn from the fixed point, 2⁻²³ of the value from float32.
    error = abs(float(turns.radians()[0]) - frequency)
    assert error <= 2**-62 + 2**-23 * frequency


BASE = pe.frequencies.Geometric(16)
SCHEDULES = {
    "geometric": BASE,
    "listed": pe.frequencies.Listed((1.0, 0.5, 0.25)),
    "learned": pe.frequencies.LearnedFrequencies(np.ones((2, 5))),
    "tabulated": pe.frequencies.Tabulated(BASE),
    "linear": pe.frequencies.Linear(BASE, 4.0),
    "ntk": pe.frequencies.NTK(BASE, 4.0),
    "ntk_mixed": pe.frequencies.NTKMixed(BASE, 4.0),
    "by_parts": pe.frequencies.NTKByParts(BASE, 4.0, 64),
    "yarn": pe.frequencies.YaRNFrequencies(BASE, 4.0, 64),
    "divided": pe.frequencies.Divided(BASE, (1.0,) * 7 + (4.0,)),
    "truncated": pe.frequencies.Truncated(pe.frequencies.Linear(BASE, 4.0), keep=3),
    "unit": pe.frequencies.Scaled(pe.frequencies.Linear(BASE, 4.0), 2.0),
    "dynamic_ntk": pe.frequencies.DynamicNTK(BASE, 4.0, 64),
    "longrope": pe.frequencies.LongRoPEFrequencies(
        BASE, pe.frequencies.Linear(BASE, 4.0), 64
    ),
    "of_parts": pe.frequencies.Concatenated(
        (BASE, pe.frequencies.DynamicNTK(BASE, 4.0, 64))
    ),
    "clipped": pe.frequencies.Clipped(pe.frequencies.Linear(BASE, 4.0), count=3),
    "resonance": pe.frequencies.Resonance(BASE),
    "riflex": pe.frequencies.RIFLEx(BASE, pair=2, length=64),
    "dype": pe.frequencies.DyPE(BASE, 4.0),
    "dype_yarn": pe.frequencies.DyPE(BASE, 4.0, "yarn", original_length=64),
    "twice": pe.frequencies.Linear(pe.frequencies.NTK(BASE, 2.0), 2.0),
}
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@every_schedule
def test_a_schedule_states_its_number_of_pairs(schedule):
    assert schedule.pairs == np.shape(schedule())[-1]
    assert schedule.for_length(1000).pairs == schedule.pairs
    assert schedule.for_length(jnp.asarray(1000)).pairs == schedule.pairs


@every_schedule
def test_a_schedule_depends_on_the_length_if_it_says_so(schedule):
    changes = not np.array_equal(schedule(), schedule.for_length(1000)())
    assert schedule.dynamic == changes
    assert (schedule.for_length(1000) is schedule) != schedule.dynamic
    assert not schedule.for_length(1000).dynamic


@pytest.mark.parametrize("name", ["dynamic_ntk", "longrope", "of_parts"])
def test_a_traced_length_gives_the_frequencies_of_a_known_one(name):
    schedule = SCHEDULES[name]
    traced = jax.jit(lambda length: schedule.for_length(length)())
    for length in (1, 64, 65, 200):
        known = schedule.for_length(length)()
        np.testing.assert_allclose(traced(jnp.asarray(length)), known, rtol=1e-6)


def test_clipped_frequencies_fade_to_zero_and_the_others_stay():
    schedule = pe.frequencies.Clipped(BASE, count=5)
    kept = schedule() / BASE()
    assert np.array_equal(kept[:4], np.ones(4)) and kept[-1] == 0
    assert (np.diff(kept[3:]) < 0).all()


def test_whole_wavelengths_repeat_exactly():
    schedule = pe.frequencies.Resonance(pe.frequencies.Geometric(8))
    wavelengths = 2 * np.pi / schedule()
    np.testing.assert_allclose(wavelengths, [6, 63, 628, 6283], rtol=1e-15)
    rotate = jax.jit(lambda p: pe.Rotary(schedule)(p).cos)
    cos = rotate(jnp.arange(64) + 2**30 // 63 * 63)[:, 1]
    assert np.array_equal(cos[0], cos[63])
    zero = pe.frequencies.Truncated(BASE, keep=3)
    assert np.array_equal(pe.frequencies.Resonance(zero)()[3:], np.zeros(5))


def test_riflex_slows_one_pair_to_less_than_a_turn():
    schedule = SCHEDULES["riflex"]
    others = np.arange(8) != 2
    assert np.array_equal(schedule()[others], BASE()[others])
    np.testing.assert_allclose(64 * schedule()[2], 0.9 * 2 * np.pi, rtol=1e-15)
    assert schedule.unscaled == BASE


@pytest.mark.parametrize("name", ["dype", "dype_yarn"])
def test_dype_ends_with_the_frequencies_of_training_in_one_program(name):
    schedule, traces = SCHEDULES[name], []

    @jax.jit
    def traced(time):
        traces.append(time)
        return schedule.for_time(time)()

    for time in (1.0, 0.6, 0.011, 0.0):
        known = schedule.for_time(time)()
        np.testing.assert_allclose(traced(time), known, rtol=1e-6)
    assert len(traces) == 1
    assert np.array_equal(schedule.for_time(0)(), BASE())
    assert np.array_equal(schedule.for_time(1)(), schedule())
    assert np.all(schedule() <= BASE()) and schedule()[-1] < BASE()[-1] / 3


@pytest.mark.parametrize("name", [name for name in SCHEDULES if name != "longrope"])
def test_the_scaling_factor_is_the_most_that_a_frequency_is_divided_by(name):
    now = SCHEDULES[name].for_length(200)
    after, first = np.asarray(now()), np.asarray(now.unscaled())
    moves = after > 0
    most = np.max(first[moves] / after[moves])
    np.testing.assert_allclose(most, now.scaling_factor, rtol=1e-6)
    assert now.unscaled.scaling_factor == 1
    assert now.unscaled.unscaled == now.unscaled


def test_the_scaling_factor_of_longrope_is_that_of_the_context():
    schedule = SCHEDULES["longrope"]
    assert schedule.unscaled == BASE
    assert schedule.scaling_factor == schedule.for_length(64).scaling_factor == 1
    assert schedule.for_length(200).scaling_factor == 200 / 64


@pytest.fixture
def counted():
    """A schedule that counts its evaluations, of a class that no cache has seen."""

    class Counted(pe.frequencies.AbstractStaticFrequencies):
        evaluations: ClassVar[list[int]] = []
        count: int = eqx.field(static=True)

        @property
        def pairs(self):
            return self.count

        def exact(self):
            self.evaluations.append(self.count)
            return np.array([1 / decimal.Decimal(i + 1) for i in range(self.count)])

    return Counted


def test_a_schedule_is_evaluated_once_and_not_before_it_is_asked(counted):
    q, p = jnp.ones((3, 16)), jnp.arange(3)
    rotary = pe.Rotary(counted(8))
    scaled = pe.frequencies.LongRoPEFrequencies(
        pe.frequencies.Divided(counted(8), (1.0,) * 8),
        pe.frequencies.Linear(counted(8), 2.0),
        64,
    )
    switched = pe.Rotary(scaled)
    assert counted.evaluations == []
    for _ in range(2):
        rotary(p).queries(q)
        pe.Rotary(counted(8))(p)
        jax.jit(lambda q: rotary(p).queries(q))(q)
    assert counted.evaluations == [8]
    assert counted(8)()[0] == 1
    assert counted.evaluations == [8]
    for _ in range(2):
        for length in 1, 100:
            switched(p, length=length)
            scaled(length)
    # And once for each of the two schedules that are made of it.
    assert counted.evaluations == [8, 8, 8]


def test_what_a_schedule_gives_cannot_spoil_the_next():
    pe.frequencies.Geometric(8)()[:] = 0
    assert pe.frequencies.Geometric(8)()[0] == 1
    with pytest.raises(ValueError, match="read-only"):
        pe.frequencies.Geometric(8).exact()[:] = 0
    with pytest.raises(ValueError, match="read-only"):
        pe.frequencies.Geometric(8).turns().low[:] = 0


@pytest.mark.parametrize("name", ["linear", "longrope"])
def test_only_a_schedule_that_reads_the_length_has_its_positions_reduced(name):
    q, p = jnp.ones((2, 3, 16)), jnp.arange(3)
    rotary = pe.Rotary(SCHEDULES[name])
    chain = pe.rotations.Chain((rotary, pe.NoPE()))
    embedding = pe.PositionalEmbedding(rotary=rotary)
    for call in (
        lambda p: rotary(p).cos,
        lambda p: chain(p).queries(q[0]),
        lambda p: embedding.logits(q, q, p, p),
    ):
        reduced = "reduce_max" in str(jax.make_jaxpr(call)(p))
        assert reduced == rotary.dynamic
