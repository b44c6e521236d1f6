"""What is left behind: a table, `results.json` and a plot."""

import importlib.metadata
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from .._catalogue import Refused
from ._settings import MULTIPLES


Results = dict[str, Any]


def versions() -> dict[str, str]:
    """The versions of all that computes."""
    packages = ("eqx-posemb", "equinox", "jax", "jaxlib", "numpy", "optax")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
    }


def read_results(folder: Path) -> Results | None:
    """The results that a folder has already, if any."""
    path = folder / "results.json"
    try:
        results = json.loads(path.read_text("utf-8"))
        _ = results["identity"].items(), results["results"].items()
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(
            f"{str(path)!r} cannot be read as results of a comparison. Give another "
            "folder by --out."
        ) from error
    return results


def write(path: Path, content: str | bytes) -> None:
    """Writes all or nothing, so that an interruption leaves the file of before."""
    data = content.encode("utf-8") if isinstance(content, str) else content
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(data)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Refused(f"cannot write {str(path)!r}: {error.strerror}.") from error


def write_results(folder: Path, results: Results) -> None:
    """Writes `results.json`."""
    text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
    write(folder / "results.json", text + "\n")


def thinned(losses: list[float], points: int = 100) -> dict[str, list[Any]]:
    """The loss curve, as means over up to `points` intervals of steps."""
    parts = np.array_split(np.asarray(losses), min(points, len(losses)))
    steps = np.cumsum([len(part) for part in parts])
    means = [float(np.mean(part)) for part in parts]
    return {
        "step": steps.tolist(),
        "bits_per_byte": [mean if np.isfinite(mean) else None for mean in means],
    }


def table(results: Results) -> str:
    """Bits per byte by length, as a Markdown table that is readable as it is."""
    length = results["settings"]["length"]
    head = ["embedding", *(f"{m}× ({m * length:,})" for m in MULTIPLES)]
    rows = [
        [name, *(_cell(result["bits_per_byte"][str(m)]) for m in MULTIPLES)]
        for name, result in results["results"].items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in (head, rule, *rows))


def _line(cells, widths):
    name, *numbers = cells
    right = [cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True)]
    return f"| {' | '.join([name.ljust(widths[0]), *right])} |"


def _cell(bits):
    return "not possible" if bits is None else f"{bits:.3f}"
