"""Programs that libtpu compiles for a TPU that is not there, and what they say.

The text of a compiled program has an estimate of cycles for each operation. The
estimate has a floor of about 2,000 cycles for an operation, so it exceeds the time of
small operations. A loop counts as often as it runs.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding


# For each generation, the smallest part that the compiler knows.
TOPOLOGIES = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "tpu7x": "tpu7x:2x2x1",
}
# With these variables libtpu looks for no TPU.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def compiled(tpu: str, function: Callable, *arguments: Any) -> Any:
    """The program of a function for one core of a TPU."""
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(SETTINGS)
    device = topologies.get_topology_desc(TOPOLOGIES[tpu], "tpu").devices[0]
    place = SingleDeviceSharding(device)
    call = jax.jit(function, in_shardings=place, out_shardings=place)
    return call.trace(*arguments).lower(lowering_platforms=("tpu",)).compile()


@dataclass
class Computation:
    """A computation of a program's text."""

    lines: list[str] = field(default_factory=list)
    entry: bool = False


def loops(text: str) -> list[int | None]:
    """The number of trips of each loop; `None` if it is known only at run time."""
    computations = _computations(text)
    every = (line for each in computations.values() for line in each.lines)
    return [
        _trips(computations, condition)
        for condition in re.findall(
            r" while\(.*condition=%?([\w.\-]+)", "\n".join(every)
        )
    ]


def cycles(text: str, tiles: Sequence[float] = ()) -> float:
    """The estimated cycles of a program. A branch counts as its longest case.

    `tiles` are the trips of loops over tiles, which are known only at run time: of the
    loop over groups, and in each group of the loops over unmasked and masked tiles.
    """
    computations = _computations(text)
    (entry,) = (name for name, each in computations.items() if each.entry)

    def of(name: str, depth: int) -> float:
        total, inner = 0.0, 0
        for line in computations[name].lines:
            if found := re.search(r'"estimated_cycles":"(\d+)"', line):
                # The largest number stands for operations without an estimate.
                total += int(found[1]) * (int(found[1]) < 2**60)
            if loop := re.search(
                r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)", line
            ):
                trips, deeper = _trips(computations, loop[1]), depth
                if trips is None:
                    trips, deeper = tiles[depth + inner], 1
                    inner += depth
                total += trips * of(loop[2], deeper)
            cases = re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", line)
            if branches := re.search(r"branch_computations=\{([^}]*)\}", line):
                cases += [case.strip().lstrip("%") for case in branches[1].split(",")]
            if cases:
                total += max(of(case, depth) for case in cases)
            if call := re.search(r" call\(.*to_apply=%?([\w.\-]+)", line):
                total += of(call[1], depth)
        return total

    return of(entry, 0)


def _computations(text: str) -> dict[str, Computation]:
    found, current = {}, Computation()
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{", line):
            current = found[head[2]] = Computation(entry=bool(head[1]))
        else:
            current.lines.append(line)
    return found


def _trips(computations, condition) -> int | None:
    """The largest constant that a condition compares with, as loops count from 0."""
    lines = "\n".join(computations[condition].lines)
    for name in re.findall(r"(?:calls|to_apply)=%?([\w.\-]+)", lines):
        lines += "\n".join(computations[name].lines)
    constants = map(int, re.findall(r"constant\((\d+)\)", lines))
    return max(constants, default=None)
