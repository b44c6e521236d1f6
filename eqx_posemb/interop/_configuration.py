"""Reads the keys of a configuration, and checks each as it is read."""

import difflib
import json
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .._checks import check_choice


class _Quoted(reprlib.Repr):
    def repr_int(self, x, level):
        # Python refuses to print an integer of more than 4300 digits.
        return (
            super().repr_int(x, level) if x.bit_length() < 2**12 else "a long integer"
        )


# Messages quote the beginning of a long value.
_QUOTED = _Quoted()
_QUOTED.maxstring = _QUOTED.maxother = 80
_QUOTED.maxlevel = 3
quoted = _QUOTED.repr

# The limit exceeds every model, and stops a faulty file before it exhausts memory.
WIDEST = 2**16


def rows_of(path: Path) -> dict[str, dict[str, Any]]:
    """A row of settings for each name. A string in place of a row is another name."""
    rows = json.loads(path.read_text())
    return {
        name: rows[row] if isinstance(row, str) else row for name, row in rows.items()
    }


def listed(names: Iterable[str], mark: str = "") -> str:
    """Some names for a message, and how many more there are."""
    names = sorted(names)
    shown = [f"{mark}{name[:80]}{mark}" for name in names[:12]]
    more = [f"{len(names) - 12} more"] if len(names) > 12 else []
    return ", ".join(shown + more)


def read(config: Any) -> dict[str, Any]:
    """The keys of a dictionary, of a file or its folder, or of an object."""
    if isinstance(config, str | os.PathLike):
        return _read_file(Path(config))
    if not isinstance(config, Mapping):
        # transformers is never imported, so its configurations are known by their
        # method.
        if not callable(getattr(config, "to_dict", None)):
            raise ValueError(
                "`config` must be a dictionary, a path to a config.json or its folder, "
                f"or have a method `to_dict`, but got {type(config).__name__}."
            )
        config = config.to_dict()
        if not isinstance(config, Mapping):
            raise ValueError(
                "`config` must have a method `to_dict` that returns a dictionary, but "
                f"got {quoted(config)} from it."
            )
    keys = dict(config)
    if not all(isinstance(key, str) for key in keys):
        raise ValueError(
            f"`config` must have strings for keys, but got {quoted(list(keys))}."
        )
    return keys


def _read_file(path: Path) -> dict[str, Any]:
    shown = str(path)[:300]
    try:
        if path.is_dir():
            path = path / "config.json"
            shown = str(path)[:300]
        keys = json.loads(path.read_text())
    except OSError as reason:
        named = isinstance(reason, FileNotFoundError) and path.suffix != ".json"
        cure = " Download a model of the Hugging Face Hub first." if named else ""
        raise ValueError(
            f"`config` must be a path to a config.json or its folder, but got {shown}: "
            f"{reason.strerror}.{cure}"
        ) from reason
    except RecursionError as reason:
        raise ValueError(
            f"`config` must be JSON that is not nested deeply, but got {shown}."
        ) from reason
    except ValueError as reason:
        raise ValueError(
            f"`config` must be JSON, but got {shown}: {reason}."
        ) from reason
    if not isinstance(keys, dict):
        raise ValueError(f"`config` must be a JSON object, but got {shown}.")
    return keys


def meant(key: str, names: Iterable[str]) -> str:
    """A question with the nearest name, or an empty string."""
    near = difflib.get_close_matches(key[:80], sorted(names), n=1)
    return f"Did you mean `{near[0]}`? " if near else ""


def known(name: str, value: Any, choices: Iterable[str]) -> str:
    """One of some names, or an error with those that are near it."""
    choices = set(choices)
    if not isinstance(value, str) or value not in choices:
        some = sorted(choice[:80] for choice in choices)[:1000]
        near = difflib.get_close_matches(quoted(value).strip("'"), some, n=3)
        raise ValueError(
            f"`{name}` must be one of those known, such as "
            f"{', '.join(near) or listed(choices)}, but got {quoted(value)}."
        )
    return value


class Settings:
    """The keys of a configuration, with the defaults of its model type.

    A key that is null is as one that is not there. Each is checked as it is read, so
    that an error can name it.
    """

    def __init__(
        self,
        keys: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        inside: str = "",
    ):
        self.keys = {key: value for key, value in keys.items() if value is not None}
        self.defaults = dict(defaults or {})
        self.inside = inside
        # `read` collects all keys that were asked for, so that unread keys can be
        # reported.
        self.read: set[str] = set()
        # Keys that only inference engines read are handled by "apply", "ignore" or
        # None.
        self.engine_keys: str | None = None
        # Keys of a composite configuration around the part that has these keys.
        self.around: dict[str, Any] = {}
        # The rope settings of all layers are read once, and not once for each kind.
        self.rope: tuple[dict[str, Any], bool] | None = None

    def has(self, key: str) -> bool:
        """Whether the configuration itself has the key."""
        self.read.add(key)
        return key in self.keys

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.keys.get(key, self.defaults.get(key, default))

    def changed(self, keys: Mapping[str, Any]) -> "Settings":
        """The same with other values for some keys."""
        made = Settings({**self.keys, **keys}, self.defaults, self.inside)
        made.read, made.engine_keys = self.read, self.engine_keys
        return made

    def without(self, keys: Iterable[str]) -> "Settings":
        """The same without some keys, which have no effect."""
        made = self.changed(dict.fromkeys(keys))
        made.rope = self.rope
        return made

    def _needed(self, key, default):
        value = self.get(key, default)
        if value is None:
            raise ValueError(
                f"`{self._name(key)}` must be given, as the model type has no default "
                f"for it, but got keys {listed(self.keys)}."
            )
        return value

    def _name(self, key: str) -> str:
        key = key[:80]
        return f"{self.inside}.{key}" if self.inside else key

    def _refuse(self, key: str, rule: str, value: Any):
        raise ValueError(f"`{self._name(key)}` must {rule}, but got {quoted(value)}.")

    def integer(
        self, key: str, default: int | None = None, *, most: int = 2**62, least: int = 1
    ) -> int:
        value = self._needed(key, default)
        # Some files store integers as floats.
        whole = isinstance(value, float) and value.is_integer()
        if isinstance(value, bool) or not (isinstance(value, int) or whole):
            self._refuse(key, "be an integer", value)
        if not least <= value <= most:
            self._refuse(key, f"be between {least} and {most}", value)
        return int(value)

    def width(self, key: str) -> int:
        return self.integer(key, most=WIDEST)

    def number(
        self,
        key: str,
        default: float | None = None,
        *,
        least: float = 0.0,
        above: float | None = None,
    ) -> float:
        value = self._needed(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(key, "be a number", value)
        # `math.isfinite` raises an OverflowError for an integer beyond float64.
        if isinstance(value, int) and abs(value) > 2**1000:
            self._refuse(key, "be finite", value)
        if not math.isfinite(value):
            self._refuse(key, "be finite", value)
        if above is not None and not value > above:
            self._refuse(key, f"be above {above}", value)
        if value < least:
            self._refuse(key, f"be at least {least}", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._needed(key, default)
        if not isinstance(value, bool):
            self._refuse(key, "be true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._needed(key, default)
        if not isinstance(value, str):
            self._refuse(key, "be a string", value)
        return value

    def choice(self, key: str, choices: tuple[str, ...], default: str) -> str:
        value = self.text(key, default)
        check_choice(self._name(key), value, choices)
        return value

    def items(self, key: str, most: int = WIDEST) -> list[Any]:
        value = self._needed(key, None)
        if not isinstance(value, list | tuple):
            self._refuse(key, "be a list", value)
        if len(value) > most:
            self._refuse(key, f"have at most {most} entries", f"{len(value)} of them")
        return list(value)

    def numbers(self, key: str, *, above: float | None = None) -> tuple[float, ...]:
        return tuple(
            Settings({key: value}, inside=self.inside).number(key, above=above)
            for value in self.items(key)
        )

    def integers(self, key: str, *, least: int = 0) -> tuple[int, ...]:
        return tuple(
            Settings({key: value}, inside=self.inside).integer(
                key, least=least, most=WIDEST
            )
            for value in self.items(key)
        )

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._needed(key, None)
        if not isinstance(value, Mapping):
            self._refuse(key, "be an object", value)
        if not all(isinstance(name, str) for name in value):
            self._refuse(key, "have strings for keys", list(value))
        return dict(value)

    def only(self, allowed: Iterable[str], why: str) -> None:
        """Nothing is ignored: a key without effect is an error that names it."""
        for key in self.keys:
            if key not in allowed:
                text = (
                    f"`{self._name(key)}` must not be there: {why} has no such key, "
                    f"but {', '.join(sorted(allowed))}; got {quoted(self.keys[key])}. "
                    f"{meant(key, allowed)}"
                )
                raise ValueError(text.rstrip())
