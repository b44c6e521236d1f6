"""Positions of sentences, images and gaps against the code of their authors.

The golden arrays are from `pos_design` of JJJYmmm/Multimodal-RoPEs at cd413b9, an
implementation of VideoRoPE, MRoPE-I, Omni-RoPE and V2PE by other authors, from
`repo.py` of VectorSpaceLab/OmniGen2 at 0f72fa9, `get_bilevel_ids` of zhenyuhe00/BiPE at
3dddab3, the data of HanseulJo/position-coupling at b9cad94, and 2,000 draws of `CREAM`
in wutong4012/CREAM at b792386. Circles are from `circle_rope.py` of
lose4578/CircleRoPE at 063fb2c, and with text from Multimodal-RoPEs.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import golden, run


GOLDEN = golden("counted")
RUNS = [3, (1, 2, 3), 4, (3, 5, 4), 2]


@pytest.mark.parametrize(
    "name, layout, advance, interval",
    [
        ("corner", "corner", "largest", 1),
        ("reset", "reset", "largest", 1),
        ("diagonal", "diagonal", "time", 2),
        ("omni", "reset", "largest", 2),
    ],
)
def test_images_are_placed_in_text(name, layout, advance, interval):
    runs = [run if isinstance(run, int) else (*run, interval) for run in RUNS]
    ours = pe.positions.mrope_positions(runs, advance=advance, layout=layout)
    np.testing.assert_array_equal(ours, GOLDEN[name])


def test_omnigen2_places_several_images():
    runs = [5, (1, 2, 3), (1, 3, 4), (1, 4, 5)]
    ours = pe.positions.mrope_positions(runs, layout="reset")
    np.testing.assert_array_equal(ours, GOLDEN["omnigen2"])


def test_v2pe():
    ours = pe.positions.v2pe_positions(RUNS, span=7.5)
    # Their steps are summed in float32.
    np.testing.assert_allclose(ours, GOLDEN["v2pe"], rtol=1e-6)


IMAGES = [3, (1, 4, 6), 4, (1, 5, 4), 2, (1, 1, 3), 1, (1, 1, 1), 2, (1, 3, 1), 1]


@pytest.mark.parametrize(
    "name, runs, settings",
    [
        ("circle", IMAGES, {}),
        ("circle_frames", [*RUNS[:3], (3, 5, 4, 2), 2], dict(radius=4.0, share=0.3)),
        ("circle_authors", [(1, 4, 6)], {}),
    ],
)
def test_images_are_circles_around_the_line_of_text(name, runs, settings):
    ours = pe.positions.circle_positions(runs, **settings)
    # Their angles are float32.
    np.testing.assert_allclose(ours, GOLDEN[name], atol=1e-5)


def test_text_is_equally_far_from_all_tokens_of_an_image():
    positions = np.asarray(pe.positions.circle_positions([3, (1, 4, 6), 2]))
    far = np.linalg.norm(positions[[0, 2, -1], None] - positions[3:27], axis=-1)
    np.testing.assert_allclose(far, far[:, :1] * np.ones(24), rtol=1e-5)
    np.testing.assert_allclose(far[0, 0], (3 * 3**2 + 10**2) ** 0.5, rtol=1e-6)


@pytest.mark.parametrize("empty", [(0, 2, 2), (1, 0, 2)])
def test_an_image_of_no_tokens_takes_no_positions(empty):
    for place in (
        pe.positions.circle_positions,
        pe.positions.mrope_positions,
    ):
        assert place([2, empty, 1])[:, 0].tolist() == [0, 1, 2]


def test_bilevel_positions():
    ours = run(jax.vmap(pe.positions.bilevel_positions), GOLDEN["bilevel_ends"])
    np.testing.assert_array_equal(ours, GOLDEN["bilevel"])


@pytest.mark.parametrize(
    "task, lowest_first",
    [
        ("addition", "answer"),
        ("two_numbers", "answer"),
        ("reversed_addition", True),
        ("plain_addition", False),
        ("copy", True),
        ("product", "answer"),
    ],
)
def test_digits_of_equal_weight_share_a_position(task, lowest_first):
    tokens, theirs = GOLDEN[f"coupled_{task}"], GOLDEN[f"coupled_{task}_positions"]
    digits, operators = tokens == 1, tokens == 2
    if lowest_first == "answer":
        # The last operator is the equals sign.
        lowest_first = np.cumsum(operators[:, ::-1], axis=1)[:, ::-1] == 0
    lowest_first = np.broadcast_to(lowest_first, digits.shape)
    call = lambda d, low: pe.positions.coupled_positions(d, lowest_first=low)
    ours = run(jax.vmap(call), digits, lowest_first)
    # Products count down from their operators, and each sequence has a random start.
    ours = -ours if task == "product" else ours
    at = np.arange(len(tokens)), operators.argmax(axis=1)
    ours = ours + (theirs[at] - ours[at])[:, None]
    there = tokens > 0
    np.testing.assert_array_equal(ours[there], theirs[there])


def test_a_start_is_drawn_for_all_tokens_together():
    def draw(seed):
        digits = jnp.array([True, False, True, True])
        key = jr.key(seed)
        return pe.positions.coupled_positions(digits, furthest=3, key=key)

    drawn = run(jax.vmap(draw), np.arange(400))
    starts = drawn[:, 1]
    np.testing.assert_array_equal(drawn - starts[:, None], [[1, 0, 2, 1]] * 400)
    counts = np.bincount(starts, minlength=5)
    # Five standard errors of a quarter of 400 are 44.
    assert counts.shape == (5,) and (abs(counts[1:] - 100) < 44).all()


def test_a_gap_is_drawn_as_the_released_code_of_pose_does():
    def draw(seed):
        key = jr.key(seed)
        return pe.positions.pose_positions(jnp.arange(8), longest=11, key=key)

    steps = np.diff(run(jax.vmap(draw), np.arange(4000)), prepend=0, axis=1)
    first = (steps[:, 1:] != 1).argmax(axis=1) + 1
    gap = steps.sum(axis=1) - 7
    assert (steps[:, 0] == 0).all() and ((steps[:, 1:] != 1).sum(axis=1) <= 1).all()
    # dwzhu-pku/PoSE at a3d4ba8: randint(1, 4) for the token and randint(0, 3) for the
    # gap, both ends included. Five standard errors of a quarter of 4,000 are 137.
    counts = np.bincount(gap, minlength=4)
    assert counts.shape == (4,) and (abs(counts - 1000) < 137).all()
    places = np.bincount(first[gap > 0], minlength=5)[1:]
    assert places.shape == (4,) and (abs(places - 750) < 119).all()


def test_cream_is_drawn_as_the_released_code_does():
    count, longest = 240, 1920

    def draw(seed):
        positions = jnp.arange(count)
        key = jr.key(seed)
        return pe.positions.cream_positions(positions, longest=longest, key=key)

    drawn = run(jax.vmap(draw), np.arange(4000))
    assert (drawn[:, 0] == 0).all() and (drawn[:, -1] == longest - 1).all()
    steps = np.diff(drawn, axis=1)
    assert (steps >= 1).all() and ((steps > 1).sum(axis=1) <= 2).all()
    thirds = (drawn[:, 79] == 79) & (drawn[:, -80] == longest - 80)
    # Five standard errors of a half of 4,000 are 158.
    assert abs(thirds.sum() - 2000) < 158
    for ends, ours in (80, drawn[thirds]), (32, drawn[~thirds]):
        assert (ours[:, ends - 1] == ends - 1).all()
        assert (ours[:, -ends] == longest - ends).all()
        ours = ours[:, count - ends - 1]
        theirs = GOLDEN["cream"][GOLDEN["cream"][:, 0] == ends, 1]
        at = np.arange(longest)
        shares = [(draws[:, None] <= at).mean(axis=0) for draws in (ours, theirs)]
        # Kolmogorov and Smirnov: a chance of one in a million.
        bound = 2.69 * (1 / len(ours) + 1 / len(theirs)) ** 0.5
        assert abs(shares[0] - shares[1]).max() < bound
