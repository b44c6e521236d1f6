"""What is left behind: tables and `results.json`."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .._catalogue import Refused


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
        # A file of another kind must be refused here, before anything is overwritten.
        _ = results["identity"].items(), results["results"].items(), results["tasks"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(
            f"{str(path)!r} cannot be read as results of a comparison. Give another "
            "folder by --out."
        ) from error
    return results


def write(path: Path, content: str | Callable[[BinaryIO], None]) -> None:
    """Writes all or nothing, so that an interruption leaves the file of before."""
    # A rename within a folder is atomic, and the process id keeps two runs apart.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            if isinstance(content, str):
                file.write(content.encode())
            else:
                content(file)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Refused(f"cannot write {str(path)!r}: {error.strerror}.") from error


def as_json(results: Results) -> str:
    """The content of `results.json`."""
    # JSON has no NaN, and other programs read the file.
    return json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_csv(results: Results) -> str:
    """A line for each number."""
    lines = ["task,measure,embedding,multiple,length,seed,value"]
    first = results["settings"]["seed"]
    for task, about in results["tasks"].items():
        for name, result in results["results"].items():
            for multiple, values in result["scores"].get(task, {}).items():
                # Names are free text, and may contain commas and quotes.
                quoted = '"' + name.replace('"', '""') + '"'
                length = int(multiple) * about["length"]
                start = f"{task},{about['measure']},{quoted},{multiple},{length}"
                for seed, value in enumerate(values or [], first):
                    lines.append(f"{start},{seed},{value}")
    return "\n".join(lines) + "\n"


def thinned(losses: list[list[float]], points: int = 100) -> dict[str, list[Any]]:
    """The loss curve: means over seeds, and over up to `points` parts of the steps."""
    parts = np.array_split(np.mean(losses, axis=1), min(points, len(losses)))
    steps = np.cumsum([len(part) for part in parts])
    means = [float(np.mean(part)) for part in parts]
    return {
        "step": steps.tolist(),
        "bits": [mean if np.isfinite(mean) else None for mean in means],
    }


def table(results: Results) -> str:
    """All tables, and the settings under them, as Markdown that is readable as it
    is."""
    parts = []
    for task in results["tasks"]:
        lines = [title(results, task), "", *head(results, task)]
        for name, result in results["results"].items():
            if task in result["scores"]:
                lines.append(row(results, task, name))
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, *notes(results)])


def title(results: Results, task: str) -> str:
    """What the numbers of a table are."""
    measure = results["tasks"][task]["measure"]
    if measure == "accuracy":
        return f"**{task}**: accuracy in percent, higher is better"
    return f"**{task}**: {measure}, lower is better"


def head(results: Results, task: str) -> list[str]:
    """The first two lines of a table."""
    columns = _columns(results, task)
    of_name, *others = columns.values()
    rule = ["-" * of_name, *("-" * (width - 1) + ":" for width in others)]
    return [_line(columns, columns), _line(rule, columns)]


def row(results: Results, task: str, name: str) -> str:
    """The line of an embedding."""
    result = results["results"][name]
    mark = " *" if task in result["hardly_learnt"] else ""
    scores = result["scores"][task].values()
    digits = 1 if results["tasks"][task]["measure"] == "accuracy" else 3
    cells = [name + mark, *(_cell(values, digits) for values in scores)]
    return _line(cells, _columns(results, task))


def notes(results: Results) -> Iterator[str]:
    """What stands under the tables: a mark that is used, and all settings."""
    found, settings = results["results"], results["settings"]
    marked = [task for task in results["tasks"] if any(
        task in result["hardly_learnt"] for result in found.values()
    )]  # fmt: skip
    if marked:
        bounds = ", ".join(
            f"{results['tasks'][task]['threshold']:.1f} bits for {task}"
            for task in marked
        )
        yield (
            "\\* This model has hardly learnt: a mean loss of its last steps is above "
            f"{bounds}."
        )
    seeds = f"seed {settings['seed']}"
    if settings["seeds"] > 1:
        last = settings["seed"] + settings["seeds"] - 1
        seeds = f"seeds {settings['seed']} to {last} (mean ± standard deviation)"
    yield (
        f"Model: dim {settings['dim']}, {settings['heads']} heads, depth "
        f"{settings['depth']}, {results['platform']['dtype']}. Training: "
        f"{settings['steps']} steps of {settings['batch']} × {settings['length']} "
        f"tokens, Adam with a learning rate of {settings['learning_rate']:g}, "
        f"{settings['position_rate']:g} times that for the parameters of an embedding, "
        f"{seeds}."
    )
    differing = []
    for name, result in found.items():
        given = ", ".join(f"{key}={value}" for key, value in result["settings"].items())
        source = f"({result['source']})" if result["source"] else ""
        if words := f"{given} {source}".strip():
            differing.append(f"- {name}: {words}")
    if differing:
        yield "\n".join(["Settings of embeddings:", "", *differing])
    for task in results["tasks"].values():
        yield task["about"]


def _columns(results, task):
    """The widths of columns by their titles, known before the first number."""
    length, settings = results["tasks"][task]["length"], results["settings"]
    digits = 5 if results["tasks"][task]["measure"] == "accuracy" else 6
    number = digits if settings["seeds"] == 1 else 2 * digits + 2
    widths = {"embedding": max(map(len, [*results["results"], "embedding"])) + 2}
    for multiple in settings["multiples"]:
        title = f"{multiple}× ({multiple * length:,})"
        widths[title] = max(len(title), number, len("not possible"))
    return widths


def _line(cells, columns):
    (name, *numbers), (of_name, *widths) = cells, columns.values()
    right = [cell.rjust(width) for cell, width in zip(numbers, widths, strict=True)]
    return f"| {' | '.join([name.ljust(of_name), *right])} |"


def _cell(values, digits):
    if values is None:
        return "not possible"
    mean = f"{np.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    # Seeds are a small sample, so the divisor is one less than their number.
    return f"{mean} ± {np.std(values, ddof=1):.{digits}f}"
