"""Writes the measured figures of the README, the documentation and docstrings.

    python -m benchmarks.page

The figures are in the files of `benchmarks/results`, which the benchmarks write
(`--json`). Tables stand between marks, such as `<!-- rotary -->`, and all else is
written by hand. `benchmarks/sentences.py` lists the figures within sentences. The
pictures need the extra `plot`.
"""

import functools
import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from benchmarks.report import comparison, result, ROOT, Row
from benchmarks.sentences import (
    CHOOSING,
    errors,
    only_row,
    over_splash,
    PERFORMANCE,
    power,
    README,
    SENTENCES,
    with_figures,
)
from eqx_posemb._compare import _report


ACCELERATORS = "docs/guides/accelerators.md"
PASSES = "forward", "both"


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
            "![MiB of temporaries against length, both logarithmic: ours beside the "
            "naive form and jax.nn.](../attention-memory.svg)",
            "The picture is of causal attention. The table divides the time of causal\n"
            "attention and its gradients by the time of `jax.nn`, and has MiB of "
            "temporaries:",
            chosen("causal", "both"),
            folded("Forward alone", chosen("causal", "forward")),
            folded("Without a mask", chosen("full", "forward", "both")),
        )
    )


def rotary(rows: list[Row]) -> str:
    named = "what", "dtype", "arrays", "ours"

    def others(row):
        rest = {k: v for k, v in row.items() if k not in (*named, "floor", "goal")}
        return ", ".join(f"{name} {shown(name, value)}" for name, value in rest.items())

    shown_as: list[dict[str, Any]] = [
        {name: row.get(name) for name in named} | {"others": others(row) or None}
        for row in rows
    ]
    # Most readers have heads first, in float32.
    first = [
        row
        for row in shown_as
        if row["dtype"] == "float32" and "seq, heads" not in row["arrays"]
    ]
    return "\n\n".join((table(first), folded("All dtypes and orders", table(shown_as))))


def beside(rows: list[Row], named: Iterable[str], found: Callable[[Row], Row]) -> str:
    """Rows with equal names in one row, which has what was found for all of them."""
    merged: dict[tuple[str, ...], dict[str, object]] = {}
    for row in rows:
        of = {name: row[name] for name in named}
        merged.setdefault(tuple(of.values()), of).update(found(row))
    return table(merged.values())


def tpu(rows: list[Row]) -> str:
    """The chips beside one another."""
    found = lambda row: {f"{row['chip']} {name}": row[name] for name in PASSES}
    return beside(rows, ("dtype", "order", "what"), found)


def kernels(rows: list[Row]) -> str:
    """Cycles of both passes, beside splash attention on the same TPU."""
    return table(
        {
            "TPU": row["tpu"],
            "kernel": row["kernel"],
            "forward": row["forward"],
            "backward": row["by queries"] + row["by keys"],
            "both, over splash": ratio,
            "temporaries": f"{row['MiB']} MiB",
        }
        for row, ratio in zip(rows, over_splash(rows), strict=True)
    )


def shim(rows: list[Row]) -> str:
    """The lengths beside one another."""
    found = lambda row: {f"{row['length']:,}": row["ratio"]}
    return beside(rows, ("what", "beside", "dtype"), found)


def accuracy() -> str:
    """Renders the largest errors of a cosine."""
    size = lambda bytes: (
        f"{bytes // 2**40} TiB" if bytes >= 2**40 else f"{bytes // 2**30} GiB"
    )
    shown_as = lambda row: {
        # A table has a cosine and a sine in float32 for each of 64 pairs.
        name: f"(table of {size(512 * row['positions'])})"
        if row[name] is None
        else power(row[name], 1)
        for name in ("eqx_posemb", "Equinox", "transformers")
    }
    found = table(
        {"positions below": row["positions"]} | shown_as(row) for row in errors()
    ).splitlines()
    return "\n".join([found[0], "|---:|---:|---:|---:|", *found[2:]])


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
        values = {
            name.removesuffix(unit): shown(name, value)
            for name, value in only_row(benchmark, **where).items()
            if isinstance(value, int | float) and name.endswith(unit)
            if name not in (*where, "goal", "floor")
        }
        ours = values.pop("ours")
        others = ", ".join(f"{SHOWN_AS.get(k, k)} {v}" for k, v in values.items())
        rows.append({"what": what, "eqx_posemb": ours, "others": others})
    return table(rows)


def compared(task: str) -> str:
    """Renders the scores of a task, as `eqx-posemb compare` prints them."""
    results = comparison()
    rows = (_report.row(results, task, name) for name in results["results"])
    return "\n".join((*_report.head(results, task), *rows))


def of_file(name: str, render: Callable[[list[Row]], str]) -> Callable[[], str]:
    """The rows of a file, and the machine that ran."""

    def part() -> str:
        found = result(name)
        return f"{render(found.rows)}\n\n{found.about}."

    return part


PARTS: dict[str, dict[str, Callable[[], str]]] = {
    README: {"accuracy": accuracy, "measured": measured},
    PERFORMANCE: {
        "attention_tpu": of_file("attention_tpu", table),
        "rotary": of_file("rotary", rotary),
        "attention": of_file("attention", attention),
        "block": of_file("block", table),
        "tracing": of_file("tracing", table),
        "tpu": of_file("tpu", tpu),
        "torch_shim": of_file("torch_shim", shim),
    },
    ACCELERATORS: {"attention_kernels": of_file("attention_kernels", kernels)},
    CHOOSING: {name: functools.partial(compared, name) for name in ("text", "recall")},
}
"""The marked parts of each page."""


def filled(page: str, text: str) -> str:
    """The text of a page, with all figures as the files have them."""
    for name, render in PARTS.get(page, {}).items():
        marked = rf"(<!-- {name} -->\n+).*?(\n+<!-- /{name} -->)"
        text, count = re.subn(
            marked,
            lambda match, render=render: match[1] + render() + match[2],
            text,
            flags=re.DOTALL,
        )
        if count != 1:
            raise ValueError(f"{page} must have one part {name}, but has {count}.")
    return with_figures(page, text)


PAGES = sorted({*PARTS, *(sentence.page for sentence in SENTENCES)})


def main() -> None:
    # The tables alone need no matplotlib, and a test compares them.
    from benchmarks import pictures

    for page in PAGES:
        path = ROOT / page
        path.write_text(filled(page, path.read_text()))
    pictures.write(result("attention").rows)


if __name__ == "__main__":
    main()
