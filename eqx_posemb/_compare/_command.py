"""The command `eqx-posemb compare`."""

import argparse
import re
import shlex
import sys
from dataclasses import fields

from .._catalogue import Refused
from . import _devices
from ._report import notes
from ._run import run
from ._settings import Settings
from ._text import shown


_SETTINGS = tuple(field.name for field in fields(Settings))


def main(options: argparse.Namespace) -> None:
    """Runs `eqx-posemb compare`.

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
            **{name: getattr(options, name) for name in _SETTINGS},
        )
    except Refused as refused:
        # Errors name the arguments of Python, and the command line has flags in their
        # place.
        names = "|".join(("text", "out", *_SETTINGS))
        flag = lambda match: "--" + match[1].replace("_", "-")
        raise Refused(re.sub(f"`({names})`", flag, str(refused))) from refused
    if _devices.writes():
        print("\n\n".join(notes(found.results)))
        print(
            f"Written to {options.out}: results.json, results.csv, table.md, plot.png, "
            "plot.svg, plot.pdf.",
            file=sys.stderr,
        )


def _command(options):
    """The command that gives the same results again."""
    words = ["eqx-posemb", "compare"]
    text = options.text and [shown(file) for file in options.text]
    for name, value in {**vars(options), "text": text}.items():
        if name in ("embeddings", "text", *_SETTINGS) and value is not None:
            values = value if isinstance(value, list) else [value]
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words + ["--quick"] * options.quick)
