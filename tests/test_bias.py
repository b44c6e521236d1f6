"""What biases are, beside the laws of all variants."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import build, HEADS, NAMES, normal, ROWS


BIASES = [n for n in NAMES if ROWS[n].place == "bias" and ROWS[n].axes == 1]


@eqx.filter_jit
def called(bias, q_positions, k_positions):
    return bias(q_positions, k_positions)


def evaluated(*arguments):
    return np.asarray(called(*arguments))


every_bias = pytest.mark.parametrize("name", BIASES)


@pytest.mark.parametrize("name", [n for n in BIASES if not ROWS[n].has("absolute")])
def test_a_bias_is_toeplitz(name):
    bias = evaluated(build(name).bias, jnp.arange(9), jnp.arange(9))
    assert bias.shape == (HEADS, 9, 9)
    for offset in range(-8, 9):
        diagonal = np.diagonal(bias, offset, axis1=1, axis2=2)
        assert (diagonal == diagonal[:, :1]).all()


@every_bias
def test_a_bias_of_cross_attention_is_a_block_of_that_of_self_attention(name):
    bias = build(name).bias
    p = jnp.array([4, 9, 0, 2, 31])
    block, whole = evaluated(bias, p[:2], p[2:]), evaluated(bias, p, p)[:, :2, 2:]
    # The sums of a network are in another order: an ulp of numbers of size ten.
    atol = 2e-6 if name in ("fire", "dynamic_bias") else 0
    np.testing.assert_allclose(block, whole, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["alibi", "kerple", "kerple_power"])
def test_penalties_grow_with_the_distance_to_the_past(name):
    bias = evaluated(build(name).bias, jnp.array([50]), jnp.arange(51))[:, 0]
    assert (np.diff(bias) > 0).all()
    assert (bias[:, -1] == 0).all()


@pytest.mark.parametrize("name", ["kerple", "kerple_power"])
def test_float_positions_are_interpolated(name):
    bias = build(name).bias
    here = evaluated(bias, jnp.array([10.0]), jnp.array([3.0, 3.5, 4.0]))[:, 0]
    assert (here[:, 0] < here[:, 1]).all() and (here[:, 1] < here[:, 2]).all()


@pytest.mark.parametrize(
    "form, delta",
    [("causal", [-4, 0, 2]), ("symmetric", [-4, 0, -2]), ("asymmetric", [-3.5, 0, -2])],
)
def test_alibi_is_its_formula(form, delta):
    bias = pe.ALiBi(8, form=form)(jnp.array([5]), jnp.array([1, 5, 7]))
    slopes = 2.0 ** -np.arange(1, 9)
    delta = np.array(delta)
    assert np.array_equal(bias[:, 0], slopes[:, None] * delta)


def test_alibi_has_two_conventions_where_heads_are_no_power_of_two():
    assert pe.ALiBi(3).slopes == (2**-4, 2**-8, 2**-2)
    geometric = pe.ALiBi(3, convention="geometric").slopes
    np.testing.assert_allclose(geometric, 2 ** (-8 * np.arange(1, 4) / 3))
    for heads in 1, 2, 4, 64:
        assert pe.ALiBi(heads).slopes == pe.ALiBi(heads, convention="geometric").slopes


def test_t5_shares_buckets_far_away_and_forever():
    bias = pe.T5Bias(2, key=jr.key(0))
    far = jnp.array([-(2**31 - 1), -128, -91, -90, 0, 90, 91, 2**31 - 1])
    assert bias.buckets(far).tolist() == [15, 15, 15, 14, 0, 30, 31, 31]


def test_the_future_is_bucket_zero_in_a_decoder():
    bias = pe.T5Bias(2, bidirectional=False, key=jr.key(0))
    assert bias.buckets(jnp.array([5, 1, 0, -1, -15, -16])).tolist() == [
        0,
        0,
        0,
        1,
        15,
        16,
    ]


def test_the_gradient_of_a_bucket_is_the_sum_over_its_pairs():
    bias = build("t5").bias
    p = jnp.arange(20)
    weights = normal((HEADS, 20, 20))
    differentiate = jax.jit(jax.grad(lambda b: jnp.sum(b(p, p) * weights)))
    gradient = np.asarray(differentiate(bias).weight)
    bucket = np.asarray(bias.buckets(pe.positions.distance(p, p)))
    for row in range(32):
        np.testing.assert_allclose(
            gradient[row],
            (np.asarray(weights) * (bucket == row)).sum(axis=(1, 2)),
            atol=1e-5,
        )


def test_kerple_parameters_stay_positive_wherever_they_are_pushed():
    for kind in "log", "power":
        bias = pe.KERPLE(HEADS, kind=kind, key=jr.key(0))
        pushed = jax.tree.map(lambda leaf: leaf - 20, bias)
        assert (pushed.a > 0).all() and (pushed.r > 0).all()
        pushed = jax.tree.map(lambda leaf: leaf + 20, bias)
        assert (pushed.r <= 2).all() or kind == "log"


def test_alibi_takes_slopes():
    bias, p = pe.ALiBi(4), jnp.arange(6)
    expected = np.asarray(bias(p, p))
    of_numbers = pe.ALiBi(slopes=bias.slopes)
    of_array = pe.ALiBi(4, slopes=jnp.array(bias.slopes))
    for given in of_numbers, of_array:
        assert given.heads == 4
        np.testing.assert_array_equal(given(p, p), expected)
        q, k = given.low_rank(p, p)
        np.testing.assert_allclose(q @ k.swapaxes(1, 2), expected, atol=1e-6)
    # Numbers are constants, which no optimizer sees.
    assert not jax.tree.leaves(of_numbers) and len(jax.tree.leaves(of_array)) == 1
    shard = jax.jit(lambda slopes: pe.ALiBi(slopes=slopes, factor=2.0)(p, p))
    found = shard(jnp.array(bias.slopes[2:]))
    np.testing.assert_array_equal(found, 2 * expected[2:])


@pytest.mark.parametrize(
    "settings, match",
    [
        (dict(), "`heads` must be a number, or `slopes` be given"),
        (dict(slopes=()), r"`slopes` must have shape \[heads\].*\(0,\)"),
        (dict(slopes=np.ones((2, 2))), r"`slopes` must have shape .*\(2, 2\)"),
        (dict(slopes=(0.5, -1.0)), "`slopes` must be finite and not negative.*-1.0"),
        (dict(slopes=np.array([np.nan])), "`slopes` must be finite.*nan"),
        (dict(slopes=jnp.arange(2)), "`slopes` must be floating point.*int32"),
        (dict(heads=3, slopes=(0.5,)), "`heads` must be the number of `slopes`, 1"),
        (dict(slopes=(0.5, 1.0), form="one_sided"), "`slopes` must be None with"),
        (dict(slopes=(0.5,), biased_heads=1), "`slopes` must be None with"),
        (dict(slopes=(0.5,), convention="geometric"), "`slopes` must be None with"),
    ],
)
def test_slopes_that_are_wrong(settings, match):
    with pytest.raises(ValueError, match=match):
        pe.ALiBi(**settings)
