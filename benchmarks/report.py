"""What the benchmarks share: a fair clock, the machine's name, and rows."""

import ctypes
import json
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax


ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
Row = Mapping[str, Any]
Call = Callable[[], object]
ARENAS, MAPPED, TRIMMED = -8, -3, -1
"""Of glibc's `mallopt`: how many heaps there are, and from how many bytes on memory
is asked of the system, and given back to it."""


def keep_memory() -> None:
    """Keeps freed memory for later calls, if the C library is glibc. Call it before
    anything else.

    A page of memory that is new to the process takes longer to come than to be written.
    Which arrays have new ones hangs on what was freed before them: the same rotation
    took 2 or 6 times its floor.
    """
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for setting, value in (ARENAS, 1), (MAPPED, 2**31 - 1), (TRIMMED, 2**31 - 1):
            library.mallopt(setting, value)


def machine() -> str:
    """What ran, and how busy it was with other things."""
    name = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        models = [line.split(":")[1].strip() for line in lines if "model name" in line]
        name = models[0] if models else name
    return (
        f"{name}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}"
    )


def seconds(
    calls: Mapping[str, Call], rounds: int, again: bool = False
) -> dict[str, list[float]]:
    """The times of all calls, which are made in turn, each round in another order, so
    that what else the machine does meets all alike. `again` calls each twice and times
    the second call, so that none pays for what the one before it did to caches. A
    single round, for calls that are long, is not warmed up."""
    names = list(calls)
    times = {name: [] for name in names}
    for name in names if rounds > 1 else ():
        calls[name]()
    for _ in range(rounds):
        random.shuffle(names)
        for name in names:
            if again:
                calls[name]()
            start = time.perf_counter()
            calls[name]()
            times[name].append(time.perf_counter() - start)
    return times


def over(times: Mapping[str, list[float]], name: str, unit: str) -> float:
    """The median over rounds of the time of a call, divided by the time of `unit` in
    the same round."""
    pairs = zip(times[name], times[unit], strict=True)
    return statistics.median(a / b for a, b in pairs)


def ratios(calls: Mapping[str, Call], unit: str, rounds: int) -> dict[str, float]:
    """Of all calls, what [`over`][] gives."""
    times = seconds(calls, rounds, again=True)
    return {name: over(times, name, unit) for name in calls}


def compiled(f, *arguments) -> Call:
    """A call that waits for its result."""
    program = jax.jit(f).lower(*arguments).compile()
    return lambda: jax.block_until_ready(program(*arguments))


def markdown(row: Mapping[str, object], first: bool = False) -> str:
    """A row of a table, under its head if it is the first."""
    shown = lambda value: f"{value:.2f}" if isinstance(value, float) else str(value)
    line = lambda cells: "| " + " | ".join(map(shown, cells)) + " |"
    body = line("-" if value is None else value for value in row.values())
    return f"{line(row)}\n{line('---' for _ in row)}\n{body}" if first else body


def comparison() -> dict[str, Any]:
    """Reads what `eqx-posemb compare` wrote."""
    return json.loads((RESULTS / "comparison.json").read_text())


class Result(NamedTuple):
    """A file that a benchmark wrote."""

    about: str
    rows: list[Row]


def result(name: str) -> Result:
    """Reads the file of a benchmark."""
    return Result(**json.loads((RESULTS / f"{name}.json").read_text()))


def write(file: str | None, about: str, rows: list[dict[str, object]]) -> None:
    if file is not None:
        Path(file).write_text(json.dumps(dict(about=about, rows=rows), indent=1) + "\n")
