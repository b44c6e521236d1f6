"""Angles against mpmath: every static schedule, at every size of position."""

import itertools
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Literal

import eqx_posemb as pe
from tests.parity.truths import (
    divided,
    dynamic_ntk,
    geometric,
    mp,
    SCHEDULES,
    true_tables,
)


THETAS = (1e4, 5e5, 1e6, 1e7)
DIMS = (64, 128, 256)
POSITIONS = (0, 1, 4095, 131071, 10**6, 16777215, 10**9, 2**31 - 1)

# Half an ulp of float32 near 1 is 3e-8 for the rounding of the result. The phase is off
# by 3 units of 2⁻³² of a turn (4.4e-9 rad) and by its own rounding to 24 bits of an
# eighth of a turn (4.7e-8), and the polynomials by 6e-8 each. The rest is room for
# other orders of summation; a lost bit of range reduction shows at 1e-4 and above.
FLOAT32 = 3e-7
# In 64-bit mode: a frequency is rounded to 2⁻⁶⁵ of a turn, so 2⁻³⁴ of a turn (3.7e-10
# rad) at position 2³¹.
FLOAT64 = 1e-9


BY_NAME = [pytest.param(row, id=row.name) for row in SCHEDULES]


def assert_tables(rotation, truth, atol):
    for name, ours, true in zip(
        ("cos", "sin"), (rotation.cos, rotation.sin), truth, strict=True
    ):
        ours = np.asarray(ours, np.float64)
        np.testing.assert_allclose(ours, true, rtol=0, atol=atol, err_msg=name)


def mirrored(truth):
    """The tables of the negated positions."""
    return truth[0], -truth[1]


def integers(numbers, dtype=jnp.int32):
    return jnp.asarray(np.array(numbers, dtype))


@pytest.mark.parametrize("schedule", BY_NAME)
def test_angles_are_right_at_every_size_of_position(schedule):
    """All thetas and widths in one jit: nothing may be shared between them either."""
    cases = list(itertools.product(DIMS, THETAS))

    def tables(positions, length):
        length = length if schedule.traced else schedule.length
        rows = [schedule.make(*case)(positions, length=length) for case in cases]
        # Arrays only, as a Rotation has static fields that may differ.
        return [(row.cos, row.sin) for row in rows]

    there = jnp.concatenate([integers(POSITIONS), -integers(POSITIONS)])
    found = jax.jit(tables)(there, jnp.int32(schedule.length or 0))
    assert found[0][0].dtype == jnp.float32
    for (dim, theta), (cos, sin) in zip(cases, found, strict=True):
        truth = true_tables(schedule.truth(dim, theta), POSITIONS, schedule.scale)
        atol = FLOAT32 * float(schedule.scale)
        half = len(POSITIONS)
        rotation = pe.rotations.Rotation(cos[:half], sin[:half], None, dim, "halves")
        assert_tables(rotation, truth, atol)
        backwards = pe.rotations.Rotation(cos[half:], sin[half:], None, dim, "halves")
        assert_tables(backwards, mirrored(truth), atol)


@pytest.mark.parametrize("schedule", BY_NAME)
def test_frequencies_have_the_digits_of_float64(schedule):
    """What a schedule says, apart from what it rotates by."""
    rotary = schedule.make(128, 5e5)
    frequencies = rotary.frequencies
    if schedule.length is not None:
        frequencies = frequencies.for_length(schedule.length)
    frequencies = frequencies()
    truth = np.array([float(w) for w in schedule.truth(128, 5e5)])
    # Exact decimals rounded once. Dynamic NTK gives the stretch 4 eps from cancelling
    # `factor - 1`, at most.
    eps = np.finfo(np.asarray(frequencies).dtype).eps
    np.testing.assert_allclose(np.asarray(frequencies), truth, rtol=4 * eps, atol=0)


@pytest.mark.parametrize("schedule", BY_NAME)
def test_angles_are_right_in_64_bit_mode(schedule):
    with jax.enable_x64(True):
        rotary = schedule.make(128, 1e4)
        positions = [*POSITIONS, -(2**31)]
        length = schedule.length
        if schedule.traced and length is not None:
            length = jnp.asarray(length)
        found = eqx.filter_jit(rotary)(integers(positions), length=length)
        assert found.cos.dtype == jnp.float64
        truth = true_tables(schedule.truth(128, 1e4), positions, schedule.scale)
        assert_tables(found, truth, FLOAT64 * float(schedule.scale))


@pytest.mark.parametrize(
    "dtype, positions",
    [
        (jnp.int8, (-128, -1, 0, 127)),
        (jnp.uint8, (0, 128, 255)),
        (jnp.int16, (-(2**15), -1, 2**15 - 1)),
        (jnp.uint16, (0, 2**15, 2**16 - 1)),
        (jnp.int32, (-(2**31), -1, 2**31 - 1)),
        (jnp.uint32, (0, 2**31 - 1, 2**31, 3 * 10**9, 2**32 - 1)),
    ],
)
def test_every_integer_dtype_counts_to_its_ends(dtype, positions):
    found = jax.jit(pe.rope(64))(integers(positions, dtype))
    assert_tables(found, true_tables(geometric(64, 1e4), positions), FLOAT32)


@pytest.mark.parametrize(
    "dtype, positions",
    [
        (np.int8, (-128, 127)),
        (np.uint32, (0, 2**31, 2**32 - 1)),
        (np.int64, (-(2**31) - 1, -1, 2**31, 2**32 + 5, 10**12, -(10**12))),
        (np.uint64, (0, 2**31, 2**40 + 1)),
    ],
)
def test_every_integer_dtype_counts_far_in_64_bit_mode(dtype, positions):
    with jax.enable_x64(True):
        found = jax.jit(pe.rope(64))(integers(positions, dtype))
        # Half a unit of 2⁻⁶⁴ of a turn for each step, and the rounding of an angle of
        # at most π and of its cosine.
        reach = max(abs(position) for position in positions)
        atol = reach * 2.0**-65 * 2 * np.pi + 1e-15
        assert_tables(found, true_tables(geometric(64, 1e4), positions), atol)


FLOATS = (0.0, 0.3, 0.5, 1.5, 2.5, 1234.567, 99999.99, 8388607.5, 16777217.0, 2e9)


@pytest.mark.parametrize("mode", ["float32", "float64"])
def test_float_positions_are_taken_at_their_exact_value(mode):
    with jax.enable_x64(mode == "float64"):
        dtype = jnp.dtype(mode)
        values = [x for x in FLOATS if x <= float(jnp.finfo(dtype).max)]
        there = jnp.array([sign * x for sign in (1, -1) for x in values], dtype)
        exact = [float(x) for x in there]
        found = jax.jit(pe.rope(128))(there)
        # That of an integer, the angle of a rest of at most a half, which has 2 eps
        # (6e-8), and the sum of two products of tables (2 more roundings).
        atol = FLOAT64 if mode == "float64" else FLOAT32 + 2 * 2.0**-24
        assert_tables(found, true_tables(geometric(128, 1e4), exact), atol)


def test_the_derivative_by_float_positions_is_minus_frequency_times_sine(x64):
    dtype = jnp.float64 if x64 else jnp.float32
    there = jnp.array([0.0, 0.25, 0.5, 1.5, 3.5, 1000.25, -777.7, 4194304.5], dtype)
    rotary = pe.rope(32)
    tables = lambda p: [getattr(rotary(p[None]), n)[0] for n in ("cos", "sin")]
    by_cos, by_sin = jax.jit(jax.vmap(jax.jacfwd(tables)))(there)
    frequencies = geometric(32, 1e4)
    cos, sin = true_tables(frequencies, [float(x) for x in there])
    omega = np.array([float(w) for w in frequencies])
    atol = FLOAT64 if x64 else FLOAT32 + 2 * 2.0**-24
    np.testing.assert_allclose(np.asarray(by_cos), -omega * sin, rtol=0, atol=atol)
    np.testing.assert_allclose(np.asarray(by_sin), omega * cos, rtol=0, atol=atol)


def test_an_assigned_angle_reads_its_coordinate_and_its_frequency():
    axes, which = [0, 1, 1, 0], [2, 0, 3, 1]
    rotary = pe.Rotary(pe.frequencies.Geometric(8), axes=pe.axes.Assigned(axes, which))
    p = np.array([[0, 0], [1, 40], [131071, 7], [-3, 10**6]])
    found = jax.jit(rotary)(integers(p))
    angles = p[:, axes] * 10_000.0 ** (-np.array(which) / 4)
    assert_tables(found, (np.cos(angles), np.sin(angles)), FLOAT32)


def test_float_positions_beyond_int32_are_nan_and_not_a_wrong_angle():
    ends = jnp.array([2.0**31, -(2.0**31) - 256, 1e20, jnp.inf, -jnp.inf, jnp.nan])
    assert bool(jnp.isnan(jax.jit(pe.rope(16))(ends).cos).all())
    largest = 2.0**31 - 128
    found = jax.jit(pe.rope(16))(jnp.array([largest, -largest]))
    assert_tables(found, true_tables(geometric(16, 1e4), [largest, -largest]), 5e-7)


@pytest.mark.parametrize("factor", [1.0, 1.7, 4.0])
@pytest.mark.parametrize("length", [2048, 2049, 9000, 10**6])
def test_a_traced_length_costs_dynamic_ntk_what_its_docstring_says(factor, length):
    """`6e-8 * position` radians up to the original length, more beyond it."""
    rotary = pe.dynamic_ntk_rope(128, factor=factor, original_length=2048)
    positions = [p for p in (1, 100, 2047, 8999, 10**5, 999999) if p < length]
    found = jax.jit(lambda p, n: rotary(p, length=n))(
        integers(positions), jnp.int32(length)
    )
    truth = true_tables(dynamic_ntk(128, 1e4, factor, 2048, length), positions)
    # The stretch is `factor * length / original - (factor - 1)`, three roundings of at
    # most its largest term; its power errs by that and by what the exponential makes of
    # its logarithm, all times the frequency, at most 1. Up to the original length the
    # stretch is 1 and the product and the frequency are what is rounded: 1 eps.
    eps = 2.0**-23
    stretch = max(1.0, factor * length / 2048 - (factor - 1))
    exact = length <= 2048 and factor in (1.0, 4.0)
    wrong = eps if exact else eps * (1 + factor + np.log(stretch))
    for position, *row in zip(positions, found.cos, found.sin, strict=True):
        for ours, true in zip(row, truth, strict=True):
            true = true[positions.index(position)]
            atol = FLOAT32 + wrong * position
            np.testing.assert_allclose(np.asarray(ours), true, rtol=0, atol=atol)


def test_float32_arithmetic_is_as_wrong_as_documented():
    """The comparison mode has the error of others: near 0.008 at position 131,071."""
    rotary = pe.Rotary(pe.frequencies.Geometric(dim=128), arithmetic="float32")
    truth = true_tables(geometric(128, 1e4), [131071])
    error = np.abs(np.asarray(rotary(integers([131071])).cos) - truth[0]).max()
    assert 1e-4 < error < 8e-3


def test_xpos_at_position_a_million_is_finite_or_says_why_not():
    there = integers([10**6 - 1, 10**6])
    q = jnp.ones((2, 64))
    near = pe.xpos(64, center=10**6)(there)
    assert bool(jnp.isfinite(near.queries(q)).all() & jnp.isfinite(near.keys(q)).all())
    far = pe.xpos(64)(there)
    with pytest.raises(
        eqx.EquinoxRuntimeError, match=r"xPos overflows float32.*`center`"
    ):
        jax.block_until_ready(eqx.filter_jit(lambda r, q: r.queries(q))(far, q))


@pytest.mark.parametrize(
    "dtype, position, original",
    [
        (jnp.int8, 127, 64),
        (jnp.uint8, 255, 128),
        (jnp.int16, 2**15 - 1, 4096),
        (jnp.int32, 2**31 - 1, 4096),
        (jnp.uint32, 2**32 - 1, 4096),
    ],
)
def test_the_length_does_not_wrap_at_the_largest_position(dtype, position, original):
    """The length is one more than a position may be in its dtype."""
    rope = pe.longrope(
        16,
        short_factor=(1.0,) * 8,
        long_factor=(3.0,) * 8,
        original_length=original,
        factor=1.0,
    )
    found = jax.jit(rope)(integers([position], dtype))
    assert_tables(found, true_tables(divided(16, 1e4, [3] * 8), [position]), FLOAT32)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.uint32, jnp.int32])
@pytest.mark.parametrize("center", [0, 100, -100, 1000])
def test_xpos_counts_from_its_center_in_every_integer_dtype(dtype, center):
    positions = [0, 3, 127]
    ours = pe.rotations.XPosDecay(8, center=center)(integers(positions, dtype))
    zeta = (2 * np.arange(4) + 3.2) / 11.2
    growth = (np.array(positions) - center)[:, None] / 512 * np.log(zeta)[None]
    # A difference that is exact, a rate and their product that are rounded.
    np.testing.assert_allclose(np.asarray(ours), growth, rtol=2e-7, atol=0)


def test_two_thetas_never_share_a_table():
    """In one process, in both orders, and in one jit."""
    positions = integers(range(8))
    apart = [pe.rope(16, theta=theta)(positions).cos for theta in (1e4, 5e5, 1e4)]
    assert bool((apart[0] == apart[2]).all()) and bool((apart[0] != apart[1]).any())
    for thetas in ((1e4, 5e5), (5e5, 1e4)):
        both = jax.jit(
            lambda p, thetas=thetas: [pe.rope(16, theta=t)(p).cos for t in thetas]
        )(positions)
        for theta, ours in zip(thetas, both, strict=True):
            truth = true_tables(geometric(16, theta), range(8))[0]
            np.testing.assert_allclose(np.asarray(ours), truth, rtol=0, atol=FLOAT32)


def constants(jaxpr):
    """The arrays in a closed jaxpr and in all jaxprs within it."""
    found = list(jaxpr.consts)
    for eqn in jaxpr.jaxpr.eqns:
        found += [v.val for v in eqn.invars if isinstance(v, Literal)]
        for inner in jax.tree.leaves(eqn.params, is_leaf=is_jaxpr):
            found += constants(inner) if is_jaxpr(inner) else []
    return found


def is_jaxpr(x):
    return isinstance(x, ClosedJaxpr)


def apply(q, positions):
    return pe.yarn(128, factor=4.0, original_length=4096)(positions).queries(q)


def apply_to_a_range(q):
    return apply(q, jnp.arange(q.shape[0]))


SEQ = 131_072


def arguments(seq):
    q = jax.ShapeDtypeStruct((seq, 128), jnp.float32)
    return q, jax.ShapeDtypeStruct((seq,), jnp.int32)


@pytest.mark.parametrize("take", [1, 2], ids=["range", "positions"])
def test_no_table_is_kept_whatever_the_length(take):
    function = (apply_to_a_range, apply)[take - 1]
    jaxpr = jax.make_jaxpr(function)(*arguments(SEQ)[:take])
    sizes = [np.asarray(constant).nbytes for constant in constants(jaxpr)]
    # Two words of 32 bits for each of 64 pairs; a table would be 33 MB.
    assert 0 < max(sizes) <= 4096 and sum(sizes) <= 8192
    texts = [
        jax.jit(function).lower(*arguments(seq)[:take]).as_text() for seq in (128, SEQ)
    ]
    # The same program but for the shapes; 128 is also the number of channels.
    assert texts[1].replace(str(SEQ), "128") == texts[0]


def test_lowering_takes_no_longer_for_a_long_sequence():
    def seconds(seq):
        start = time.perf_counter()
        jax.jit(lambda *args: apply(*args)).lower(*arguments(seq))
        return time.perf_counter() - start

    seconds(128)
    # The fastest of several, as other processes only ever add. A table of 131,072 rows
    # takes a hundred times longer than one of 128; a busy machine not three times.
    fastest = [min(seconds(seq) for _ in range(7)) for seq in (128, SEQ)]
    assert fastest[1] < 3 * fastest[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("floating", [False, True])
def test_angles_of_several_coordinates_add_up_exactly(x64, floating):
    dim, theta = 32, 1e6
    far = (0, 1, 131071, 16777215, 2**31 - 1, -(2**31), -(10**6), 12345)
    p = np.stack([far, far[::-1], np.roll(far, 3)], axis=1).astype(np.int64)
    fraction = np.array([0.25, -0.375, 0.5]) if floating else np.zeros(3)
    if floating:
        # What a float32 position holds with its fraction.
        p = p % 2**20
    rotary = pe.Rotary(pe.frequencies.Geometric(3 * dim, theta), axes=pe.axes.Mixed(3))
    given = jnp.asarray(p + fraction) if floating else integers(p)
    rotation = jax.jit(lambda p: (rotary(p).cos, rotary(p).sin))(given)
    frequencies = [[*f] for f in np.reshape(geometric(3 * dim, theta), (3, dim // 2))]
    angles = [
        [
            sum(
                frequencies[k][i] * mp.mpf(float(row[k] + fraction[k]))
                for k in range(3)
            )
            for i in range(dim // 2)
        ]
        for row in p
    ]
    atol = FLOAT64 if x64 else 3 * FLOAT32
    for name, ours in zip(("cos", "sin"), rotation, strict=True):
        true = [[float(getattr(mp, name)(angle)) for angle in row] for row in angles]
        np.testing.assert_allclose(np.asarray(ours, np.float64), true, atol=atol)
