"""The registry in words: what the command line prints and the documentation shows."""

import inspect
import re
import textwrap
from collections.abc import Sequence

from ._registry import did_you_mean, Sizes, Variant, variant, VARIANTS, variants


class Refused(Exception):
    """What the user asked for cannot be done; the message is one line that says why."""


_EXAMPLE = Sizes(heads=8, head_dim=64, dim=512, length=2048)
_INTRODUCTION = """\
---
hide: [toc]
---

# All variants

[`eqx_posemb.make`][] builds each variant by the name in the first column. The name
links to the class or the function that documents the settings.

The third column names the code that the tests compare the variant with. That code is
from the authors, or from a library that has their models. "formula" means that the
tests compute the formula of the paper in NumPy.

`eqx-posemb show NAME` prints the formula, the settings, the trained parameters and the
citation of a variant. [Which one should I choose](choosing.md) helps to choose."""
_PLACES = {
    "encoding": ("Encodings", "An encoding is added to the tokens."),
    "rotary": (
        "Rotary embeddings",
        "A rotary embedding changes queries and keys, and most of them rotate both.",
    ),
    "bias": (
        "Biases",
        "A bias is added to the logits, and depends on positions alone.",
    ),
    "score": (
        "Scores",
        "A score is added to the logits, and depends on queries, keys and positions.",
    ),
}


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


def markdown_page() -> str:
    """The page of the documentation that has a table of variants for each place."""
    parts = [_INTRODUCTION]
    for place, (title, sentence) in _PLACES.items():
        lines = [
            "| name | what it is | tested against | paper |",
            "|---|---|---|---|",
        ]
        for row in VARIANTS:
            if row.place == place:
                name = f"[`{row.name}`][eqx_posemb.{row.of.__name__}]"
                cells = name, row.summary, row.oracle, _link(row)
                lines.append(f"| {' | '.join(cells)} |")
        parts += [f"## {title}", sentence, "\n".join(lines)]
    return "\n\n".join(parts)


def markdown_names() -> str:
    """The list of names in the README, an item for each place."""
    items = []
    for place, (title, _) in _PLACES.items():
        names = ", ".join(f"`{row.name}`" for row in VARIANTS if row.place == place)
        item = f"- **{title}**: {names}."
        items.append(textwrap.fill(item, 88, subsequent_indent="  "))
    return "\n".join(items)


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
    prose = re.split(r"\n(?:!!!|\?\?\?|\*\*Arguments)", row.doc())[0].strip()
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
