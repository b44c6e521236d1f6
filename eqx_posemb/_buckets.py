"""T5's buckets of distances: each near distance has a bucket, and far distances share
buckets.

The host computes the first distance of each bucket in integers. A rounded logarithm
therefore never moves a distance to another bucket.
"""

import decimal
import math
from decimal import Decimal
from itertools import accumulate
from operator import mul

import jax.numpy as jnp
from jaxtyping import Array, Int

from ._checks import check_count, require
from ._phase import HOST_PRECISION


# The bound of the error of decimals with 40 digits after the point.
_DECIDED = Decimal("1e-30")


def check_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> None:
    """Checks that there are buckets for near and for far distances."""
    least = 4 if bidirectional else 2
    check_count("num_buckets", num_buckets, least)
    check_count("max_distance", max_distance, 1)
    rule = "be even for bidirectional=True"
    require(not bidirectional or num_buckets % 2 == 0, "num_buckets", rule, num_buckets)
    exact = num_buckets // least
    rule = f"be beyond the {exact} distances with a bucket each"
    cure = "Lower `num_buckets`, or raise it."
    require(max_distance > exact, "max_distance", rule, max_distance, cure)


def bucket(
    delta: Int[Array, "*shape"],
    buckets: int,
    max_distance: int,
    bidirectional: bool = True,
) -> Int[Array, "*shape"]:
    """The bucket of each distance, key minus query."""
    if not bidirectional:
        return _one_way(jnp.maximum(-delta, 0), buckets, max_distance)
    half = buckets // 2
    near = _one_way(jnp.abs(delta), half, max_distance)
    return jnp.where(delta > 0, near + half, near)


def thresholds(buckets: int, max_distance: int) -> list[int]:
    """The first distance of each bucket from the last exact one on.

    Bucket `exact + t` begins at the least `n` with
    `(n / exact) ** wide >= (max_distance / exact) ** t`.
    """
    exact = buckets // 2
    return firsts_of(exact, max_distance, buckets - exact, buckets - exact)


def firsts_of(
    start: int, end: int, steps: int, count: int, beyond: bool = False
) -> list[int]:
    """The least integer `n` with `(n / start) ** steps >= (end / start) ** t`, for each
    `t < count`; with `beyond`, `>` takes the place of `>=`.

    Decimals place each `n`. Integers decide where a decimal is next to an integer.
    """
    with decimal.localcontext(HOST_PRECISION) as context:
        # Errors grow with the number of products and the size of distances.
        context.prec += len(str(end)) + len(str(count))
        ratio = (Decimal(end) / start) ** (Decimal(1) / steps)
        places = accumulate([ratio] * (count - 1), mul, initial=Decimal(start))
        found = []
        for t, place in enumerate(places):
            n = round(place)
            if abs(place - n) < _DECIDED:
                # The reduced fraction keeps the powers small.
                common = math.gcd(t, steps)
                t, power = t // common, steps // common
                reached, needed = n**power, end**t * start ** (power - t)
                n += reached < needed or (beyond and reached == needed)
                found.append(n)
            else:
                found.append(math.ceil(place))
    return found


def _one_way(n, buckets, max_distance):
    # A threshold beyond the dtype of the distances is never reached.
    most = jnp.iinfo(n.dtype).max
    firsts = [first for first in thresholds(buckets, max_distance) if first <= most]
    if len(firsts) <= 128:
        # XLA fuses a sum of comparisons, one for each threshold. A binary search would
        # gather, and an axis of thresholds would be materialized for each distance.
        far = sum((n >= first).astype(n.dtype) for first in firsts)
    else:
        # Very many buckets would make the sum a large program.
        table = jnp.array(firsts, n.dtype)
        far = jnp.searchsorted(table, n, side="right", method="scan_unrolled")
        far = far.astype(n.dtype)
    exact = buckets // 2
    return jnp.where(n < exact, n, exact - 1 + far)
