"""Which coordinate turns which pair, for models that see images, video or atoms.

Each rule states the coordinates of its positions, in their order.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.random as jr
from jaxtyping import PRNGKeyArray

from ..._frequencies import (
    AbstractFrequencies,
    Concatenated,
    Geometric,
    LearnedFrequencies,
    Listed,
    Scaled,
)
from ..._rotary import AbstractAxes, Assigned, Axial, Mixed, Pairing, Sections
from .._configuration import require, Settings
from ._rope import Rope


class Axes(NamedTuple):
    """A schedule and its assignment to coordinates, and an unusual pairing."""

    frequencies: AbstractFrequencies
    axes: AbstractAxes
    pairing: Pairing | None = None


def _quarters(head: int, key: str = "head_dim") -> int:
    rule = "be a multiple of 4, for pairs of channels of two axes"
    require(head % 4 == 0, key, rule, head)
    return head // 4


def grid(head: int, theta: float) -> Axes:
    """(row, column): a block of pairs for each."""
    return Axes(Geometric(2 * _quarters(head), theta), Axial(2))


def columns_first(head: int, theta: float) -> Axes:
    """(row, column), with the block of the columns in front."""
    count = _quarters(head)
    axes = Assigned([1] * count + [0] * count, 2 * list(range(count)))
    return Axes(Geometric(head // 2, theta), axes)


def columns_alternate(head: int, theta: float) -> Axes:
    """(row, column): each frequency for the column, and then for the row."""
    return _alternating(_quarters(head), [1, 0], theta)


def rows_alternate(head: int, theta: float) -> Axes:
    """(row, column) from one, over all channels of a token, before they are heads."""
    return _alternating(_quarters(head, "hidden_size"), [0, 1], theta)


def _alternating(count, axes, theta):
    steps = [i // 2 for i in range(2 * count)]
    return Axes(Geometric(2 * count, theta), Assigned(axes * count, steps))


def ladder(head: int, theta: float) -> Axes:
    """(row, column): one schedule, whose even frequencies belong to rows."""
    count = _quarters(head)
    steps = [*range(0, 2 * count, 2), *range(1, 2 * count, 2)]
    axes = Assigned([0] * count + [1] * count, steps)
    return Axes(Geometric(head, theta), axes)


def blocks(head: int, theta: float) -> Axes:
    """(row, column): half of the channels for each, in halves of their own."""
    return grid(head, theta)._replace(pairing=Pairing.halves_per_block(head, 2))


def centers(head: int, theta: float) -> Axes:
    """(row, column) of the centers of patches, between -1 and 1."""
    base = Geometric(2 * _quarters(head), theta)
    return Axes(Scaled(base, 2 * math.pi), Axial(2))


def video(head: int, theta: float) -> Axes:
    """(frame, row, column), with equal widths; the channels left over pass through."""
    rule = "be at least 6, for a pair of channels of three axes"
    require(head >= 6, "head_dim", rule, head)
    return Axes(Geometric(2 * (head // 3 // 2), theta), Axial(3))


def clip(head: int, theta: float) -> Axes:
    """(frame, row, column), with the angles of a block tiled over adjacent channels.

    The channels of a pair so have different angles, which is no rotation. It is how the
    released models are trained, by the authors' own code.
    """
    made = video(head, theta)
    half = made.frequencies.pairs
    width = 2 * half
    pair = tuple(
        lane // width * half + lane % half if lane < 3 * width else 0
        for lane in range(head)
    )
    adjacent = Pairing.adjacent(head, 3 * width)
    return made._replace(pairing=dataclasses.replace(adjacent, pair=pair))


def seconds(width: int, theta: float) -> Axes:
    """(time x window, time x step), times -2 pi, over the channels of a token."""
    return Axes(Geometric(width, theta), Axial(2))


def atoms(head: int, settings: Settings) -> Axes:
    """(x, y, z, token): places in ångström, and the number of the token."""
    each = settings.width("num_spatial_rope_pairs_per_axis")
    tokens = settings.width("num_uid_rope_pairs")
    left = head // 2 - 3 * each - tokens
    rule = (
        "be even and have room for the pairs of `num_spatial_rope_pairs_per_axis` and "
        f"`num_uid_rope_pairs`, {3 * each + tokens}"
    )
    require(left >= 0 and head % 2 == 0, "head_dim", rule, head)
    schedules: list[AbstractFrequencies] = [
        Geometric(2 * each, settings.number("spatial_rope_base_frequency", above=1)),
        Geometric(2 * tokens, settings.number("uid_rope_base_frequency", above=1)),
    ]
    if left:
        # A frequency of zero passes the remaining pairs through.
        schedules.append(Listed((0.0,)))
    axes = [0] * each + [1] * each + [2] * each + [3] * (tokens + left)
    steps = 3 * list(range(each)) + list(range(each, each + tokens))
    return Axes(
        Concatenated(tuple(schedules)), Assigned(axes, steps + [each + tokens] * left)
    )


def points(head: int, key: PRNGKeyArray | None) -> Axes:
    """(x, y) of keypoints, with learned directions: the weight of a projection."""
    require(head % 2 == 0, "head_dim", "be even", head)
    key = jax.random.key(0) if key is None else key
    # `torch.nn.Linear` with two inputs has the same initial distribution.
    start = jr.uniform(key, (head,), minval=-1, maxval=1) / math.sqrt(2)
    return Axes(LearnedFrequencies(start), Mixed(2))


def sections(rope: Rope, pairs: int, settings: Settings) -> Sections:
    """(frame, row, column) of M-RoPE, whose tokens of text have them all the same."""
    row = settings.row
    rule = row["axes"]
    if rule == "turns":
        even = "leave an even number of pairs for rows and columns"
        require(pairs % 2 == 0, "head_dim", even, pairs)
        return Sections([pairs // 2, pairs // 2], order="interleaved")
    # Some model types have default sections in their code.
    sizes = list(rope.sections or row.get("sections", ()))
    whole = f"add up to the {pairs} pairs of channels that rotate"
    fits, several = sum(sizes) == pairs, len(sizes) > 1
    if rule == "interleaved":
        unchecked = settings.quirks or not rope.sections
        require(fits or unchecked, "mrope_section", whole, sizes)
        each = "have a number of pairs for each coordinate"
        require(several, "mrope_section", each, sizes)
        return Sections(_dealt(sizes, pairs), order="interleaved")
    if not (fits and several):
        whose = "" if rope.sections else "the default of the model type, "
        raise ValueError(
            f"`mrope_section` must {whole}, but got {whose}{sizes}. Give it, or a "
            "`partial_rotary_factor`."
        )
    if rule == "tail":
        # Ernie's configuration has time last, and `Sections` has time first.
        return Sections([sizes[-1], *sizes[:-1]], order="tail")
    return Sections(sizes)


def _dealt(sizes, pairs):
    """The number of pairs of each coordinate, where the first coordinate takes the
    remainder."""
    count = len(sizes)
    others = [
        sum(1 for i in range(axis, pairs, count) if i // count < sizes[axis])
        for axis in range(1, count)
    ]
    return [pairs - sum(others), *others]


def torn(sizes: tuple[int, ...], pairs: int) -> tuple[Assigned, Pairing]:
    """Sections dealt out over all channels and not over pairs: HunYuan-VL as
    transformers has it, where the channels of a pair turn with different coordinates.
    """
    axes = [
        block % len(sizes) for block, size in enumerate(sizes) for _ in range(2 * size)
    ]
    pairing = dataclasses.replace(
        Pairing.halves(2 * pairs), pair=tuple(range(2 * pairs))
    )
    return Assigned(axes, list(range(pairs)) * 2), pairing
