"""Writes the tables and pictures of the performance page, a table of the README, and
the tables of the page on choosing.

    python -m benchmarks.page

From the files of `benchmarks/results`, which the benchmarks write (`--json`), into the
parts of the page between marks; all else there is written by hand. A part whose file is
missing stays empty. Needs the extra `plot`.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TYPE_CHECKING


if TYPE_CHECKING:
    from matplotlib.figure import Figure


ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/guides/performance.md"
README = ROOT / "README.md"
CHOOSING = ROOT / "docs/choosing.md"
DRAWN = "rope", "alibi", "t5"
PASSES = {"forward": "forward", "both": "forward and backward"}
Row = Mapping[str, Any]


def shown(column: str, value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        seconds = column == "seconds" or column.endswith(" s")
        places = 0 if column.endswith("MiB") else 3 if seconds else 2
        return f"{value:,.{places}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows: Iterable[Row]) -> str:
    """Of rows with the same keys; columns of numbers are to the right."""
    rows = list(rows)
    if not rows:
        return ""
    numbers = int | float | None
    number = lambda name: all(isinstance(row[name], numbers) for row in rows)
    line = lambda cells: "| " + " | ".join(cells) + " |"
    rule = "|" + "".join("---:|" if number(name) else "---|" for name in rows[0])
    body = (line(shown(*cell) for cell in row.items()) for row in rows)
    return "\n".join((line(rows[0]), rule, *body))


def folded(title: str, text: str) -> str:
    indented = "\n".join("    " + line for line in text.splitlines())
    return f'??? note "{title}"\n\n{indented}'


def attention(rows: list[Row]) -> str:
    sizes = "ours MiB", "naive MiB", "jax.nn MiB"

    def chosen(mask, *passes):
        """Of one pass, or with the pass in a column of its own."""
        other = ("flex",) if "forward" in passes else ()
        named = ("pass",) if len(passes) > 1 else ()
        names = "embedding", "length", *named, "ours", "naive", *other, *sizes, "ours s"
        return table(
            {name: row[name] for name in names}
            for row in rows
            if row["mask"] == mask and row["pass"] in passes
        )

    return "\n\n".join(
        (
            "![Seconds against length, both logarithmic, of attention with rope, ALiBi "
            "and T5, ours and others'.](../attention-time.svg)",
            "![MiB of temporaries against length, both logarithmic: ours beside the "
            "naive form and jax.nn.](../attention-memory.svg)",
            "Both pictures are of causal attention. Time over that of `jax.nn`, and\n"
            "MiB of temporaries; causal, forward and backward:",
            chosen("causal", "both"),
            folded("Forward alone", chosen("causal", "forward")),
            folded("Without a mask", chosen("full", "forward", "both")),
        )
    )


def rotary(rows: list[Row]) -> str:
    named = "what", "dtype", "arrays", "ours"

    def others(row):
        rest = {k: v for k, v in row.items() if k not in (*named, "floor")}
        return ", ".join(f"{name} {shown(name, value)}" for name, value in rest.items())

    return table(
        {name: row.get(name) for name in named} | {"others": others(row) or None}
        for row in rows
    )


def tpu(rows: list[Row]) -> str:
    """The chips beside one another."""
    merged: dict[tuple[str, ...], dict[str, Any]] = {}
    for row in rows:
        of = {name: row[name] for name in ("dtype", "order", "what")}
        found = {f"{row['chip']} {name}": row[name] for name in PASSES}
        merged.setdefault(tuple(of.values()), of).update(found)
    return table(merged.values())


PARTS: dict[str, Callable[[list[Row]], str]] = {
    "rotary": rotary,
    "attention": attention,
    "block": table,
    "tpu": tpu,
    "attention_tpu": table,
}


class Result(NamedTuple):
    about: str
    rows: list[Row]


def result(name: str) -> Result | None:
    """What the benchmark of that name wrote."""
    path = RESULTS / f"{name}.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None


def part(name: str) -> str:
    """What stands between the marks of that name, and the marks."""
    found = result(name)
    marks = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if found is None:
        return "".join(marks)
    return f"{marks[0]}\n{PARTS[name](found.rows)}\n\n{found.about}.\n\n{marks[1]}"


def filled(page: str) -> str:
    """The page with its parts as the files have it."""
    for name in PARTS:
        marked = rf"<!-- {name} -->\n.*?<!-- /{name} -->"
        page, count = re.subn(marked, lambda _, n=name: part(n), page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"The page must have one part {name}, but has {count}.")
    return page


class Measured(NamedTuple):
    """A row of the README's table: it shows the columns of one row that have a unit."""

    what: str
    benchmark: str
    where: Row
    unit: str = ""


ROTATION: Row = {"dtype": "float32", "arrays": "[1, 32, 4096, 128] heads, seq"}
ATTENTION: Row = {"embedding": "alibi", "length": 8192, "mask": "causal"}
MEASURED = (
    Measured("A rotation", "rotary", ROTATION | {"what": "halves, forward"}),
    Measured(
        "A rotation and its gradient",
        "rotary",
        ROTATION | {"what": "halves, forward and backward"},
    ),
    Measured("Cosines and sines", "rotary", {"what": "tables, over writing them"}),
    Measured(
        "ALiBi attention, seconds", "attention", ATTENTION | {"pass": "forward"}, " s"
    ),
    Measured(
        "ALiBi attention and its gradients, seconds",
        "attention",
        ATTENTION | {"pass": "both"},
        " s",
    ),
    Measured(
        "Its temporary memory, MiB",
        "attention",
        ATTENTION | {"pass": "both"},
        " MiB",
    ),
)
SHOWN_AS = {
    "flex": "FlexAttention",
    "jax.nn": "`jax.nn`",
    "jnp.cos, jnp.sin": "`jnp.cos` and `jnp.sin`",
    "naive": "materialized logits",
    "transformers compiled": "compiled transformers",
    "transformers eager": "transformers",
}


def measured() -> str:
    """Renders the table that the README shows."""
    rows = []
    for what, benchmark, where, unit in MEASURED:
        found = result(benchmark)
        if found is None:
            continue
        (row,) = (row for row in found.rows if where.items() <= row.items())
        values = {
            name.removesuffix(unit): shown(name, value)
            for name, value in row.items()
            if isinstance(value, int | float) and name.endswith(unit)
            if name not in (*where, "goal", "floor")
        }
        ours = values.pop("ours")
        others = ", ".join(f"{SHOWN_AS.get(k, k)} {v}" for k, v in values.items())
        rows.append({"what": what, "eqx_posemb": ours, "others": others})
    return table(rows)


def with_measured(readme: str) -> str:
    """Returns the README with the table that the files give."""
    marked = re.compile(
        r"(?<=<!-- measured -->\n).*?(?=\n<!-- /measured -->)", re.DOTALL
    )
    if len(marked.findall(readme)) != 1:
        raise ValueError(
            "The README must have one part between the marks of `measured`."
        )
    return marked.sub(lambda _: measured(), readme)


def compared(task: str) -> str:
    """Renders the scores of a task, as `eqx-posemb compare` prints them."""
    with (RESULTS / "comparison.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["task"] == task]
    lengths = {
        row["length"]: f"{row['multiple']}× ({int(row['length']):,})" for row in rows
    }
    places = 1 if task == "recall" else 3
    scores: dict[str, dict[str, str]] = {}
    for row in rows:
        shown = f"{float(row['value']):.{places}f}" if row["value"] else "not possible"
        scores.setdefault(row["embedding"], {})[row["length"]] = shown
    head = "| embedding | " + " | ".join(lengths.values()) + " |"
    rule = "| --- |" + " ---: |" * len(lengths)
    body = [
        f"| {name} | " + " | ".join(of.get(n, "not possible") for n in lengths) + " |"
        for name, of in scores.items()
    ]
    return "\n".join((head, rule, *body))


def with_compared(page: str) -> str:
    """Returns the page on choosing with the tables that the file gives."""
    for task in "text", "recall":
        marked = rf"(?<=<!-- {task} -->\n).*?(?=\n<!-- /{task} -->)"
        page, count = re.subn(
            marked, lambda _, task=task: compared(task), page, flags=re.DOTALL
        )
        if count != 1:
            raise ValueError(f"The page must have one part {task}, but has {count}.")
    return page


def drawn(rows: list[Row], unit: str) -> "Figure":
    """Small pictures: passes below one another, embeddings side by side."""
    from matplotlib.ticker import FixedLocator, NullLocator

    from eqx_posemb.plot._style import dress, new_figure, open_to_the_right, STYLES

    contenders = dict(zip(("ours", "naive", "jax.nn", "flex"), STYLES, strict=False))
    rows = [row for row in rows if row["mask"] == "causal"]
    lengths = sorted({row["length"] for row in rows})
    figure = new_figure(8, 5)
    grid = figure.subplots(
        len(PASSES), len(DRAWN), sharex=True, sharey=True, squeeze=False
    )
    lines = {}
    for of_pass, line_of_axes in zip(PASSES, grid, strict=True):
        for name, axes in zip(DRAWN, line_of_axes, strict=True):
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            for contender, style in contenders.items():
                points = [
                    (row["length"], row[f"{contender} {unit}"])
                    for row in rows
                    if (row["embedding"], row["pass"]) == (name, of_pass)
                    and row.get(f"{contender} {unit}") is not None
                ]
                if points:
                    (lines[contender],) = axes.plot(
                        *zip(*points, strict=True), color=style.color,
                        marker=style.marker, linestyle=style.line, linewidth=1.2,
                        markersize=4,
                    )  # fmt: skip
            axes.xaxis.set_major_locator(FixedLocator(lengths))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.xaxis.set_major_formatter(lambda value, _: f"{value / 1024:g}k")
            last = of_pass == list(PASSES)[-1]
            y = "time (s)" if unit == "s" else "temporaries (MiB)"
            dress(
                axes,
                "length (tokens)" if last else "",
                y if name == DRAWN[0] else "",
                f"{name}, {PASSES[of_pass]}",
            )
            open_to_the_right(axes)
    figure.legend(
        lines.values(), lines, loc="outside upper center", ncols=4, fontsize=8,
        frameon=False,
    )  # fmt: skip
    return figure


def main() -> None:
    import matplotlib as mpl

    PAGE.write_text(filled(PAGE.read_text()))
    README.write_text(with_measured(README.read_text()))
    CHOOSING.write_text(with_compared(CHOOSING.read_text()))
    found = result("attention")
    if found is None:
        return
    for name, unit in ("time", "s"), ("memory", "MiB"):
        # The same figures give the same file.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            path = ROOT / f"docs/attention-{name}.svg"
            drawn(found.rows, unit).savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
