"""Measured figures in texts equal the figures that the benchmarks wrote."""

import re

import pytest

from benchmarks.page import filled, PAGES, PARTS
from benchmarks.report import RESULTS, ROOT
from benchmarks.sentences import SENTENCES


@pytest.mark.parametrize("page", PAGES)
def test_figures_equal_the_files(page):
    text = (ROOT / page).read_text()
    assert text == filled(page, text), "run `python -m benchmarks.page`"


def test_a_wrong_figure_is_replaced():
    page = "docs/faq.md"
    text = (ROOT / page).read_text()
    assert "up to 7e-3 at" in text
    assert filled(page, text.replace("up to 7e-3 at", "up to 8e-4 at")) == text


@pytest.mark.parametrize("page", PARTS)
def test_a_page_without_a_part_raises(page):
    name = next(iter(PARTS[page]))
    message = f"^{page} must have one part {name}, but has 0.$"
    with pytest.raises(ValueError, match=message):
        filled(page, "")


def test_a_page_without_a_sentence_raises():
    message = "^docs/faq.md must have the sentence 'with errors.* but has it 0 times.$"
    with pytest.raises(ValueError, match=message):
        filled("docs/faq.md", "")


def test_every_file_has_a_use():
    used = {name for parts in PARTS.values() for name in parts}
    elsewhere = {"comparison", "reasons", "commands"}
    assert {path.stem for path in RESULTS.glob("*.json")} <= used | elsewhere


FIGURE = re.compile(
    r"\d[\d,.]* (?:MiB|GiB|TiB|seconds|minutes|ms)\b|\d\.\d+ times|\de-\d"
)
NOT_MEASURED = {
    "README.md": {"8 GiB", "1 TiB"},  # Sizes of a table: positions times bytes.
    # The picture's description, and the rounding of a float32 product.
    "docs/guides/precision.md": {"1e-7", "6e-8"},
    "docs/devdocs/exact-phases.md": {"1e-7"},
    "docs/guides/performance.md": {"4 GiB", "9 GiB"},  # Limits of what was run.
    "docs/guides/accelerators.md": {"64 MiB"},  # The memory of a core.
    "docs/devdocs/toeplitz.md": {"16 MiB", "512 MiB"},  # Numbers times lanes.
}
TEXTS = [
    "README.md",
    *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("page", sorted(TEXTS))
def test_figures_in_sentences_have_a_file(page):
    text = (ROOT / page).read_text()
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    for name in PARTS.get(page, ()):
        text = re.sub(rf"<!-- {name} -->.*?<!-- /{name} -->", "", text, flags=re.DOTALL)
    for sentence in SENTENCES:
        if sentence.page == page:
            text = sentence.pattern.sub("", text)
    assert set(FIGURE.findall(text)) <= NOT_MEASURED.get(page, set())
