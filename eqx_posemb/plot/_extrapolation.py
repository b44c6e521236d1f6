"""Bits per byte over the length of evaluation."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any, TYPE_CHECKING

import numpy as np

from ._style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    new_figure,
    ORANGE,
    PURPLE,
    RED,
    SKY,
    Style,
)


if TYPE_CHECKING:
    import matplotlib.figure


# A family has one color. Markers and dashes tell its members apart in print.
_STYLES = {
    "nope": Style(BLACK, "x", (0, (1, 1))),
    "sinusoidal": Style(ORANGE, "s", "-"),
    "learned": Style(GREY, "*", "-"),
    "rope": Style(BLUE, "o", "-"),
    "rope+linear": Style(BLUE, "<", (0, (1, 1))),
    "rope+ntk": Style(BLUE, ">", (0, (3, 1, 1, 1))),
    "rope+yarn": Style(BLUE, "d", (0, (4, 1.5))),
    "xpos": Style(SKY, "v", "-"),
    "alibi": Style(GREEN, "^", "-"),
    "t5": Style(RED, "P", "-"),
    "kerple": Style(PURPLE, "D", "-"),
}
_OTHERS = [
    Style(color, marker, line)
    for marker, line in (
        ("h", (0, (6, 1))),
        ("p", (0, (2, 1))),
        ("8", (0, (5, 1, 1, 1))),
    )
    for color in (GREEN, RED, PURPLE, ORANGE, SKY, BLACK)
]


def extrapolation(results: Mapping[str, Any]) -> "matplotlib.figure.Figure":
    """Bits per byte against the length of evaluation, a curve for each embedding.

    As wide as a text column and a half.

    !!! Example

        ```python
        from eqx_posemb import plot

        results = {
            "settings": {"length": 128, "multiples": [1, 2]},
            "results": {"rope": {"bits_per_byte": {"1": 2.1, "2": 3.9}}},
        }
        figure = plot.extrapolation(results)
        ```

    **Arguments:**

    - `results`: what `eqx-posemb compare` leaves in its `results.json`.

    **Returns:** a Matplotlib figure. `figure.savefig` writes it.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    length = results["settings"]["length"]
    multiples = results["settings"]["multiples"]
    curves = {
        name: [result["bits_per_byte"][str(m)] for m in multiples]
        for name, result in results["results"].items()
    }
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_xscale("log", base=2)
    others, ends = cycle(_OTHERS), {}
    for name, bits in curves.items():
        style = _STYLES.get(name) or next(others)
        points = [(m * length, b) for m, b in zip(multiples, bits, strict=True) if b]
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
    axes.axvline(length, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate(
        "training length", (length, high), (-3, -3), textcoords="offset points",
        rotation=90, ha="right", va="top", color=GREY, fontsize=7,
    )  # fmt: skip
    _label(axes, ends, low, high)
    axes.set_xlabel("evaluation length (bytes)", fontsize=8)
    axes.set_ylabel("bits per byte, lower is better", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(FixedLocator([m * length for m in multiples]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    # Space at the left for the names of curves that end early.
    stops = any(x < length * multiples[-1] for x, _, _ in ends.values())
    axes.set_xlim(length * (0.5 if stops else 0.8), length * multiples[-1] * 1.12)
    axes.grid(axis="y", linewidth=0.4, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _limits(curves):
    values = np.array([b for bits in curves.values() for b in bits if b])
    low, high = values.min(), values.max()
    # A uniform guess costs eight bits, so larger values are not compared.
    high = min(high, max(8.0, low + 1))
    room = 0.06 * (high - low)
    return low - room, high + room


def _label(axes, ends, low, high):
    """Names at the ends of the curves, without overlaps."""
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
    """The ascending places, at least `gap` apart, with the least squared distance from
    the wanted places."""
    # After subtracting the gaps, this is an isotonic regression: neighbors out of order
    # share their mean.
    blocks = []
    for i, place in enumerate(wanted):
        blocks.append([place - i * gap])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            blocks[-2:] = [blocks[-2] + blocks[-1]]
    shared = np.array([np.mean(block) for block in blocks for _ in block])
    highest = high - gap * max(len(wanted) - 1, 0)
    return np.clip(shared, min(low, highest), highest) + gap * np.arange(len(wanted))
