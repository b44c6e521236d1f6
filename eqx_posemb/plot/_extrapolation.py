"""Scores over the length of the test."""

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
    open_to_the_right,
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
    """Scores against the length of the test, with a panel for each task.

    Each embedding has a curve. Text has bits per byte, and other tasks have accuracies.
    With several seeds, curves are means and bands are standard deviations.

    !!! Example

        ```python
        from eqx_posemb import plot

        results = {
            "settings": {"multiples": [1, 2]},
            "tasks": {"text": {"measure": "bits per byte", "length": 128}},
            "results": {"rope": {"scores": {"text": {"1": [2.1], "2": [3.9]}}}},
        }
        figure = plot.extrapolation(results)
        ```

    **Arguments:**

    - `results`: the `results` of a [`eqx_posemb.Comparison`][], or what `eqx-posemb
        compare` leaves in its `results.json`.

    **Returns:** a Matplotlib figure. `figure.savefig` writes it.
    """
    tasks = results["tasks"]
    figure = new_figure(5.5 if len(tasks) == 1 else 4.2 * len(tasks), 3.4)
    panels = figure.subplots(1, len(tasks), squeeze=False)[0]
    others = cycle(_OTHERS)
    styles = {name: _STYLES.get(name) or next(others) for name in results["results"]}
    for axes, (task, about) in zip(panels, tasks.items(), strict=True):
        scores = {
            name: result["scores"][task]
            for name, result in results["results"].items()
            if task in result["scores"]
        }
        _panel(axes, about, results["settings"]["multiples"], scores, styles)
        if len(tasks) > 1:
            axes.set_title(task, fontsize=8, loc="left", fontweight="bold")
    return figure


def _panel(axes, about, multiples, scores, styles):
    from matplotlib.ticker import FixedLocator, NullLocator

    length, is_accuracy = about["length"], about["measure"] == "accuracy"
    axes.set_xscale("log", base=2)
    ends, means = {}, {}
    for name, of_multiple in scores.items():
        points = [(m * length, of_multiple[str(m)]) for m in multiples]
        points = [(x, values) for x, values in points if values]
        if not points:
            continue
        style, x = styles[name], [x for x, _ in points]
        mean = np.array([np.mean(values) for _, values in points])
        spread = np.array(
            [np.std(values, ddof=len(values) > 1) for _, values in points]
        )
        axes.plot(
            x, mean, color=style.color, marker=style.marker, linestyle=style.line,
            linewidth=1.2, markersize=4, markeredgewidth=0.8,
        )  # fmt: skip
        if spread.any():
            axes.fill_between(
                x, mean - spread, mean + spread, color=style.color, alpha=0.15,
                linewidth=0,
            )  # fmt: skip
        ends[name], means[name] = (x[-1], mean[-1], style.color), mean
    low, high = (-4, 104) if is_accuracy else _limits(means)
    axes.set_ylim(low, high)
    axes.axvline(length, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    # In the corner where no curve begins.
    end, inwards, side = (low, 3, "bottom") if is_accuracy else (high, -3, "top")
    axes.annotate(
        "training length", (length, end), (-3, inwards), textcoords="offset points",
        rotation=90, ha="right", va=side, color=GREY, fontsize=7,
    )  # fmt: skip
    if ends:
        _label(axes, ends, low, high)
    axes.set_xlabel("length of the test (tokens)", fontsize=8)
    measure = "accuracy (%)" if is_accuracy else about["measure"]
    better = "higher" if is_accuracy else "lower"
    axes.set_ylabel(f"{measure}, {better} is better", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.xaxis.set_major_locator(FixedLocator([m * length for m in multiples]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    # Space at the left for the names of curves that end early.
    stops = any(x < length * multiples[-1] for x, _, _ in ends.values())
    axes.set_xlim(length * (0.45 if stops else 0.8), length * multiples[-1] * 1.12)
    open_to_the_right(axes)


def _limits(means):
    values = np.concatenate([*means.values()] or [[0.0, 8.0]])
    low, high = values.min(), values.max()
    # A uniform guess costs eight bits, so larger values are not compared.
    high = min(high, max(8.0, low + 1))
    room = 0.06 * max(high - low, 0.01)
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
                f"{name}\n(ends here)", (x, y), (-6, 0), fontsize=7,
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
