"""Where buckets of distances begin: in exact integers, and in linear time."""

import time
from bisect import bisect_left, bisect_right

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._buckets import thresholds
from eqx_posemb._score._deberta import shared_from


KEY = jax.random.key(0)
# Powers and their neighbors, where a bucket begins at an integer or just beside it.
FAR = [2**k + d for k in range(7, 20) for d in (-1, 0, 1)] + [3**7, 10**5, 2**40]


@pytest.mark.parametrize("buckets", [2, 3, 4, 6, 7, 8, 16, 32, 34, 80, 160])
def test_buckets_begin_where_integers_say(buckets):
    exact = buckets // 2
    wide = buckets - exact
    for distance in FAR:
        least = [
            bisect_left(
                range(distance),
                distance**t * exact ** (wide - t),
                lo=exact,
                key=lambda n: n**wide,
            )
            for t in range(wide)
        ]
        assert thresholds(buckets, distance) == least


@pytest.mark.parametrize("buckets", [4, 6, 8, 32, 34, 160])
def test_buckets_of_deberta_begin_where_integers_say(buckets):
    middle = buckets // 2
    for reach in FAR:
        least = [
            bisect_right(
                range(reach),
                (reach - 1) ** (t - 1) * middle ** (middle - t),
                lo=middle,
                key=lambda n: n ** (middle - 1),
            )
            for t in range(1, middle + 1)
        ]
        assert shared_from(buckets, reach) == least


def test_many_buckets_take_linear_time():
    start = time.process_time()
    bias = pe.T5Bias(1, num_buckets=65_536, max_distance=2**17, key=KEY)
    score = pe.DeBERTa(1, 1, 1, reach=2**17, buckets=65_536, key=KEY)
    delta = jnp.array([0, 3, -5, -16_384, -131_072, 131_072])
    # Half of the buckets of T5 are of keys behind the query, and half of them exact.
    expected = [0, 32_768 + 3, 5, 16_384, 32_767, 65_535]
    np.testing.assert_array_equal(bias.buckets(delta), expected)
    expected = [65_536, 65_533, 65_541, 65_536 + 16_384, 131_071, 0]
    np.testing.assert_array_equal(score.rows(delta), expected)
    # Powers of integers took more than 90 seconds.
    assert time.process_time() - start < 15


@pytest.mark.parametrize("buckets", [32, 1024])
def test_buckets_may_begin_beyond_all_distances(buckets):
    delta = jnp.array([-(2**31) + 1, 2**31 - 1])
    bias = pe.T5Bias(1, num_buckets=buckets, max_distance=2**62, key=KEY)
    firsts = thresholds(buckets // 2, 2**62)
    behind = buckets // 4 - 1 + sum(first < 2**31 for first in firsts)
    found = bias.buckets(delta)
    np.testing.assert_array_equal(found, [behind, buckets // 2 + behind])
    score = pe.DeBERTa(1, 1, 1, reach=2**62, buckets=32, key=KEY)
    firsts = shared_from(32, 2**62)
    row = 32 + 16 + sum(first < 2**31 for first in firsts)
    np.testing.assert_array_equal(score.rows(delta), [row, 64 - row])


def test_a_search_finds_the_bucket_that_comparisons_find():
    delta = jnp.arange(-700, 700)
    # 128 and 130 buckets that distances share.
    for buckets in (512, 520):
        bias = pe.T5Bias(1, num_buckets=buckets, max_distance=600, key=KEY)
        half, exact = buckets // 2, buckets // 4
        firsts = np.array(thresholds(half, 600))
        far = np.abs(delta)
        shared = exact - 1 + (far[:, None] >= firsts).sum(-1)
        bucket = np.where(far < exact, far, shared) + half * (np.asarray(delta) > 0)
        np.testing.assert_array_equal(bias.buckets(delta), bucket)
