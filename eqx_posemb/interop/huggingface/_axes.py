"""Which coordinate turns which pair, for models that see images, video or atoms.

Each rule states the coordinates of its positions, in their order.
"""

import dataclasses
import math
from typing import Any

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
from .._configuration import Settings
from ._rope import IMAGE_AXES, Rope


@dataclasses.dataclass(frozen=True)
class Axes:
    """A schedule and its assignment to coordinates, with `dim` and `pairing` if they
    are unusual."""

    frequencies: AbstractFrequencies
    axes: AbstractAxes
    dim: int | None = None
    pairing: Pairing | None = None


def _quarters(head: int, key: str = "head_dim") -> int:
    if head % 4:
        raise ValueError(
            f"`{key}` must be a multiple of 4, for pairs of channels of two axes, but "
            f"got {head}."
        )
    return head // 4


def grid(head: int, theta: float) -> Axes:
    """(row, column): a block of pairs for each."""
    _quarters(head)
    return Axes(Geometric(head // 2, theta), Axial(2))


def columns_first(head: int, theta: float) -> Axes:
    """(row, column), with the block of the columns in front."""
    count = _quarters(head)
    axes = Assigned([1] * count + [0] * count, 2 * list(range(count)))
    return Axes(Geometric(head // 2, theta), axes)


def columns_alternate(head: int, theta: float) -> Axes:
    """(row, column): each frequency for the column, and then for the row."""
    count = _quarters(head)
    axes = Assigned([1, 0] * count, [i // 2 for i in range(2 * count)])
    return Axes(Geometric(head // 2, theta), axes)


def ladder(head: int, theta: float) -> Axes:
    """(row, column): one schedule, whose even frequencies belong to rows."""
    count = _quarters(head)
    steps = [*range(0, 2 * count, 2), *range(1, 2 * count, 2)]
    axes = Assigned([0] * count + [1] * count, steps)
    return Axes(Geometric(head, theta), axes)


def blocks(head: int, theta: float) -> Axes:
    """(row, column): half of the channels for each, in halves of their own."""
    _quarters(head)
    pairing = Pairing.halves_per_block(head, 2)
    return Axes(Geometric(head // 2, theta), Axial(2), pairing=pairing)


def centers(head: int, theta: float) -> Axes:
    """(row, column) of the centers of patches, between -1 and 1."""
    _quarters(head)
    return Axes(Scaled(Geometric(head // 2, theta), 2 * math.pi), Axial(2))


def video(head: int, theta: float) -> Axes:
    """(frame, row, column), with equal widths; the channels left over pass through."""
    return Axes(Geometric(_third(head), theta), Axial(3))


def _third(head):
    if head < 6:
        raise ValueError(
            "`head_dim` must be at least 6, for a pair of channels of three axes, but "
            f"got {head}."
        )
    return 2 * (head // 3 // 2)


def clip(head: int, theta: float) -> Axes:
    """(frame, row, column), with the angles of a block tiled over adjacent channels.

    The channels of a pair so have different angles, which is no rotation. It is how the
    released models are trained, by the authors' own code.
    """
    width = _third(head)
    half = width // 2
    adjacent = Pairing.adjacent(head, 3 * width)
    pair = tuple(
        lane // width * half + lane % half if lane < 3 * width else 0
        for lane in range(head)
    )
    pairing = dataclasses.replace(adjacent, pair=pair)
    return Axes(Geometric(width, theta), Axial(3), pairing=pairing)


def atoms(head: int, settings: Settings) -> Axes:
    """(x, y, z, token): places in ångström, and the number of the token."""
    each = settings.width("num_spatial_rope_pairs_per_axis")
    tokens = settings.width("num_uid_rope_pairs")
    left = head // 2 - 3 * each - tokens
    if left < 0 or head % 2:
        raise ValueError(
            "`head_dim` must be even and have room for the pairs of "
            "`num_spatial_rope_pairs_per_axis` and `num_uid_rope_pairs`, "
            f"{3 * each + tokens}, but got {head}."
        )
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


def rows_alternate(head: int, theta: float) -> Axes:
    """(row, column) from one, over all channels of a token, before they are heads."""
    count = _quarters(head, "hidden_size")
    axes = Assigned([0, 1] * count, [i // 2 for i in range(2 * count)])
    return Axes(Geometric(head // 2, theta), axes)


def points(head: int, key: PRNGKeyArray) -> Axes:
    """(x, y) of keypoints, with learned directions: the weight of a projection."""
    if head % 2:
        raise ValueError(f"`head_dim` must be even, but got {head}.")
    # `torch.nn.Linear` with two inputs has the same initial distribution.
    start = jr.uniform(key, (head,), minval=-1, maxval=1) / math.sqrt(2)
    return Axes(LearnedFrequencies(start), Mixed(2))


def seconds(width: int, theta: float) -> Axes:
    """(time x window, time x step), times -2 pi, over the channels of a token."""
    return Axes(Geometric(width, theta), Axial(2))


# The rules that take the width of a head and a theta.
IMAGES = (*IMAGE_AXES, "clip", "rows_alternate")


def sections(rope: Rope, pairs: int, row: dict[str, Any], quirks: bool) -> Sections:
    """(frame, row, column) of M-RoPE, whose tokens of text have them all the same."""
    rule = row["axes"]
    if rule == "turns":
        if pairs % 2:
            raise ValueError(
                "`head_dim` must leave an even number of pairs for rows and columns, "
                f"but got {pairs}."
            )
        return Sections([pairs // 2, pairs // 2], order="interleaved")
    # Some model types have default sections in their code.
    sizes = rope.sections or tuple(row.get("sections", ()))
    if rope.sections and sum(sizes) != pairs and not quirks:
        raise ValueError(
            f"`mrope_section` must add up to the {pairs} pairs of channels that "
            f"rotate, but got {list(sizes)}."
        )
    if rule == "interleaved":
        return Sections(_dealt(sizes, pairs), order="interleaved")
    if sum(sizes) != pairs or len(sizes) < 2:
        raise ValueError(
            f"`mrope_section` must add up to the {pairs} pairs of channels that "
            f"rotate, but got the default of the model type, {list(sizes)}. Give it, "
            "or a `partial_rotary_factor`."
        )
    if rule == "tail":
        # Ernie's configuration has time last, and `Sections` has time first.
        return Sections([sizes[-1], *sizes[:-1]], order="tail")
    return Sections(list(sizes))


def _dealt(sizes, pairs):
    """The number of pairs of each coordinate, where the first coordinate takes the
    remainder."""
    if len(sizes) < 2:
        raise ValueError(
            "`mrope_section` must have a number of pairs for each coordinate, but got "
            f"{list(sizes)}."
        )
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


def default_key() -> PRNGKeyArray:
    return jax.random.key(0)
