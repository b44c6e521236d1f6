"""Writes the tables of variants again: `python docs/tables.py`.

`docs/variants.md` is a whole page. The names in the README stand between marks.
"""

import re
from pathlib import Path

from eqx_posemb._catalogue import markdown_names, markdown_page


ROOT = Path(__file__).parent.parent


def with_names(readme: str) -> str:
    """Returns the README with the names that the registry has."""
    marked = re.compile(r"(?<=<!-- names -->\n).*?(?=\n<!-- /names -->)", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise ValueError("The README must have one part between the marks of `names`.")
    return marked.sub(lambda _: markdown_names(), readme)


def main() -> None:
    (ROOT / "docs/variants.md").write_text(markdown_page() + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_names(readme.read_text()))


if __name__ == "__main__":
    main()
