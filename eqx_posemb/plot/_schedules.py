"""Pictures of schedules: wavelengths, and how scaling changes them."""

import math
from typing import Any, TYPE_CHECKING

import numpy as np

from .._checks import check_positive
from .._frequencies import AbstractFrequencies, LearnedFrequencies
from .._inspect._schedule import fates, numbers
from ._style import (
    BLACK,
    BLUE,
    dress,
    GREY,
    new_figure,
    open_to_the_right,
    ORANGE,
    RED,
    SMALL,
)


if TYPE_CHECKING:
    import matplotlib.figure


_FATES: dict[str, Any] = {
    "kept": dict(color=BLUE, marker="o"),
    "blended": dict(color=ORANGE, marker="D"),
    "interpolated": dict(color=RED, marker="s"),
}


def wavelengths(
    frequencies: AbstractFrequencies, *, context: int
) -> "matplotlib.figure.Figure":
    """The wavelength of each pair of channels, against the context.

    Pairs above the line of the trained length made less than one turn in training.
    Larger angles are new to the model, so context extensions scale these pairs.

    !!! Example

        ```python
        import eqx_posemb as pe
        from eqx_posemb import plot

        rope = pe.llama3_rope(128, factor=8.0, original_length=8192, theta=500_000.0)
        figure = plot.wavelengths(rope.frequencies, context=131_072)
        ```

    **Arguments:**

    - `frequencies`: a schedule that is not learned, such as the `frequencies` of a
        [`eqx_posemb.Rotary`][].
    - `context`: the length of the context, in positions.

    **Returns:** a Matplotlib figure. `figure.savefig` writes it.

    **Raises:** a `ValueError` if `context` is not positive, or `frequencies` learned.
    """
    now = _checked(frequencies, context)
    after = numbers(now)
    figure = new_figure()
    axes = figure.add_subplot()
    axes.set_yscale("log")
    scaled = now.scaling_factor > 1
    for fate, which in fates(now).items():
        if fate != "still" and len(which):
            axes.plot(
                which, 2 * math.pi / after[which], linestyle="none", markersize=3.5,
                label=fate if scaled else None, **_FATES[fate],
            )  # fmt: skip
    if scaled:
        # The unscaled schedule, for comparison.
        axes.plot(
            *_waves(numbers(now.unscaled)), color=GREY,
            linewidth=1, linestyle=(0, (4, 1.5)), label="before scaling", zorder=0,
        )  # fmt: skip
        axes.legend(frameon=False, fontsize=SMALL, loc="lower right")
    trained = getattr(frequencies, "original_length", None) or context
    above, name = "; above, no full turn within it", "context"
    if trained != context:
        _line_at(axes, context, f"context, {context:,}", BLACK)
        name = "trained length"
    _line_at(axes, trained, f"{name}, {trained:,}{above}", BLACK)
    top = max(axes.get_ylim()[1], 2 * trained)
    axes.axhspan(trained, top, color=GREY, alpha=0.12, linewidth=0)
    axes.set_ylim(top=top)
    dress(axes, "pair of channels", "wavelength (positions)")
    open_to_the_right(axes)
    return figure


def schedule(
    frequencies: AbstractFrequencies, *, context: int
) -> "matplotlib.figure.Figure":
    """A schedule before and after scaling, and the ramp.

    The left panel shows wavelengths, and the right panel the divisor of each pair.

    !!! Example

        ```python
        import eqx_posemb as pe
        from eqx_posemb import plot

        rope = pe.yarn(128, factor=16.0, original_length=4096)
        figure = plot.schedule(rope.frequencies, context=65_536)
        ```

    **Arguments:**

    - `frequencies`, `context`: as in [`eqx_posemb.plot.wavelengths`][].

    **Returns:** a Matplotlib figure.

    **Raises:** a `ValueError` as `wavelengths`.
    """
    now = _checked(frequencies, context)
    first, after = numbers(now.unscaled), numbers(now)
    figure = new_figure(6.5, 3.0)
    left, right = figure.subplots(1, 2)
    left.set_yscale("log")
    left.plot(*_waves(first), color=GREY, linestyle=(0, (4, 1.5)), label="before")
    left.plot(*_waves(after), color=BLUE, linestyle="-", label="after")
    left.legend(frameon=False, fontsize=SMALL, loc="upper left")
    dress(left, "pair of channels", "wavelength (positions)")
    moving = np.flatnonzero(after > 0)
    slowed = first[moving] / after[moving]
    right.plot(moving, slowed, color=BLUE, marker="o", markersize=2.5, linewidth=1)
    factor = now.scaling_factor
    # Each label is at the end where the curve has the other value.
    _line_at(right, 1.0, "kept", GREY, at_the_right=True)
    if factor != 1:
        _line_at(right, factor, f"the scaling factor, {factor:.4g}", GREY)
    right.margins(y=0.12)
    dress(right, "pair of channels", "slowed down by")
    for axes in left, right:
        open_to_the_right(axes)
    return figure


def _line_at(axes, value, name, color, at_the_right=False):
    """A dashed line across the axes, with its name at an end."""
    axes.axhline(value, color=color, linewidth=0.8, linestyle=(0, (2, 2)), zorder=0)
    end, offset, side = (1, -2, "right") if at_the_right else (0, 2, "left")
    axes.annotate(
        name, (end, value), (offset, 2), xycoords=("axes fraction", "data"),
        textcoords="offset points", fontsize=SMALL, va="bottom", ha=side,
    )  # fmt: skip


def _waves(frequencies):
    moving = np.flatnonzero(frequencies > 0)
    return moving, 2 * math.pi / frequencies[moving]


def _checked(frequencies, context):
    check_positive("context", context)
    if isinstance(frequencies.unscaled, LearnedFrequencies):
        raise ValueError(
            "`frequencies` must be a schedule that is not learned, but got "
            f"{type(frequencies).__name__}."
        )
    return frequencies.for_length(context)
