"""T5's buckets of distances: near ones have one each, far ones share.

Where each bucket begins is computed on the host in integers, so that no rounding of a
logarithm moves a distance to its neighbour, on any device.
"""

from bisect import bisect_left

import jax.numpy as jnp
from jaxtyping import Array, Int


def check_buckets(num_buckets: int, max_distance: int, bidirectional: bool) -> None:
    """Raises an error unless there are buckets for near and for far distances."""
    least = 4 if bidirectional else 2
    if num_buckets < least or (bidirectional and num_buckets % 2):
        kind = "even and at least 4" if bidirectional else "at least 2"
        raise ValueError(
            f"`num_buckets` must be {kind} for bidirectional={bidirectional}, but "
            f"got {num_buckets}."
        )
    exact = num_buckets // least
    if max_distance <= exact:
        raise ValueError(
            f"`max_distance` must be beyond the {exact} distances with a bucket "
            f"each, but got {max_distance}. Lower `num_buckets`, or raise it."
        )


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
    `(n / exact) ** wide >= (max_distance / exact) ** t`; in integers, to be exact.
    """
    exact = buckets // 2
    wide = buckets - exact
    return [
        bisect_left(
            range(max_distance),
            max_distance**t * exact ** (wide - t),
            lo=exact,
            key=lambda n: n**wide,
        )
        for t in range(wide)
    ]


def _one_way(n, buckets, max_distance):
    firsts = thresholds(buckets, max_distance)
    # One by one, for XLA to fuse: a search looks up, and an axis of thresholds is held,
    # for each distance.
    far = sum((n >= first).astype(n.dtype) for first in firsts)
    exact = buckets // 2
    return jnp.where(n < exact, n, exact - 1 + far)
