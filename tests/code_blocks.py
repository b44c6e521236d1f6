"""The code in Markdown: it runs, and prints what is said there.

A fenced block of the language `python` runs. What it prints is compared with the block
of the language `output` that follows it, or is nothing. A block of the language
`console` that has `$ eqx-posemb …` and what it prints runs as well. Nothing else does.
"""

import contextlib
import io
import re
import shlex
from collections.abc import Iterable, Iterator
from itertools import pairwise
from textwrap import dedent
from typing import NamedTuple


FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    code: str
    output: str


def languages(markdown: str) -> set[str]:
    return {language for _, language, _ in FENCED.findall(markdown)}


def blocks(markdown: str) -> Iterator[Block]:
    found = [(language, text) for _, language, text in FENCED.findall(markdown)]
    for (language, text), (after, output) in pairwise([*found, ("", "")]):
        if language == "python":
            yield Block(dedent(text), dedent(output) if after == "output" else "")
        command, _, printed = dedent(text).partition("\n")
        if language == "console" and command.startswith("$ eqx-posemb") and printed:
            _, _, *words = shlex.split(command)
            code = f"from eqx_posemb.__main__ import main\nmain({words!r})"
            yield Block(code, printed)


def run(program: Iterable[Block]) -> dict[str, object]:
    """Runs blocks one after the other, as a reader would who types them in, and gives
    the names that they made."""
    names: dict[str, object] = {}
    for block in program:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block.code, "<example>", "exec"), names)
        assert printed.getvalue() == block.output, block.code
    return names
