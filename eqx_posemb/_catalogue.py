"""The registry as text, for the command line and the documentation."""

import json
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from ._formula import readable
from ._registry import (
    did_you_mean,
    EXAMPLE,
    resolved,
    SIZES,
    Variant,
    variant,
    VARIANTS,
    variants,
)


class Refused(Exception):
    """A request that cannot be met. The message is one line with the reason."""


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

`eqx-posemb show NAME` prints the formula, the traits, an example, the settings and the
citation of a variant. [Which one should I choose](choosing.md) helps to choose."""
PLACES = {
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
_TRAITS = {
    "relative": "logits depend on positions by their differences",
    "absolute": "logits depend on more than differences of positions",
    "between": "a logit depends on the keys between its two tokens",
    "bounded": "positions have an end, where an error is raised",
    "causal": "meant for causal attention",
    "trained": "an optimizer trains its arrays",
    "not trained": "it has no parameters",
}


def find(name: str) -> Variant:
    """The row of that name, or a `Refused` with the similar names."""
    if name not in variants():
        raise unknown(name, variants())
    return variant(name)


def unknown(name: str, names: Sequence[str]) -> Refused:
    """The refusal of a name that is not one of `names`."""
    return Refused(
        f"there is no embedding {name!r}.{did_you_mean(name, names)} "
        "`eqx-posemb list` shows them all."
    )


def selected(place: str | None, word: str) -> list[Variant]:
    """The rows of a place with a word in their name, or at the beginning of a word in
    their description or reference."""
    word = word.lower()
    rows = [row for row in VARIANTS if place in (None, row.place)]
    if word:
        # References are parsed from source files, so they are read only for a search.
        begins = re.compile(rf"(?<![a-z0-9]){re.escape(word)}")
        rows = [row for row in rows if word in row.name or begins.search(_text(row))]
    if not rows:
        raise Refused(
            f"no {place or 'embedding'} has {word!r} in its name, description or "
            f"reference.{did_you_mean(word, variants())} `eqx-posemb list` shows them "
            "all."
        )
    return rows


def _text(row):
    reference = row.source.reference
    return " ".join([row.summary, row.builder, row.oracle, reference]).lower()


def table(rows: Sequence[Variant], width: int) -> str:
    """The names and descriptions of variants, by place."""
    column = 4 + max(len(row.name) for row in rows)
    indent: Any = dict(subsequent_indent=" " * column, break_on_hyphens=False)
    parts = []
    for title, sentence, of_place in _by_place(rows):
        cells = [(f"  {row.name}".ljust(column), row.summary) for row in of_place]
        lines = [textwrap.fill("".join(pair), width, **indent) for pair in cells]
        head = textwrap.fill(f"{title}. {sentence}", width)
        parts.append("\n".join([head, "", *lines]))
    return "\n\n".join(parts)


def as_json(rows: Sequence[Variant]) -> str:
    """The rows as JSON."""
    return json.dumps([_facts(row) for row in rows], indent=2, ensure_ascii=False)


def markdown_page() -> str:
    """The page of the documentation that has a table of variants for each place."""
    parts = [_INTRODUCTION]
    for title, sentence, rows in _by_place(VARIANTS):
        lines = ["| name | what it is | tested against | paper |", "|---|---|---|---|"]
        for row in rows:
            # A cell has room for the paper, and not for its section.
            (link,) = re.findall(r"^\[.*?\]\(.*?\)", row.source.reference)
            name = f"[`{row.name}`][eqx_posemb.{row.builder}]"
            lines.append(f"| {name} | {row.summary} | {row.oracle} | {link} |")
        parts += [f"## {title}", sentence, "\n".join(lines)]
    return "\n\n".join(parts)


def markdown_names() -> str:
    """The list of names in the README, an item for each place."""
    items = []
    for title, _, rows in _by_place(VARIANTS):
        item = f"- **{title}**: {', '.join(f'`{row.name}`' for row in rows)}."
        items.append(textwrap.fill(item, 88, subsequent_indent="  "))
    return "\n".join(items)


def _by_place(rows):
    """The title, the sentence and the rows of each place that has rows."""
    for place, (title, sentence) in PLACES.items():
        if of_place := [row for row in rows if row.place == place]:
            yield title, sentence, of_place


def describe(name: str, width: int) -> str:
    """The description, formula, example, settings and citation of a variant."""
    row = find(name)
    source, facts = row.source, _facts(row)
    trained = "trained" if facts["trained"] else "not trained"
    traits = [f"{trait}: {_TRAITS[trait]}" for trait in (*facts["traits"], trained)]
    rows = [
        ("place", row.place),
        ("built by", facts["built_by"]),
        ("tested against", row.oracle),
        ("traits", traits[0]),
        *(("", trait) for trait in traits[1:]),
    ]
    needed = row.needed(lambda row: row.source.parameters())
    sizes = [f"{size}={EXAMPLE.get(size, size)}" for size in SIZES if size in needed]
    reference = re.sub(r"\[(.*?)\]\((.*?)\)", r"\1 <\2>", source.reference)
    return "\n\n".join(
        [
            textwrap.fill(f"{row.name}: {row.summary}", width),
            in_columns(rows),
            readable(source.prose, width),
            "Example:",
            textwrap.indent(source.example, "    "),
            f"Settings of {row.builder}, and their values in",
            f"    make({', '.join([repr(row.name), *sizes])})",
            *_settings(row, width),
            textwrap.fill(f"Reference: {reference}", width, break_on_hyphens=False),
            source.bibtex,
        ]
    )


def _facts(row):
    """The facts of a variant from its row and source, in a few words each."""
    traits = row.all_traits()
    if "absolute" not in traits:
        traits = ("relative", *traits)
    return {
        "name": row.name,
        "summary": row.summary,
        "place": row.place,
        "built_by": f"eqx_posemb.{row.builder}",
        "traits": list(traits),
        "trained": row.is_trained(),
        "tested_against": row.oracle,
        "reference": row.source.reference,
    }


def in_columns(rows: Sequence[Sequence[str]]) -> str:
    """Cells padded to the width of their column."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        .rstrip()
        for row in rows
    )  # fmt: skip


def _settings(row, width):
    """A paragraph for each setting, with its value and its meaning."""
    given, meanings = row.given(row.source.parameters()), _meanings(row.source)
    for name, default in row.source.settings().items():
        # A key initializes weights, and is no setting of the method.
        if name == "key":
            continue
        value, note = default, "the default"
        if name in given:
            value, note = _shown(given[name]), "as `make` sets it"
        meaning = readable(meanings.get(name, ""), width - 8)
        yield f"    {name} = {value}   ({note})\n{textwrap.indent(meaning, ' ' * 8)}"


def _meanings(source):
    """The meaning of each setting, from the docstring or from a docstring that it
    refers to."""
    found = source.meanings()
    for name, text in found.items():
        # Docstrings refer to each other, and a terminal cannot follow a link.
        other = re.match(r"[Aa]s in \[`eqx_posemb\.(\w+)`\]\[\]", text)
        rows = [row for row in VARIANTS if other and row.builder == other[1]]
        found[name] = rows[0].source.meanings().get(name, text) if rows else text
    return found


def _shown(value):
    if isinstance(value, Variant):
        values = map(_shown, value.given(value.source.parameters()).values())
        return f"{value.builder}({', '.join(values)})"
    value = resolved(value, EXAMPLE)
    # Equal divisors of LongRoPE would fill several lines.
    if isinstance(value, tuple) and len(value) > 4 and len(set(value)) == 1:
        return f"({value[0]!r},) * {len(value)}"
    return repr(value)
