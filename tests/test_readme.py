"""The README and the docstrings do what they say."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import eqx_posemb as pe
from eqx_posemb import functional, interop, plot
from eqx_posemb._catalogue import markdown_table
from tests.code_blocks import blocks, run


ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# The bridges to other libraries are imported one by one, as users do.
BRIDGES = [
    importlib.import_module(f"eqx_posemb.interop.{module.name}")
    for module in pkgutil.iter_modules(interop.__path__)
]
PUBLIC = {
    f"{module.__name__}.{name}": value
    for module in (pe, functional, plot, *BRIDGES)
    for name, value in vars(module).items()
    if not name.startswith("_")
    and getattr(value, "__module__", "").startswith(module.__name__)
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


def test_the_table_of_variants_is_that_of_the_registry():
    (table,) = re.findall(
        r"<!-- variants -->\n(.*?)\n<!-- /variants -->", README, re.DOTALL
    )
    assert table == markdown_table(), "run `eqx-posemb list --markdown`"


def test_the_comparison_in_the_readme_is_there():
    (table,) = re.findall(
        r"<!-- comparison -->\n(.*?)\n<!-- /comparison -->", README, re.DOTALL
    )
    for name in "nope", "rope+yarn", "alibi", "t5", "kerple":
        assert re.search(rf"^\| `?{re.escape(name)}`? ", table, re.MULTILINE), name
