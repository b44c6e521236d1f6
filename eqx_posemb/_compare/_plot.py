"""The plot: bits per byte over the length of evaluation."""

import io
from typing import Any

import matplotlib

from ..plot import extrapolation


_PAPER: Any = {"font.size": 8, "font.family": "sans-serif", "svg.fonttype": "none"}


def plot(results: dict[str, Any], kinds: tuple[str, ...]) -> dict[str, bytes]:
    """The plot as files.

    **Arguments:**

    - `results`: what `results.json` has.
    - `kinds`: `"png"`, `"svg"` or `"pdf"`.

    **Returns:** the content of the file of each kind.
    """
    with matplotlib.rc_context(_PAPER):
        figure = extrapolation(results)
        return {kind: _saved(figure, kind) for kind in kinds}


def _saved(figure, kind):
    content = io.BytesIO()
    # No date: the same results give the same file.
    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    figure.savefig(content, format=kind, dpi=300, metadata=dated.get(kind))
    return content.getvalue()
