"""The command `eqx-posemb compare`."""

import argparse
import re
import shlex
import sys

from .._catalogue import Refused
from . import _devices
from ._report import notes
from ._run import run
from ._text import shown


_LISTS = "tasks", "multiples"
_NUMBERS = (
    "length",
    "steps",
    "batch",
    "dim",
    "heads",
    "depth",
    "learning_rate",
    "position_rate",
    "seed",
    "seeds",
    "passages",
)


def main(options: argparse.Namespace) -> int:
    """Runs `eqx-posemb compare`.

    **Arguments:**

    - `options`: what the command line has parsed.

    **Returns:** the exit code 0.

    **Raises:** a `Refused` for what cannot be done as asked, and a `KeyboardInterrupt`
    after Ctrl-C, with finished parts kept.
    """
    # Processes must join before JAX looks for devices.
    _devices.start()
    try:
        found = run(
            options.embeddings,
            options.text,
            quick=options.quick,
            out=options.out,
            progress=True,
            show=lambda line: print(line, flush=True),
            command=_command(options),
            **{name: getattr(options, name) for name in (*_LISTS, *_NUMBERS)},
        )
    except Refused as refused:
        # Errors name the arguments of Python, and the command line has flags in their
        # place.
        names = "|".join(("text", "out", *_LISTS, *_NUMBERS))
        flag = lambda match: "--" + match[1].replace("_", "-")
        raise Refused(re.sub(f"`({names})`", flag, str(refused))) from refused
    if _devices.writes():
        print("\n\n".join(notes(found.results)))
        print(
            f"Written to {options.out}: results.json, results.csv, table.md, plot.png, "
            "plot.svg, plot.pdf.",
            file=sys.stderr,
        )
    return 0


def _command(options):
    """The command that gives the same results again."""
    words = ["eqx-posemb", "compare"]
    if options.embeddings is not None:
        words += ["--embeddings", *options.embeddings]
    if options.text is not None:
        words += ["--text", *map(shown, options.text)]
    for name in (*_LISTS, *_NUMBERS):
        value = getattr(options, name)
        if value is not None:
            values = value if name in _LISTS else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words + ["--quick"] * options.quick)
