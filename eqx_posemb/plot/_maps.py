"""Pictures in two dimensions: biases of pairs, and similarities on a grid."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, TYPE_CHECKING

import jax.numpy as jnp
import numpy as np

from .._bias import AbstractBias
from .._bundle import PositionalEmbedding
from .._checks import check_at_least, require
from .._positions import grid_positions
from ._expected import similarities
from ._style import dress, LEAST, new_figure, RED, SEQUENTIAL, SMALL


if TYPE_CHECKING:
    import matplotlib.figure


def bias(
    bias: AbstractBias, *, shape: Sequence[int], most: int = 8, causal: bool = False
) -> "matplotlib.figure.Figure":
    """The bias that is added to the logits, a heat map for each head.

    All have one scale of colors. It ends 12 below the largest bias, where a key has
    less than a part in 100,000 of the attention.

    !!! Example

        ```python
        import eqx_posemb as pe
        from eqx_posemb import plot

        figure = plot.bias(pe.ALiBi(heads=4), shape=(64,), causal=True)
        ```

    **Arguments:**

    - `bias`: what fills that slot of an embedding.
    - `shape`: `(length,)` for a map of all queries and keys; the size of a grid,
        `(rows, columns)`, for one of all keys around the query in the middle.
    - `most`: how many heads to draw, evenly chosen among them.
    - `causal`: whether to leave out keys after the query, for a bias whose model does
        not see them.

    **Returns:** a Matplotlib figure. `figure.savefig` writes it.

    **Raises:** a `ValueError` if `shape` is not one or two sizes, or `most` is less
    than one.
    """
    require(len(shape) in (1, 2), "shape", "be one or two sizes", tuple(shape))
    check_at_least("most", most, 1)
    where = None
    if len(shape) == 1:
        queries = keys = jnp.arange(shape[0])
        shape = (shape[0], shape[0])
    else:
        where = (shape[0] // 2, shape[1] // 2)
        queries, keys = jnp.array([where]), grid_positions(shape)
    values = np.asarray(bias(queries, keys), np.float64)
    if causal and where is None:
        # Matplotlib leaves NaN empty, and the color scale skips it.
        values = np.where(np.tri(shape[0], dtype=bool), values, np.nan)
    heads = np.unique(np.linspace(0, len(values) - 1, most).round().astype(int))
    maps = [values[head].reshape(shape) for head in heads]
    names = [f"head {head}" for head in heads]
    return _heat_maps(maps, names, [where] * len(maps), "bias (added to logits)")


def similarity(
    embedding: PositionalEmbedding,
    *,
    shape: Sequence[int],
    heads: int = 1,
    head_dim: int = 64,
) -> "matplotlib.figure.Figure":
    """How alike the positions of a grid or a clip are, seen from some of them.

    A grid has nine queries, and a clip has one query in its middle. Encodings are drawn
    by their cosine. Other embeddings are drawn by the expected logit of a query and a
    key with equal random content, as a mean over heads. A cross marks the query.

    !!! Example

        ```python
        import eqx_posemb as pe
        from eqx_posemb import plot

        rotary = pe.axial_rope(32, theta=100.0)
        embedding = pe.PositionalEmbedding(rotary=rotary)
        figure = plot.similarity(embedding, shape=(14, 14), head_dim=32)
        ```

    **Arguments:**

    - `embedding`: what to draw.
    - `shape`: the size of the grid, `(rows, columns)`; `(length,)` for one map of all
        pairs in a row; or `(frames, rows, columns)` for a map of each frame.
    - `heads`, `head_dim`: the heads of the model, and the channels of each; encodings
        do not need them.

    **Returns:** a Matplotlib figure.

    **Raises:** a `ValueError` if `shape` is not one to three sizes, or if the embedding
    reads the states of a model.
    """
    if len(shape) not in (1, 2, 3):
        raise ValueError(f"`shape` must be one to three sizes, but got {tuple(shape)}.")
    keys, columns = grid_positions(shape), 4
    if len(shape) == 1:
        places = keys = jnp.arange(shape[0])
        names, marks, shape = [""], [None], (1, shape[0], shape[0])
    elif len(shape) == 2:
        marks = list(itertools.product(*map(_spread, shape)))
        places, columns = jnp.array(marks), 3
        names = [f"from {place}" for place in marks]
    else:
        frame, *cell = (size // 2 for size in shape)
        places = jnp.array([[frame, *cell]])
        names = [f"frame {i}" for i in range(shape[0])]
        marks = [cell if i == frame else None for i in range(shape[0])]
    values, measure = similarities(embedding, places, keys, heads, head_dim)
    maps = list(values.reshape(-1, *shape[-2:]))
    return _heat_maps(maps, names, marks, measure, columns)


def _spread(size):
    """The places of three queries inside of the grid, one of them in the middle."""
    return sorted({size // 6, size // 2, size - 1 - size // 6})


def _heat_maps(maps, names, marks, measure, columns=4):
    """Heat maps side by side, with a common color scale."""
    from matplotlib.ticker import MaxNLocator

    columns = min(columns, len(maps))
    rows = math.ceil(len(maps) / columns)
    finite = np.concatenate([each[np.isfinite(each)] for each in maps])
    low, high = finite.min(), finite.max()
    limits: Any = dict(vmin=max(low, high - LEAST), vmax=high)
    side = 2.8 if len(maps) == 1 else 1.4
    tall = side * min(max(maps[0].shape[0] / maps[0].shape[1], 0.5), 2.0)
    figure = new_figure(1.2 + side * columns, 0.6 + (tall + 0.15) * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    image: Any = None
    for axes, values, name, mark in zip(grid.flat, maps, names, marks, strict=False):
        image = axes.imshow(
            values, cmap=SEQUENTIAL, interpolation="nearest", aspect="auto", **limits
        )
        if mark is not None:
            axes.plot(mark[1], mark[0], "+", color=RED, markersize=5)
        dress(axes, "", "", name)
        for axis in axes.xaxis, axes.yaxis:
            axis.set_major_locator(MaxNLocator(4, integer=True))
    for axes in list(grid.flat)[len(maps) :]:
        axes.set_visible(False)
    on_grid = any(mark is not None for mark in marks)
    figure.supxlabel("column" if on_grid else "key (position)", fontsize=8)
    figure.supylabel("row" if on_grid else "query (position)", fontsize=8)
    ends = "min" if low < high - LEAST else "neither"
    bar = figure.colorbar(image, ax=grid, shrink=0.9, extend=ends)
    bar.set_label(measure, fontsize=8)
    bar.ax.tick_params(labelsize=SMALL)
    return figure
