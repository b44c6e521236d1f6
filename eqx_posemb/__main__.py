"""The command line: `eqx-posemb list`, `show`, `cite`, `inspect`, `plot`, `compare`."""

import argparse
import dataclasses
import importlib
import os
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from . import __version__
from ._catalogue import (
    as_json,
    describe,
    find,
    markdown_names,
    markdown_page,
    PLACES,
    Refused,
    selected,
    table,
)
from ._compare._settings import Settings


class _Parser(argparse.ArgumentParser):
    # argparse would print the usage before every error, which hides the error.
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    **Arguments:**

    - `arguments`: The words after the command's name. The default are the arguments of
        the process.

    **Returns:** the exit code: 0, 2 for what cannot be done as asked, 130 after Ctrl-C.
    """
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
        # A broken pipe raises its error here, where it is caught.
        sys.stdout.flush()
        return 0
    except Refused as refused:
        print(f"eqx-posemb {options.command}: {refused}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Python flushes again at exit, and would print an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A shell reports SIGPIPE by the code 128 + 13.
        return 141


def _parser():
    parser = _Parser(
        prog="eqx-posemb", description="Positional embeddings for JAX and Equinox."
    )
    parser.add_argument(
        "--version", action="version", version=f"eqx-posemb {__version__}"
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="{list,show,cite,inspect,plot,compare}"
    )

    every = commands.add_parser("list", help="all embeddings, by place")
    every.add_argument(
        "words", nargs="*", metavar="WORD", help="only those with these words in a row"
    )
    every.add_argument("--place", choices=tuple(PLACES), help="only those of a place")
    every.add_argument("--json", action="store_true", help="for machines")
    every.add_argument(
        "--markdown",
        nargs="?",
        const="page",
        choices=("page", "names"),
        help="as Markdown: the page docs/variants.md (default), or the names in the "
        "README",
    )
    every.set_defaults(run=_list)

    show = commands.add_parser("show", help="what an embedding is")
    show.add_argument("name", metavar="NAME")
    show.set_defaults(run=_show)

    cite = commands.add_parser("cite", help="the BibTeX entries of embeddings")
    cite.add_argument("names", nargs="+", metavar="NAME")
    cite.set_defaults(run=_cite)

    inspect = commands.add_parser(
        "inspect",
        help="the positional embedding of a transformers model, from its config",
        description="Reports the positional embedding of a transformers model, layer "
        "by layer, with warnings about common mistakes. It reads the config.json, and "
        "needs neither transformers nor a network.",
    )
    inspect.add_argument("config", metavar="CONFIG.json")
    _add_choice(inspect)
    inspect.add_argument("--json", action="store_true", help="for machines")
    inspect.set_defaults(run=_inspect)

    plot = commands.add_parser(
        "plot",
        help="pictures of an embedding: wavelengths, decay, biases, similarity",
        description="Draws an embedding that `eqx-posemb list` shows, those of a "
        "model of transformers from its config.json, or the curves of a "
        "comparison from its results.json. Prints the names of the files.",
    )
    plot.add_argument("what", metavar="NAME|CONFIG.json|results.json")
    plot.add_argument(
        "others",
        nargs="*",
        metavar="NAME",
        help="more names, whose decay is drawn in the same picture",
    )
    _add_choice(plot)
    plot.add_argument(
        "--layer-type", metavar="NAME", help="which kind of layers (default: each)"
    )
    plot.add_argument("--length", type=int, help="the context to draw, in positions")
    plot.add_argument(
        "--out", default=".", metavar="FOLDER", help="where to write (default: here)"
    )
    plot.add_argument("--format", choices=("png", "svg", "pdf"), default="png")
    plot.set_defaults(run=_plot)

    compare = commands.add_parser(
        "compare",
        help="train a small model with each embedding, and test it beyond its length",
        description="Trains the same small model once with each embedding, from the "
        "same seeds, on the same data, and tests it at multiples of the training "
        "length. Writes tables, results.json and a figure. Ctrl-C keeps what is "
        "finished; the same command goes on from there. eqx_posemb.compare is the same "
        "in Python, and takes embeddings of your own.",
    )
    compare.add_argument(
        "--embeddings",
        nargs="+",
        metavar="NAME",
        help="names that `eqx-posemb list` shows, or such a name with an extension "
        "after training, as rope+yarn: linear, ntk, dynamic, yarn, llama3, longrope, "
        "rerope, self_extend, dual_chunk",
    )
    compare.add_argument(
        "--text",
        nargs="+",
        metavar="FILE",
        help="your own text, the last tenth of each file being held out (default: the "
        "sources of Python's standard library, every tenth file being held out)",
    )
    for setting in dataclasses.fields(Settings):
        default: Any = setting.default
        several = isinstance(default, tuple)
        values = default if several else (default,)
        compare.add_argument(
            f"--{setting.name.replace('_', '-')}",
            nargs="+" if several else None,
            type=type(values[0]),
            metavar="NAME" if setting.name == "tasks" else "N",
            help=f"{setting.metadata['help']} (default: {' '.join(map(str, values))})",
        )
    compare.add_argument(
        "--out",
        default="eqx-posemb-compare",
        metavar="FOLDER",
        help="where to write results, and to go on from them (default: %(default)s)",
    )
    compare.add_argument(
        "--quick", action="store_true", help="a smaller model, within a minute"
    )
    compare.set_defaults(run=_compare)
    return parser


def _add_choice(command):
    command.add_argument(
        "--part", metavar="NAME", help="which part of a composite model: text_config"
    )
    command.add_argument(
        "--model-type", metavar="TYPE", help="what to read the configuration as"
    )
    command.add_argument(
        "--engine-keys",
        choices=("apply", "ignore"),
        help="what to do with keys that engines read and transformers ignores",
    )


def _list(options):
    if options.markdown is not None:
        print(markdown_page() if options.markdown == "page" else markdown_names())
    else:
        rows = selected(options.place, " ".join(options.words))
        print(as_json(rows) if options.json else table(rows, _width()))


def _show(options):
    print(describe(options.name, _width()))


def _width():
    """The width of the terminal, at most a readable line."""
    return min(max(shutil.get_terminal_size().columns, 40), 100)


def _cite(options):
    # All names are looked up before the first is printed. Two variants of one paper
    # are one entry.
    entries = dict.fromkeys(find(name).source.bibtex for name in options.names)
    print("\n\n".join(entries))


def _inspect(options):
    # Each command imports its own modules, so `list` starts without JAX.
    from ._inspect import run

    run(options)


def _plot(options):
    _needs("a picture", "plot", "matplotlib")
    if options.length is not None and options.length < 2:
        raise Refused(f"--length must be at least 2, but got {options.length}.")
    from .plot._run import run

    run(options)


def _compare(options):
    _needs("the comparison", "compare", "matplotlib", "optax")
    from ._compare._command import main

    main(options)


def _needs(what, extra, *packages):
    for name in packages:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            # A package that is installed may lack a dependency of its own.
            if error.name != name:
                raise
            raise Refused(
                f"{what} needs the package {name}, which is not installed: "
                f'pip install "eqx-posemb[{extra}]".'
            ) from error


if __name__ == "__main__":
    sys.exit(main())
