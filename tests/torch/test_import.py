"""PyTorch is needed by those who use it, and by nobody else."""

import subprocess
import sys
from pathlib import Path


WITHOUT = """
import sys

sys.modules["torch"] = None  # Importing it raises an ImportError.
import eqx_posemb
from eqx_posemb import functional, interop

mine = [name for name in sys.modules if name.startswith("eqx_posemb.interop")]
assert mine == ["eqx_posemb.interop"], mine
assert not [name for name in sys.modules if name.startswith("torch.")]
try:
    from eqx_posemb.interop import torch
except ImportError as error:
    assert "torch" in str(error)
else:
    raise AssertionError("imported without torch")
"""
WITH = """
import sys

import eqx_posemb
assert "torch" not in sys.modules
before = len(sys.modules)
from eqx_posemb import interop
assert len(sys.modules) - before <= 1
from eqx_posemb.interop import torch
assert "torch" in sys.modules and "transformers" not in sys.modules
"""


def _run(code):
    root = Path(__file__).parent.parent.parent
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_the_library_is_imported_without_torch_and_says_who_needs_it():
    _run(WITHOUT)


def test_importing_the_library_does_not_import_torch():
    _run(WITH)
