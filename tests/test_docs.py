"""The docs have every public name, and their code does what they say."""

import ast
import pkgutil
import re
from collections import Counter
from pathlib import Path

import jax
import pytest

import eqx_posemb
from docs.tables import with_entries
from eqx_posemb import _moved
from eqx_posemb._catalogue import markdown_page
from tests.code_blocks import blocks, languages, run


ROOT = Path(__file__).parent.parent
PACKAGE, DOCS = ROOT / "eqx_posemb", ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "katex")
COMING_FROM = [page for page in PAGES if page.parent.name == "coming-from"]
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: str(page.relative_to(DOCS))
)


def public_modules() -> list[Path]:
    """The files whose names users import: none on the way has an underscore."""
    public = "__init__.py", "_public.py"
    private = lambda part: part.startswith("_") and part not in public
    files = PACKAGE.rglob("*.py")
    return [p for p in files if not any(map(private, p.relative_to(PACKAGE).parts))]


def public_names(path: Path) -> list[str]:
    """What a module exports as `X as X`, and what it defines without an underscore."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = ".".join(part for part in parts if part not in ("__init__", "_public"))
    names = []
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names += [a.name for a in node.names if a.name == a.asname]
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.append(node.name)
    return [f"{module}.{name}" for name in names if not name.startswith("_")]


def test_the_reference_has_every_public_name_once():
    expected = [name for path in public_modules() for name in public_names(path)]
    assert len(expected) > 100
    text = "\n".join(with_entries(page.read_text()) for page in PAGES)
    found = Counter(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    missing, unknown = set(expected) - set(found), set(found) - set(expected)
    assert not missing, f"add to a page of docs/api: {sorted(missing)}"
    assert not unknown, f"not public: {sorted(unknown)}"
    assert set(found.values()) == {1}, found.most_common(1)


def test_the_page_of_variants_has_the_rows_of_the_registry():
    page = (DOCS / "variants.md").read_text()
    assert page == markdown_page() + "\n", "run `make tables`"


def test_a_name_on_the_page_of_variants_links_to_the_reference():
    links = re.findall(r"\]\[(.+?)\]", (DOCS / "variants.md").read_text())
    pages = (DOCS / "api").iterdir()
    reference = "\n".join(with_entries(page.read_text()) for page in pages)
    assert len(links) > 60
    assert set(links) <= set(re.findall(r"^::: (\S+)$", reference, re.MULTILINE))


def test_the_comparison_on_the_page_about_choosing_has_a_row_for_each_kind():
    (table,) = re.findall(
        r"<!-- text -->\n(.*?)\n<!-- /text -->",
        (DOCS / "choosing.md").read_text(),
        re.DOTALL,
    )
    for name in "nope", "rope+yarn", "alibi", "t5", "kerple":
        assert re.search(rf"^\| {re.escape(name)} ", table, re.MULTILINE), name


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in COMING_FROM],
    ids=lambda page: str(page.relative_to(DOCS)),
)
@pytest.mark.usefixtures("as_users_have_it")
def test_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # Pages write files.
    text = page.read_text()
    # Optax mixes floats and integers, which our tests do not.
    promotion = "standard" if "import optax" in text else "strict"
    with jax.numpy_dtype_promotion(promotion):
        run(blocks(text))


@every_page
def test_a_block_has_a_language_that_says_whether_it_runs(page):
    found = languages(page.read_text())
    assert found <= {"python", "output", "console", "text"}, found


@pytest.mark.parametrize("page", COMING_FROM, ids=lambda page: page.stem)
def test_our_calls_in_a_table_run(page):
    names = run(blocks(page.read_text()))
    calls = re.findall(r"^\| .* \| `([^`]+)` \|$", page.read_text(), re.MULTILINE)
    assert len(calls) >= 8
    for call in calls:
        eval(compile(call, call, "eval"), names)


def test_the_page_of_moved_names_has_all_of_them():
    rows = (DOCS / "moved-names.md").read_text().splitlines()
    cells = (re.findall(r"^\| `(\w+)` \| \[`(.*?)`\]", row) for row in rows)
    moved = dict(cell for found in cells for cell in found)
    assert moved == _moved._RENAMED
    for space in eqx_posemb._NAMESPACES:
        (row,) = (row for row in rows if row.startswith(f"| `eqx_posemb.{space}` |"))
        place = PACKAGE / f"{space}.py"
        names = [name.split(".")[-1] for name in public_names(place)]
        assert set(re.findall(r"\[`(\w+)`\]", row)) <= set(names)


MOVED = {
    "Geometric": "frequencies.Geometric",
    "Chain": "rotations.Chain",
} | _moved._RENAMED


@pytest.mark.parametrize("old", MOVED)
def test_an_old_name_warns_of_the_new_one(old):
    text = (
        f"`eqx_posemb.{old}` is now `eqx_posemb.{MOVED[old]}`. The old name goes with"
    )
    with pytest.warns(DeprecationWarning, match=f"^{re.escape(text)}"):
        value = getattr(eqx_posemb, old)
    assert value == pkgutil.resolve_name(f"eqx_posemb.{MOVED[old]}")


def test_a_name_that_never_was_is_an_attribute_error():
    name = "Rope"
    with pytest.raises(AttributeError, match=f"'eqx_posemb' has no attribute '{name}'"):
        getattr(eqx_posemb, name)
