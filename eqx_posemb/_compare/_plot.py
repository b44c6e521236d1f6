"""The plot: bits per byte over the length of evaluation."""

import io
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from ._settings import MULTIPLES


class _Style(NamedTuple):
    color: str
    marker: str
    line: Any


# The palette of Okabe and Ito, that all eyes can tell apart, without its yellow, that
# paper swallows. One colour for a family; marker and dashes for print without colour.
_BLACK, _ORANGE, _SKY, _GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
_BLUE, _RED, _PURPLE, _GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
_STYLES = {
    "nope": _Style(_BLACK, "x", (0, (1, 1))),
    "sinusoidal": _Style(_ORANGE, "s", "-"),
    "learned": _Style(_GREY, "*", "-"),
    "rope": _Style(_BLUE, "o", "-"),
    "rope+linear": _Style(_BLUE, "<", (0, (1, 1))),
    "rope+ntk": _Style(_BLUE, ">", (0, (3, 1, 1, 1))),
    "rope+yarn": _Style(_BLUE, "d", (0, (4, 1.5))),
    "xpos": _Style(_SKY, "v", "-"),
    "alibi": _Style(_GREEN, "^", "-"),
    "t5": _Style(_RED, "P", "-"),
    "kerple": _Style(_PURPLE, "D", "-"),
}
_OTHERS = [
    _Style(color, marker, line)
    for marker, line in (
        ("h", (0, (6, 1))),
        ("p", (0, (2, 1))),
        ("8", (0, (5, 1, 1, 1))),
    )
    for color in (_GREEN, _RED, _PURPLE, _ORANGE, _SKY, _BLACK)
]
_PAPER: Any = {"font.size": 8, "font.family": "sans-serif", "svg.fonttype": "none"}


def plot(results: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, bytes]:
    """The plot as files.

    **Arguments:**

    - `results`: what `results.json` has.
    - `kinds`: `"png"`, `"svg"` or `"pdf"`.

    **Returns:** the content of the file of each kind.
    """
    import matplotlib

    with matplotlib.rc_context(_PAPER):
        figure = draw(results)
        return {kind: _saved(figure, kind) for kind in kinds}


def draw(results: dict[str, Any]) -> Figure:
    """The figure, as wide as a text column and a half."""
    length = results["settings"]["length"]
    curves = {
        name: [result["bits_per_byte"][str(m)] for m in MULTIPLES]
        for name, result in results["results"].items()
    }
    figure = Figure(figsize=(5.5, 3.4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    others, ends = cycle(_OTHERS), {}
    for name, bits in curves.items():
        style = _STYLES.get(name) or next(others)
        points = [(m * length, b) for m, b in zip(MULTIPLES, bits, strict=True) if b]
        if not points:
            continue
        x, y = zip(*points, strict=True)
        axes.plot(
            x, y, color=style.color, marker=style.marker, linestyle=style.line,
            linewidth=1.2, markersize=4, markeredgewidth=0.8,
        )  # fmt: skip
        ends[name] = (x[-1], y[-1], style.color)
    low, high = _limits(curves)
    axes.set_ylim(low, high)
    axes.axvline(length, color=_GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        "training length", (length, high), (-3, -3), textcoords="offset points",
        rotation=90, ha="right", va="top", color=_GREY, fontsize=7,
    )  # fmt: skip
    _label(axes, ends, low, high)
    axes.set_xlabel("evaluation length (bytes)")
    axes.set_ylabel("bits per byte, lower is better")
    axes.xaxis.set_major_locator(FixedLocator([m * length for m in MULTIPLES]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    # Room at the left for the names of what goes no further.
    stops = any(x < length * MULTIPLES[-1] for x, _, _ in ends.values())
    axes.set_xlim(length * (0.5 if stops else 0.8), length * MULTIPLES[-1] * 1.12)
    axes.grid(axis="y", linewidth=0.4, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _limits(curves):
    values = np.array([b for bits in curves.values() for b in bits if b])
    low, high = values.min(), values.max()
    # Eight bits is what it costs to know nothing: above there is nothing to compare.
    high = min(high, max(8.0, low + 1))
    room = 0.06 * (high - low)
    return low - room, high + room


def _label(axes, ends, low, high):
    """Names at the ends of the curves, moved apart where they would overlap."""
    gap = (high - low) / 24
    right = max(x for x, _, _ in ends.values())
    at_right = sorted((y, name) for name, (x, y, _) in ends.items() if x == right)
    places = _apart([min(y, high) for y, _ in at_right], gap, low, high)
    for (y, name), place in zip(at_right, places, strict=True):
        beyond = f" ({y:.1f})" if y > high else ""
        axes.annotate(
            name + beyond, (right, min(y, high)), (right * 1.22, place), fontsize=7.5,
            va="center", color=ends[name][2], annotation_clip=False,
            arrowprops=dict(arrowstyle="-", color=ends[name][2], lw=0.5, shrinkB=4),
        )  # fmt: skip
    for name, (x, y, color) in ends.items():
        if x != right:
            axes.annotate(
                f"{name}\n(not possible\nbeyond)", (x, y), (-6, 0), fontsize=7,
                textcoords="offset points", ha="right", va="center", color=color,
            )  # fmt: skip


def _apart(wanted, gap, low, high):
    """Ascending places at least `gap` apart: the nearest to the wanted, as a whole."""
    # Without the gaps it is a regression on ascending numbers: neighbours that are out
    # of order share their mean.
    blocks = []
    for i, place in enumerate(wanted):
        blocks.append([place - i * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shared = np.array([np.mean(block) for block in blocks for _ in block])
    highest = high - gap * max(len(wanted) - 1, 0)
    return np.clip(shared, min(low, highest), highest) + gap * np.arange(len(wanted))


def _saved(figure, kind):
    content = io.BytesIO()
    # No date: the same results give the same file.
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(content, format=kind, dpi=300, metadata=dated.get(kind))
    return content.getvalue()
