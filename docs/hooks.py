"""What is written once, elsewhere, and shown here: called by `mkdocs build`.

A line `<!-- gathered: NAME -->` of a page becomes the part of the README between the
marks of that name; `references` becomes the papers that the docstrings cite, `examples`
the text of all examples, `benchmarks` the table of commands, and `changelog` the
CHANGELOG. A page with `:::` entries starts with a table of them.
"""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import griffe

from docs.tables import with_entries


ROOT = Path(__file__).parent.parent
ENTRY = re.compile(r"^::: (\S+)$", re.MULTILINE)
MARK = re.compile(r"^<!-- gathered: (\w+) -->$", re.MULTILINE)
BIBTEX = re.compile(r"^( *)```bibtex\n(.*?)```", re.DOTALL | re.MULTILINE)
NAME = re.compile(r'(?<= class="doc doc-object-name )[^>]*>[^<]*(?=<)')
LINK = re.compile(r"\]\((https://\S*?)\)")


def gathered(name: str) -> str:
    """The text that a mark of that name stands for."""
    if name == "references":
        return references()
    if name == "examples":
        return examples()
    if name == "benchmarks":
        lines = (ROOT / "benchmarks/README.md").read_text().splitlines()
        return "\n".join(line for line in lines if line.startswith("|"))
    if name == "changelog":
        text = (ROOT / "CHANGELOG.md").read_text()
        return text.partition("\n")[2].replace("](docs/", "](")
    readme = (ROOT / "README.md").read_text()
    found = re.findall(
        rf"<!-- {name} -->\n(.*?)\n *<!-- /{name} -->", readme, re.DOTALL
    )
    if len(found) != 1:
        raise ValueError(f"The README must have one part {name}, but has {len(found)}.")
    return inspect.cleandoc(found[0]).replace("(docs/", "(")


def _breakable(name: re.Match[str]) -> str:
    return re.sub(r"(?<=[a-z])([._](?=[a-zA-Z])|(?=[A-Z]))", r"\1<wbr>", name[0])


def examples() -> str:
    """What each example says of itself, and its code."""
    parts = []
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text()
        tree = ast.parse(code)
        said = inspect.cleandoc(ast.get_docstring(tree) or "")
        rest = "\n".join(code.splitlines()[tree.body[0].end_lineno :]).strip("\n")
        fenced = f"```python\n{rest}\n```".replace("\n", "\n    ")
        parts.append(f'## {path.name}\n\n{said}\n\n??? example "Code"\n\n    {fenced}')
    return "\n\n".join(parts)


def references() -> str:
    """The papers by their titles, each with who it is cited by and its BibTeX."""
    papers: dict[str, tuple[str, str, set[str]]] = {}
    for name, address, entry in citations():
        title = re.findall(r" title=\{(.*?)\},\n", entry, re.DOTALL)[0]
        title = " ".join(re.sub("[{}]", "", title).split())
        title = title.replace("``", "“").replace("''", "”")
        title = f"[{title}]({address})" if address else title
        papers.setdefault(entry, (title, entry, set()))[2].add(name)
    lines = []
    for title, entry, names in sorted(papers.values(), key=lambda p: p[0].strip("[")):
        by = ", ".join(f"`{name}`" for name in sorted(names))
        lines += [f"**{title}** · {by}", f"```bibtex\n{entry}\n```"]
    return "\n\n".join(lines)


def citations() -> Iterator[tuple[str, str, str]]:
    """What each docstring cites: its name, the link if there is one, the BibTeX."""
    for path in sorted((ROOT / "eqx_posemb").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                doc = ast.get_docstring(node) or ""
                before = doc.find('??? cite "Reference"')
                for entry in BIBTEX.finditer(doc):
                    links = LINK.findall(doc, max(before, 0), entry.start())
                    yield (
                        node.name,
                        links[-1] if links else "",
                        inspect.cleandoc(entry[2]),
                    )


def with_overview(markdown: str) -> str:
    """Returns a page of the reference with a table of its entries before the first."""
    paths = ENTRY.findall(markdown)
    if len(paths) < 2:
        return markdown
    rows = []
    for path in paths:
        doc = inspect.getdoc(pkgutil.resolve_name(path)) or ""
        first = " ".join(doc.partition("\n\n")[0].split()).replace("|", "\\|")
        rows.append(f"| [`{path.rpartition('.')[2]}`][{path}] | {first} |")
    table = "\n".join(["| name | description |", "|---|---|", *rows])
    start = re.search(r"^(?:## |::: )", markdown, re.MULTILINE)
    where = start.start() if start else len(markdown)
    return f"{markdown[:where]}{table}\n\n{markdown[where:]}"


def on_page_markdown(markdown: str, **_) -> str:
    """Called by mkdocs, with the text of a page."""
    text = with_overview(with_entries(markdown))
    text = MARK.sub(lambda mark: gathered(mark[1]), text)
    # A long name in a table, which is not code, may end a line.
    return re.sub(r"(?<= )[a-z]+(?:_[a-z]+){2,}(?= \|)", _breakable, text)


def on_page_content(html: str, **_) -> str:
    """Called by mkdocs, with a page as HTML: long names of headings may end a line."""
    return NAME.sub(_breakable, html)


def on_post_page(output: str, **_) -> str:
    """Called by mkdocs, with a page as it is written."""
    # The theme asks the forge for the number of stars of a link that it marks so.
    return output.replace(' data-md-component="source"', "")


class Undocumented(griffe.Extension):
    """Leaves undocumented what has only the docstring of something else: fields, whose
    defaults have that of their type and which the arguments of `__init__` explain, and
    an `__init__` that is Python's own."""

    def on_function_instance(self, *, func: griffe.Function, **_) -> None:
        """Called for functions and methods."""
        own = object.__init__.__doc__
        if func.docstring is not None and func.docstring.value == own:
            func.docstring = None

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_) -> None:
        """Called for what is no method, properties among them."""
        if "property" not in attr.labels:
            attr.docstring = None
