"""The result of `eqx_posemb.compare`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TYPE_CHECKING

import jax


if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ._model import Decoder


class Comparison:
    """The result of a comparison: numbers, tables, a figure and the trained models.

    [`eqx_posemb.compare`][] returns it.

    !!! Example

        ```python
        import eqx_posemb as pe

        found = pe.compare(
            ["nope"],
            text=b"to be or not to be " * 100,
            tasks=["text"], length=8, multiples=[1], steps=1,
            batch=2, dim=8, heads=2, depth=1, passages=2, progress=False,
        )
        bits = found.results["results"]["nope"]["scores"]["text"]
        assert list(bits) == ["1"]
        print(found.to_csv().splitlines()[0])
        ```

        ```output
        task,measure,embedding,multiple,length,seed,value
        ```
    """

    results: dict[str, Any]
    """All numbers and all settings, as `results.json` has them."""

    def __init__(self, results: dict[str, Any], trained: Mapping[tuple[str, str], Any]):
        self.results = results
        self._trained = trained

    def model(self, name: str, task: str = "text", seed: int = 0) -> "Decoder":
        """A trained model, whose field `embedding` is the trained embedding.

        **Arguments:**

        - `name`: the name of its embedding.
        - `task`: the task of its training.
        - `seed`: which of the seeds, counted from 0.

        **Returns:** a module with the fields `embedding` and `weights`.

        **Raises:** a `ValueError` if there is no such model.
        """
        if (name, task) not in self._trained:
            trained = ", ".join(f"{name} ({task})" for name, task in self._trained)
            raise ValueError(
                f"`name` and `task` must be of a trained model, {trained}, but got "
                f"{name} ({task})."
            )
        import equinox as eqx

        models, _ = self._trained[name, task]
        # The models of all seeds are stacked along a first axis.
        of_seed = lambda x: x[seed] if eqx.is_array(x) else x
        return jax.tree.map(of_seed, models)

    def table(self) -> str:
        """A table for each task and all settings under it, as Markdown."""
        from ._report import table

        return table(self.results)

    __repr__ = __str__ = table
    _repr_markdown_ = table

    def to_csv(self, path: str | Path | None = None) -> str:
        """The numbers, a line for each embedding, length and seed.

        **Arguments:**

        - `path`: a file to write, if any.

        **Returns:** the text of the file.
        """
        from ._report import as_csv

        return _written(path, as_csv(self.results))

    def to_json(self, path: str | Path | None = None) -> str:
        """All numbers and all settings, as `results.json` has them.

        **Arguments:**

        - `path`: a file to write, if any.

        **Returns:** the text of the file.
        """
        from ._report import as_json

        return _written(path, as_json(self.results))

    def plot(
        self, path: str | Path | BinaryIO | None = None, kind: str | None = None
    ) -> "Figure":
        """The figure of [`eqx_posemb.plot.extrapolation`][], with a panel for each
        task. It needs Matplotlib.

        **Arguments:**

        - `path`: a file to write, if any.
        - `kind`: the format, by default the suffix of `path`.

        **Returns:** a Matplotlib figure.
        """
        import matplotlib

        from ..plot import extrapolation

        # A vector file keeps text as text, and not as outlines.
        style: Any = {
            "svg.fonttype": "none",
            "svg.hashsalt": "eqx_posemb",
            "font.size": 8,
        }
        with matplotlib.rc_context(style):
            figure = extrapolation(self.results)
            if path is not None:
                if kind is None and isinstance(path, str | Path):
                    kind = Path(path).suffix.removeprefix(".")
                # Without a date, equal results give equal files.
                dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
                metadata = dates.get(kind or "")
                figure.savefig(path, format=kind, dpi=300, metadata=metadata)
        return figure


def _written(path, text):
    if path is not None:
        Path(path).write_text(text, "utf-8")
    return text
