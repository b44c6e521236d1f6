"""Prints the oldest versions that `dependencies` allows, as constraints for pip."""

import re
import tomllib
from pathlib import Path


project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
for requirement in project["project"]["dependencies"]:
    print(re.sub(r">=([^,]+).*", r"==\1", requirement))
