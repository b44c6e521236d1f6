"""How long commands take from the shell, and `import eqx_posemb` after JAX and Equinox.

    python -m benchmarks.commands --json benchmarks/results/commands.json

Short commands are medians of nine runs. A comparison runs once: the default comparison
takes minutes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.report import machine, markdown, write


SHORT = (
    "eqx-posemb --help",
    "eqx-posemb list",
    "eqx-posemb show rope",
    "eqx-posemb cite rope",
)
LONG = "eqx-posemb compare --quick", "eqx-posemb compare"
IMPORTS = {
    "import eqx_posemb": "import jax, equinox, eqx_posemb",
    "import jax, equinox": "import jax, equinox",
}


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--short", action="store_true", help="runs no comparison")
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = machine()
    print(about)
    script = Path(sys.executable).with_name("eqx-posemb")
    calls = {name: (str(script), *name.split()[1:]) for name in SHORT}
    calls |= {name: (sys.executable, "-c", code) for name, code in IMPORTS.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        seconds(*call)  # Files come from the disk, and bytecode is written.
    for _ in range(options.rounds):
        for name, call in calls.items():
            times[name].append(seconds(*call))
    for name in () if options.short else LONG:
        with tempfile.TemporaryDirectory() as folder:
            call = (str(script), *name.split()[1:], "--out", folder)
            times[name] = [seconds(*call)]
    rows: list[dict[str, object]] = []
    for name, found in times.items():
        rows.append({"command": name, "seconds": statistics.median(found)})
        print(markdown(rows[-1], len(rows) == 1), flush=True)
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
