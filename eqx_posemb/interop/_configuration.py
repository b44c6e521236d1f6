"""Reads the keys of a configuration, and checks each as it is read."""

import copy
import difflib
import json
import math
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from .. import _checks


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
        rule = "have a method `to_dict` that returns a dictionary"
        require(isinstance(config, Mapping), "config", rule, config)
    return _named("config", config)


def _named(name: str, keys: Mapping[Any, Any]) -> dict[str, Any]:
    """The same keys, which have to be strings."""
    fine = all(isinstance(key, str) for key in keys)
    require(fine, name, "have strings for keys", list(keys))
    return dict(keys)


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
    except (RecursionError, ValueError) as reason:
        rule = "be JSON"
        if isinstance(reason, RecursionError):
            rule = "be JSON that is not nested deeply"
        told = f"but got {shown}: {reason}"
        raise ValueError(f"`config` must {rule}, {told}.") from reason
    if not isinstance(keys, dict):
        raise ValueError(f"`config` must be a JSON object, but got {shown}.")
    return keys


def meant(key: str, names: Iterable[str]) -> str:
    """A question with the nearest name, or an empty string."""
    near = difflib.get_close_matches(key[:80], sorted(names), n=1)
    return f"Did you mean `{near[0]}`? " if near else ""


def require(fine: Any, name: str, rule: str, *found: Any, cure: str = "") -> None:
    """An error that names the argument, its rule, the values and the cure, unless all
    is fine."""
    if not fine:
        told = " and ".join(map(quoted, found))
        _checks.require(False, name, rule, cure=cure, words=told)


def known(
    name: str,
    value: Any,
    choices: Iterable[str],
    kind: str = "one of those known",
    cure: str = "",
) -> str:
    """One of some names, or an error with those that are near it."""
    choices = set(choices)
    if not isinstance(value, str) or value not in choices:
        some = sorted(choice[:80] for choice in choices)[:1000]
        near = difflib.get_close_matches(quoted(value).strip("'"), some, n=3)
        rule = f"be {kind}, such as {', '.join(near) or listed(choices)}"
        require(False, name, rule, value, cure=cure)
    return value


def agreed(found: Mapping[str, Any], needed: bool = True) -> Any:
    """What keys say, whose names `found` has: the same, or the first if none needs to.
    None if no key is there."""
    first = next(iter(found.values()), None)
    if needed and any(value != first for value in found.values()):
        names = " and ".join(f"`{name}`" for name in found)
        told = " and ".join(map(quoted, found.values()))
        raise ValueError(f"{names} must agree, but got {told}. Give only one of them.")
    return first


class Settings:
    """The keys of a configuration, with the row of its model type.

    A key that is null is as one that is not there, and so is a key that the row has as
    `lost`. Each is checked as it is read, so that an error can name it.
    """

    # Whether to reproduce transformers where it deviates.
    quirks = False
    # Keys that only inference engines read are handled by "apply", "ignore" or None.
    engine_keys: str | None = None
    # The rope settings of all layers are read once, and not once for each kind.
    rope: tuple[dict[str, Any], bool] | None = None

    def __init__(
        self, keys: Mapping[str, Any], row: Mapping[str, Any] = {}, inside: str = ""
    ):
        self.row, self.inside = row, inside
        self.defaults = row.get("defaults", {})
        # `read` collects all keys that were asked for, so that unread keys can be
        # reported.
        self.read: set[str] = {*row.get("lost", ())}
        self.keys = self._there(keys)
        # Keys of a composite configuration around the part that has these keys.
        self.around: dict[str, Any] = {}

    def _there(self, keys):
        there = {**keys, **dict.fromkeys(self.row.get("lost", ()))}
        return {key: value for key, value in there.items() if value is not None}

    def has(self, key: str) -> bool:
        """Whether the configuration itself has the key."""
        self.read.add(key)
        return key in self.keys

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return self.keys.get(key, self.defaults.get(key, default))

    def changed(self, keys: Mapping[str, Any]) -> "Settings":
        """The same with other values for some keys, or without those that are None."""
        made = copy.copy(self)
        made.keys, made.rope = self._there({**self.keys, **keys}), None
        return made

    def within(self, key: str, **defaults: Any) -> "Settings":
        """The settings in the object of that key."""
        return Settings(self.mapping(key), {"defaults": defaults}, inside=key)

    def told(
        self, read: Callable[..., Any], *keys: str, **limits: float
    ) -> dict[str, Any]:
        """What some keys say that are there, by their whole names."""
        return {self._name(key): read(key, **limits) for key in keys if self.has(key)}

    def require(self, fine: Any, key: str, rule: str, *found: Any) -> None:
        require(fine, self._name(key), rule, *found)

    def _needed(self, key, default):
        value = self.get(key, default)
        if value is None:
            raise ValueError(
                f"`{self._name(key)}` must be given, as the model type has no default "
                f"for it, but got keys {listed(self.keys)}."
            )
        return value

    def _name(self, key: str) -> str:
        return f"{self.inside}.{key[:80]}" if self.inside else key[:80]

    def integer(
        self, key: str, default: int | None = None, *, most: int = 2**62, least: int = 1
    ) -> int:
        value = self._needed(key, default)
        # Some files store integers as floats.
        whole = isinstance(value, float) and value.is_integer()
        fine = whole or (isinstance(value, int) and not isinstance(value, bool))
        self.require(fine, key, "be an integer", value)
        fine = least <= value <= most
        self.require(fine, key, f"be between {least} and {most}", value)
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
        fine = isinstance(value, int | float) and not isinstance(value, bool)
        self.require(fine, key, "be a number", value)
        # `math.isfinite` raises an OverflowError for an integer beyond float64.
        huge = isinstance(value, int) and abs(value) > 2**1000
        self.require(not huge and math.isfinite(value), key, "be finite", value)
        if above is not None:
            self.require(value > above, key, f"be above {above}", value)
        self.require(value >= least, key, f"be at least {least}", value)
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._needed(key, default)
        self.require(isinstance(value, bool), key, "be true or false", value)
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._needed(key, default)
        self.require(isinstance(value, str), key, "be a string", value)
        return value

    def items(self, key: str, most: int = WIDEST) -> list[Any]:
        value = self._needed(key, None)
        self.require(isinstance(value, list | tuple), key, "be a list", value)
        rule = f"have at most {most} entries"
        self.require(len(value) <= most, key, rule, len(value))
        return list(value)

    def numbers(self, key: str, *, above: float | None = None) -> tuple[float, ...]:
        return tuple(each.number(key, above=above) for each in self._each(key))

    def integers(self, key: str, *, least: int = 0) -> tuple[int, ...]:
        each = self._each(key)
        return tuple(one.integer(key, least=least, most=WIDEST) for one in each)

    def _each(self, key):
        return (Settings({key: one}, inside=self.inside) for one in self.items(key))

    def mapping(self, key: str) -> dict[str, Any]:
        value = self._needed(key, None)
        self.require(isinstance(value, Mapping), key, "be an object", value)
        return _named(self._name(key), value)

    def only(self, allowed: Iterable[str], why: str) -> None:
        """Nothing is ignored: a key without effect is an error that names it."""
        wrong = min(self.keys.keys() - {*allowed}, default=None)
        if wrong is not None:
            rule = f"not be there, as {why} has only {', '.join(sorted(allowed))}"
            cure = meant(wrong, allowed)
            require(False, self._name(wrong), rule, self.keys[wrong], cure=cure)
