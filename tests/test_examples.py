"""The examples run, and say of themselves whether they are right."""

import runpy
from pathlib import Path

import pytest


EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path):
    runpy.run_path(str(path), run_name="__main__")
