"""The page on performance shows what the benchmarks wrote, and nothing else."""

import pytest

from benchmarks.page import (
    CHOOSING,
    filled,
    PAGE,
    PARTS,
    result,
    RESULTS,
    with_compared,
)


def test_the_tables_are_those_of_the_files():
    page = PAGE.read_text()
    assert page == filled(page), "run `python -m benchmarks.page`"


def test_the_scores_on_the_page_on_choosing_are_those_of_the_file():
    page = CHOOSING.read_text()
    assert page == with_compared(page), "run `python -m benchmarks.page`"
    with pytest.raises(ValueError, match="must have one part text, but has 0"):
        with_compared("")


def test_every_file_has_a_part_of_the_page():
    assert {path.stem for path in RESULTS.glob("*.json")} <= set(PARTS)


def test_a_page_without_a_part_is_told_so():
    with pytest.raises(ValueError, match="must have one part rotary, but has 0"):
        filled("")


def test_a_picture_is_there_if_its_figures_are():
    pictures = [
        PAGE.parents[1] / f"attention-{name}.svg" for name in ("time", "memory")
    ]
    there = result("attention") is not None
    assert [picture.exists() for picture in pictures] == [there] * 2
