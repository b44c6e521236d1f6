"""The pictures of the performance page, from the rows of `benchmarks/results`."""

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from benchmarks.report import ROOT, Row
from eqx_posemb.plot._style import dress, new_figure, open_to_the_right, STYLES


DRAWN = "rope", "alibi", "t5"
PASSES = {"forward": "forward", "both": "forward and backward"}


def drawn(rows: Sequence[Row], unit: str) -> Figure:
    """Small pictures: passes below one another, embeddings side by side."""
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


def write(rows: Sequence[Row]) -> None:
    """Draws times and memory of attention."""
    for name, unit in ("time", "s"), ("memory", "MiB"):
        # The same figures give the same file.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
            path = ROOT / f"docs/attention-{name}.svg"
            drawn(rows, unit).savefig(path, metadata={"Date": None})
