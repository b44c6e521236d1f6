"""The common style of all pictures."""

from typing import Any, NamedTuple, TYPE_CHECKING


if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Style(NamedTuple):
    """The style of a curve: its color, and its marker and dashes for print."""

    color: str
    marker: str
    line: Any


# The palette of Okabe and Ito, for color-blind readers, without yellow, which is too
# light for paper.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, RED, PURPLE, GREY = "#0072B2", "#D55E00", "#CC79A7", "#7F7F7F"
STYLES = (
    Style(BLUE, "o", "-"),
    Style(RED, "s", (0, (4, 1.5))),
    Style(GREEN, "D", (0, (1, 1))),
    Style(BLACK, "^", (0, (3, 1, 1, 1))),
    Style(ORANGE, "v", (0, (6, 1))),
    Style(PURPLE, "P", (0, (2, 1))),
    Style(SKY, "X", (0, (5, 1, 1, 1))),
    Style(GREY, "d", "-"),
)
# The lightness changes evenly, for color-blind readers and for print in gray.
SEQUENTIAL = "cividis"
SMALL = 7
LEAST = 12.0
"""How far below the others a logit is not worth a color: its key has less than a part
in 100,000 of the attention."""


def new_figure(width: float = 5.5, height: float = 3.4) -> "Figure":
    """A figure without a window and without global state; sizes are inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def dress(axes: "Axes", x: str, y: str, title: str = "") -> None:
    """Labels the axes, and removes empty decoration."""
    axes.set_xlabel(x, fontsize=8)
    axes.set_ylabel(y, fontsize=8)
    axes.set_title(title, fontsize=8)
    axes.tick_params(which="both", labelsize=SMALL)


def open_to_the_right(axes: "Axes") -> None:
    """The frame and the grid of a picture with curves."""
    axes.grid(axis="y", linewidth=0.4, alpha=0.4)
    axes.spines[["top", "right"]].set_visible(False)
