"""From the words of the command line to the report."""

import argparse
import json
import re
from typing import Any

from .._catalogue import Refused
from ..interop._configuration import read
from ..interop.huggingface._parts import named_part, parts_of
from ._facts import facts_of
from ._warnings import warnings_of
from ._words import words_of


def run(options: argparse.Namespace) -> None:
    """Prints what a configuration says of positions."""
    part, model_type = options.part, options.model_type
    keys, _ = chosen(options.config, part=None, model_type=model_type)
    try:
        facts = facts_of(keys, model_type, options.engine_keys, part)
    except ValueError as error:
        raise refused(error) from error
    others = [] if part else parts_of(keys, model_type)
    facts["other_parts"] = [path for path in others if len(others) > 1]
    warnings = warnings_of(facts)
    if options.json:
        print(json.dumps({**facts, "warnings": warnings}, indent=2))
    else:
        print(words_of(facts, warnings))


def chosen(
    config: str, *, part: str | None, model_type: str | None
) -> tuple[dict[str, Any], str | None]:
    """The keys of a configuration or of its part, and the type to read them as."""
    try:
        keys = read(config)
        parts = parts_of(keys, model_type)
        return (keys, model_type) if part is None else named_part(part, parts)[1]
    except ValueError as error:
        raise refused(error) from error


def refused(error: ValueError) -> Refused:
    """What `load` refuses, with a cure in this command's options."""
    # Errors of `load` name its arguments, and the command has options in their place.
    text = re.sub(
        r'Call `load\(.*part="(.*)"\)`', r"Choose it by --part \1", str(error)
    )
    text = text.replace("`part`", "--part")
    text = text.replace("`engine_keys`", "--engine-keys")
    if text.startswith("`model_type` must be"):
        text += " --model-type says what to read it as."
    return Refused(text)
