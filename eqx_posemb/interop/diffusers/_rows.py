"""How each model of diffusers places its tokens, as rows of data."""

import functools
import json
import re
from pathlib import Path
from typing import Any

from .._configuration import known, meant, read, require, rows_of, Settings


_SPEAKS = re.compile(r"rope|rotary|pos_emb|positional|axes_|theta|interpolation")


@functools.cache
def models() -> dict[str, dict[str, Any]]:
    """A row of `models.json` for each class of model:

    - `defaults`: the keys about positions, and the sizes that they need, with the
      defaults of the class. Keys that only size a table of angles are among them.
    - `widths`: the key with the channels of each coordinate, or a rule of `_load.py`.
    - `head`: the keys whose quotient is the number of channels of a head.
    - `theta`: the key of the base, 10,000 without one.
    - `factors`: the key of the NTK factor of each coordinate.
    - `pairing`: the layout of pairs, `"adjacent"` if it is not given.
    - `adds`: the layout of a sinusoidal encoding; `rotates_if`: the key that replaces
      the encoding by a rotary embedding.
    - `axes`: the number of axes of the grid, 3 if it is not given.
    - `grid`, `text`: the rules of `_positions.py` for tokens of the image and the text;
      `text_last`: whether the text follows the image in the model's attention.
    - `refuses`: for a key, its only value that `load` builds, and the cure.

    A string in place of a row is the class that has the row.
    """
    return rows_of(Path(__file__).with_name("models.json"))


def settings_of(config: Any) -> tuple[Settings, str]:
    """The settings of a configuration with the row of its class, and its name."""
    keys = read(getattr(config, "config", config))
    name = keys.get("_class_name")
    if name is None and hasattr(config, "config"):
        # A model object has its settings without the name of its class.
        name = type(config).__name__
    cure = (
        "Give the name of a class that rotates alike, or build another embedding by "
        "`eqx_posemb.axial_rope`."
    )
    kind = "a class of diffusers with a row"
    name = known("_class_name", name, models(), kind, cure)
    row = models()[name]
    _check_read(keys, row, name)
    return Settings(keys, row), name


def rotates(settings: Settings) -> bool:
    """Whether the model rotates queries and keys, and adds no encoding."""
    row = settings.row
    if "rotates_if" in row:
        return settings.flag(row["rotates_if"], False)
    return "widths" in row


def _check_read(keys: dict[str, Any], row: dict[str, Any], name: str) -> None:
    """Every key about positions has an effect, or is an error that names the cure."""
    read = row["defaults"]
    for key, value in keys.items():
        unset = value is None or value is False
        fine = key in read or unset or not _SPEAKS.search(key.lower())
        cure = "" if fine else f"{meant(key, read)}Remove it, as diffusers ignores it."
        rule = f"not be there, as {name} does not read it"
        require(fine, key[:80], rule, value, cure=cure)
    for key, (accepted, cure) in row.get("refuses", {}).items():
        # A null is a value here, and not a key that is not there.
        value = keys.get(key, read[key])
        rule = f"be {json.dumps(accepted)} for a part that `load` builds"
        require(value == accepted, key, rule, value, cure=cure)
