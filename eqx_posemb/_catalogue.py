"""The registry in words: what the command line prints and the README shows."""

import inspect
import re
from collections.abc import Sequence

from ._registry import did_you_mean, Sizes, Variant, variant, VARIANTS, variants


class Refused(Exception):
    """What the user asked for cannot be done; the message is one line that says why."""


_EXAMPLE = Sizes(heads=8, head_dim=64, dim=512, length=2048)


def find(name: str) -> Variant:
    """The row of that name; a `Refused` that names what is close if there is none."""
    if name not in variants():
        raise unknown(name, variants())
    return variant(name)


def unknown(name: str, names: Sequence[str]) -> Refused:
    """What to say to somebody who asked for a name that is not one of `names`."""
    return Refused(
        f"there is no embedding {name!r}.{did_you_mean(name, names)} "
        "`eqx-posemb list` shows them all."
    )


def table() -> str:
    """The names and what they are, in columns."""
    rows = [
        (row.name, row.place, ", ".join(row.parameters) or "-", row.summary)
        for row in VARIANTS
    ]
    return in_columns([("name", "place", "trained", "what it is"), *rows])


def markdown_table() -> str:
    """The table of variants in the README."""
    lines = [
        "| name | place | what it is | trained parameters | tested against | paper |",
        "|---|---|---|---|---|---|",
    ]
    for row in VARIANTS:
        parameters = ", ".join(f"`{name}`" for name in row.parameters) or "none"
        facts = row.place, row.summary, parameters, row.oracle, _link(row)
        cells = (f"`{row.name}`", *facts)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def describe(name: str) -> str:
    """What the embedding is, its formula, its settings and its citation."""
    row = find(name)
    trained = ", ".join(row.parameters) or "nothing"
    facts = [
        ("place", row.place),
        ("built by", f"eqx_posemb.{row.of.__name__}"),
        ("trained", trained),
        ("tested against", row.oracle),
    ]
    return "\n\n".join(
        [
            f"{row.name}: {row.summary}",
            in_columns(facts),
            _prose(row),
            f"Settings that {row.of.__name__} has, and their values in `make({name!r}, "
            f"heads={_EXAMPLE.heads}, head_dim={_EXAMPLE.head_dim}, "
            f"dim={_EXAMPLE.dim}, length={_EXAMPLE.length})`:",
            in_columns(_settings(row)) or "    none",
            f"Reference: {row.reference()}",
            row.bibtex(),
        ]
    )


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Cells padded to the width of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    )  # fmt: skip


def _link(row):
    (link,) = re.findall(r"^\[.*?\]\(.*?\)", row.reference())
    return link


def _prose(row):
    doc = inspect.getdoc(row.of) or ""
    prose = re.split(r"\n(?:!!!|\?\?\?|\*\*Arguments)", doc)[0].strip()
    # Links within the documentation lead nowhere in a terminal.
    return re.sub(r"\[(`[^`]*`)\]\[\]", r"\1", prose)


def _settings(row):
    given = row.settings(_EXAMPLE)
    signature = inspect.signature(row.of).parameters
    rows = []
    for name in row.accepts():
        value = given.get(name, signature[name].default)
        note = "as `make` sets it" if name in given else "the default"
        rows.append((f"    {name}", _shown(value), note))
    return rows


def _shown(value):
    if isinstance(value, tuple) and len(value) > 4 and len(set(value)) == 1:
        return f"({value[0]!r},) * {len(value)}"
    return repr(value)
