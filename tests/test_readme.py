"""The README and the docstrings do what they say."""

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import eqx_posemb as pe
from docs.tables import with_names
from eqx_posemb import functional, interop, plot
from eqx_posemb._catalogue import markdown_names
from tests.code_blocks import blocks, run


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# The bridges to other libraries are imported one by one, as users do.
BRIDGES = [
    importlib.import_module(f"eqx_posemb.interop.{module.name}")
    for module in pkgutil.iter_modules(interop.__path__)
    if not module.name.startswith("_")
]
NAMESPACES = pe.abstract, pe.axes, pe.frequencies, pe.positions, pe.rotations
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (pe, *NAMESPACES, functional, plot, *BRIDGES)
    for name in dir(module)
    if not name.startswith("_")
    for value in [getattr(module, name)]
    if getattr(value, "__module__", "").startswith(pe.__name__)
}


def examples():
    for i, block in enumerate(blocks(README)):
        yield pytest.param(block, id=f"README {i}")
    for name, value in PUBLIC.items():
        documented = [value]
        if inspect.isclass(value):
            documented += [v for k, v in vars(value).items() if not k.startswith("_")]
        for part in documented:
            for block in blocks(inspect.getdoc(part) or ""):
                yield pytest.param(block, id=name)


@pytest.mark.parametrize("block", list(examples()))
def test_an_example_runs(block):
    run([block])


@pytest.mark.parametrize("name", list(PUBLIC))
def test_what_is_public_is_documented_with_an_example(name):
    doc = inspect.getdoc(PUBLIC[name]) or ""
    abstract = inspect.isclass(PUBLIC[name]) and inspect.isabstract(PUBLIC[name])
    assert doc.splitlines()[0].endswith((".", ":"))
    assert "```python" in doc or abstract


def test_the_names_in_the_readme_are_the_names_of_the_registry():
    (names,) = re.findall(r"<!-- names -->\n(.*?)\n<!-- /names -->", README, re.DOTALL)
    assert names == markdown_names(), "run `make tables`"


def test_a_readme_without_the_marks_is_an_error():
    message = "^The README must have one part between the marks of `names`.$"
    with pytest.raises(ValueError, match=message):
        with_names(README.replace("<!-- names -->", ""))


@pytest.mark.parametrize("name", ["main", "test"])
def test_a_command_of_the_readme_is_the_line_below_its_fence(name):
    lines = README.splitlines()
    start = lines.index(f"<!-- {name} command -->")
    assert lines[start + 1] == lines[start + 3] == "```"
    assert lines[start + 2].startswith("python3 -m venv .venv && ")


def test_a_file_that_the_readme_links_to_exists():
    links = re.findall(r"\]\((?!https://)([^)#]+)", README)
    assert len(links) > 10
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_readme_fits_200_lines():
    assert len(README.splitlines()) <= 200


def test_the_installed_version_is_the_version_in_the_source():
    assert importlib.metadata.version("eqx-posemb") == pe.__version__


def test_the_citation_has_the_version_in_the_source():
    (version,) = re.findall(
        r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )
    assert version == pe.__version__


def test_the_hooks_run_the_ruff_that_the_tests_install():
    (installed,) = re.findall(r'"ruff==(.*?)"', (ROOT / "pyproject.toml").read_text())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    (pinned,) = re.findall(r"ruff-pre-commit\n +rev: v(.*)\n", hooks)
    assert pinned == installed
