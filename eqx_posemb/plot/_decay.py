"""The picture of attention over the distance."""

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .._bundle import PositionalEmbedding
from .._checks import check_at_least, require
from ._expected import check_readable, expected_logits
from ._style import dress, LEAST, new_figure, open_to_the_right, SMALL, STYLES


if TYPE_CHECKING:
    import matplotlib.figure


# The number of distances of a step of the logarithmic axis.
_MOST = 64


def decay(
    embeddings: Mapping[str, PositionalEmbedding],
    *,
    heads: int,
    head_dim: int,
    length: int,
) -> "matplotlib.figure.Figure":
    """How the logit of a key falls with its distance, by the embedding alone.

    It draws the expected logit of a query at the last position and a key with equal
    random content, of unit variance in each channel. The logit at distance zero is
    subtracted. A point is the mean over a step of the logarithmic axis, of the median
    over heads. The band shows all distances of the step and all heads. The axis ends at
    -12, where a key has less than 1/100,000 of the attention.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe
        from eqx_posemb import plot

        sizes = dict(heads=4, head_dim=16, length=128)
        made = {
            name: pe.make(name, dim=64, key=jax.random.key(0), **sizes)
            for name in ("rope", "alibi")
        }
        figure = plot.decay(made, **sizes)
        ```

    **Arguments:**

    - `embeddings`: what to draw, by the names to draw it under. Positions are numbers.
    - `heads`, `head_dim`: the heads of the model, and the channels of each.
    - `length`: how many positions there are; distances go up to one less.

    **Returns:** a Matplotlib figure. `figure.savefig` writes it.

    **Raises:** a `ValueError` if there is nothing to draw, or if `length` is less than
    2. The same if an embedding is only added to tokens or reads the states of a model.
    """
    require(embeddings, "embeddings", "have at least one", words="none")
    check_at_least("length", length, 2)
    for embedding in embeddings.values():
        check_readable(embedding)
    figure = new_figure()
    axes = figure.add_subplot()
    distances, first = _distances(length)
    over_steps = lambda reduce, x: reduce.reduceat(x, first)
    counts = np.diff([*first, distances.size])
    places = over_steps(np.add, distances) / counts
    query = jnp.array([length - 1])
    for i, (name, embedding) in enumerate(embeddings.items()):
        logits = expected_logits(
            embedding, query, query - jnp.asarray(distances), heads, head_dim
        )
        curves = np.asarray(logits, np.float64)[:, 0]
        curves = curves - curves[:, :1]
        mean = over_steps(np.add, np.median(curves, axis=0)) / counts
        least = over_steps(np.minimum, curves.min(axis=0))
        most = over_steps(np.maximum, curves.max(axis=0))
        style = STYLES[i % len(STYLES)]
        # Markers of different curves are staggered, so that equal curves stay visible.
        axes.plot(
            places, mean, label=name, color=style.color, linestyle=style.line,
            linewidth=1.2, marker=style.marker, markersize=3.5,
            markevery=(2 * i % 16, 16),
        )  # fmt: skip
        if (most > least).any():
            axes.fill_between(
                places, least, most, color=style.color, alpha=0.15, linewidth=0
            )
    # The distance zero, followed by even steps of the logarithm.
    axes.set_xscale("symlog", base=2 if length <= 512 else 4, linthresh=1)
    axes.set_xlim(0, length)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    low, high = axes.dataLim.intervaly
    axes.set_ylim(max(low, -LEAST) - 0.3, max(high, 0.0) + 0.3)
    axes.legend(
        frameon=False, fontsize=SMALL, loc="upper left", bbox_to_anchor=(1.01, 1.0)
    )
    dress(
        axes, "distance of the key (positions)", "expected logit, minus its value at 0"
    )
    open_to_the_right(axes)
    return figure


def _distances(length):
    """Distances in ascending order, and the index of the first distance of each step of
    the logarithmic axis."""
    edges = np.unique(np.geomspace(1, length + 1, 97).round().astype(int)) - 1
    # Even spacing would alias with wavelengths, so a long step has random distances.
    random = np.random.default_rng(0)
    steps = [
        np.arange(start, end)
        if end - start <= _MOST
        else np.sort(start + random.choice(end - start, _MOST, replace=False))
        for start, end in itertools.pairwise(edges)
    ]
    return np.concatenate(steps), np.cumsum([0, *map(len, steps[:-1])])
