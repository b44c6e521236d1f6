"""Writes the tables of variants again: `python docs/tables.py`.

`docs/variants.md` is a whole page. The names in the README stand between marks. A line
`<!-- variants: PLACE KIND -->` of a page becomes the entries of these variants when the
site is built.
"""

import re
from pathlib import Path

from eqx_posemb._catalogue import markdown_names, markdown_page
from eqx_posemb._registry import Variant, VARIANTS


ROOT = Path(__file__).parent.parent


def with_names(readme: str) -> str:
    """Returns the README with the names that the registry has."""
    marked = re.compile(r"(?<=<!-- names -->\n).*?(?=\n<!-- /names -->)", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise ValueError("The README must have one part between the marks of `names`.")
    return marked.sub(lambda _: markdown_names(), readme)


def with_entries(page: str) -> str:
    """Returns a page of the reference with an entry for each variant that it names."""
    marked = re.compile(r"^<!-- variants: (\w+) (\w+) -->$", re.MULTILINE)
    return marked.sub(lambda mark: "\n\n".join(_entries(*mark.groups())), page)


def _entries(place: str, kind: str) -> list[str]:
    names = [
        f"::: eqx_posemb.{row.builder}"
        for row in VARIANTS
        if row.place == place and kind in _kinds(row)
    ]
    return list(dict.fromkeys(names))


def _kinds(row: Variant) -> tuple[str, str]:
    on_grid = isinstance(row.axes, int) and row.axes > 1
    is_class = row.builder[0].isupper() or row.place != "rotary"
    return "grids" if on_grid else "sequences", "classes" if is_class else "recipes"


def main() -> None:
    (ROOT / "docs/variants.md").write_text(markdown_page() + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_names(readme.read_text()))


if __name__ == "__main__":
    main()
