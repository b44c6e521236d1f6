"""Every model type of the installed transformers, beside what `load` builds.

    python -m benchmarks.hf_census            compares, and prints a line for each type
    python -m benchmarks.hf_census --golden   and writes tests/golden/hf_census.*
    python -m benchmarks.hf_census --written  compares with these files, in less time

Each model type is built from its default configuration on the `meta` device, with no
weights and no network, and its rotary modules are collected with the configurations
that they were given. Each distinct one is then built on the CPU and measured. What a
type has that does not rotate is in `hf_states.py`.
"""

import argparse
import gzip
import importlib
import inspect
import json
import logging
import re
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import CONFIG_MAPPING

from benchmarks.hf_compare import Golden
from benchmarks.hf_measure import config_of, measure, SPECIAL, Table
from benchmarks.hf_models import (
    config_for,
    MODELS,
    models_of,
    on_meta,
    package_of,
    parts_in,
    plain,
)
from benchmarks.hf_states import print_states


GOLDEN = Path(__file__).parent.parent / "tests" / "golden"
SPARSE = 1e-7


class Census:
    """Finds the rotary modules of each model type, and measures each distinct one."""

    def __init__(self):
        self.classes: dict[str, type] = {}
        self.seen: dict[type, set[type]] = {}
        self.tables: dict[str, list[Table]] = {}
        self.arguments: dict[str, tuple] = {}
        self.packages: set[str] = set()
        for path in sorted(MODELS.glob("*/modeling_*.py")):
            if re.search(r"rotary|rope|rotate_", path.read_text(), re.IGNORECASE):
                self._collect(f"transformers.models.{path.parent.name}.{path.stem}")

    def _collect(self, name: str) -> None:
        try:
            module = importlib.import_module(name)
        except Exception as reason:  # A model that wants a package not installed.
            print(f"not importable: {name}: {reason!r}"[:120])
            return
        for key, value in vars(module).items():
            if not (inspect.isclass(value) and issubclass(value, torch.nn.Module)):
                continue
            named = re.search("Rotary|Rope|RoPE", key)
            attention = re.search("(Attention|Self|Cross)$", key)
            rotary = (named and not attention) or key in SPECIAL
            if rotary and value.__module__ == name:
                _remember_arguments(value)
                self.classes[f"{name}.{key}"] = value
                self.packages.add(name.rsplit(".", 1)[0])

    def find(self, model_type: str, fallback: bool) -> list[tuple] | None:
        """The rotary modules with their arguments; None if no model can be built."""
        try:
            config = config_for(model_type)
        except Exception:  # A whole that names a part which does not exist.
            return []
        classes = models_of(model_type, config)[:6]
        parts = [type(part) for part in (config, *dict(parts_in(config)).values())]
        if not self.packages & {package_of(cls) for cls in parts + classes}:
            return []
        model = on_meta(model_type, classes)
        if model is not None:
            return self._held(model)
        return self._guessed(config) if fallback else None

    def _held(self, model) -> list[tuple]:
        found: dict[str, tuple] = {}
        for module in model.modules():
            if type(module) not in self.classes.values():
                continue
            args, kwargs = module._given
            config = config_of(args, kwargs)
            self.seen.setdefault(type(config), set()).add(type(module))
            found.setdefault(_key(type(module), config), (type(module), args, kwargs))
        return list(found.values())

    def _guessed(self, config) -> list[tuple]:
        """By the classes seen with, or annotated for, each part of a configuration."""
        found = []
        for part in [config, *dict(parts_in(config)).values()]:
            classes = self.seen.get(type(part)) or {
                cls for cls in self.classes.values() if _takes(cls) is type(part)
            }
            for cls in sorted(classes, key=lambda cls: cls.__name__):
                try:
                    cls(part)
                except Exception:
                    continue
                found.append((cls, (part,), {}))
        return found

    def entry(self, cls, args, kwargs) -> str:
        key = _key(cls, config_of(args, kwargs))
        if key not in self.tables:
            self.tables[key] = measure(cls, args, kwargs)
            self.arguments[key] = (cls, args, kwargs)
        return key

    def rotating(self) -> dict[str, dict[str, Any]]:
        """Of each model type that rotates: its configuration, and where it does."""
        found = {name: self.find(name, False) for name in CONFIG_MAPPING.keys()}
        result = {}
        for name, modules in found.items():
            modules = self.find(name, True) if modules is None else modules
            if modules:
                config = config_for(name)
                entries = {self.entry(*made): made for made in modules}
                rotary = {}
                for entry, (_, args, kwargs) in entries.items():
                    for path in _where(config, config_of(args, kwargs)):
                        rotary[path] = entry
                # Some models make the configuration of a part as they are built.
                for entry in entries.keys() - rotary.values():
                    rotary.setdefault("", entry)
                result[name] = {"config": plain(config), "rotary": rotary}
        return result


def _remember_arguments(cls: type) -> None:
    made: Any = cls.__init__

    def init(self, *args, **kwargs):
        made(self, *args, **kwargs)
        if "_given" not in self.__dict__:
            object.__setattr__(self, "_given", (args, kwargs))

    vars(init)["__wrapped__"] = made
    cls.__init__ = init


def _takes(cls: type) -> type | None:
    parameters = list(inspect.signature(cls.__init__).parameters.values())[1:2]
    annotation = parameters[0].annotation if parameters else None
    if isinstance(annotation, str):
        annotation = getattr(inspect.getmodule(cls), annotation, None)
    return annotation


def _where(config, given) -> list[str]:
    """Dotted paths to the part that a rotary class was given; "" is the whole."""
    parts = {"": config, **dict(parts_in(config))}
    return [path for path, part in parts.items() if _text(part) == _text(given)]


def _text(config) -> str:
    return "" if config is None else json.dumps(plain(config), sort_keys=True)


def _key(cls, config) -> str:
    return f"{cls.__module__}.{cls.__name__} {_text(config)}"


def write_golden(
    census: Census, rotating: dict[str, dict[str, Any]], folder: Path
) -> None:
    """Equal tables once, as the channels that a map joins and its numbers there."""
    arrays: dict[str, np.ndarray] = {}
    known: dict[bytes, int] = {}
    numbers = {key: index for index, key in enumerate(census.tables)}
    entries = []
    for key, tables in census.tables.items():
        rows = []
        for table in tables:
            maps = table.maps
            joined = np.argwhere((np.abs(maps) > SPARSE).any(0)).astype(np.int16)
            values = maps[:, joined[:, 0], joined[:, 1]].astype(np.float32)
            parts = {"positions": table.positions, "joined": joined, "values": values}
            parts["width"] = np.array(maps.shape[-1])
            if table.frequencies is not None:
                parts["frequencies"] = table.frequencies.astype(np.float32)
            parts |= table.extra
            content = b"".join(
                name.encode() + array.tobytes() for name, array in parts.items()
            )
            index = known.setdefault(content, len(known))
            arrays |= {f"{index}.{name}": array for name, array in parts.items()}
            rows.append({"layer_type": table.layer_type, "table": index})
        entries.append({"class": census.arguments[key][0].__name__, "tables": rows})
    for found in rotating.values():
        found["rotary"] = {path: numbers[key] for path, key in found["rotary"].items()}
    save: Any = np.savez_compressed
    save(folder / "hf_census.npz", **arrays)
    facts = {
        "transformers": transformers.__version__,
        "model_types": rotating,
        "entries": entries,
    }
    text = json.dumps(facts, separators=(",", ":"), sort_keys=True)
    (folder / "hf_census.json.gz").write_bytes(gzip.compress(text.encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("--written", action="store_true")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)
    if options.written:
        found = Golden(GOLDEN)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            found = measured(GOLDEN if options.golden else Path(temporary))
    wrong = report(found)
    print_states({name: name not in wrong for name in found.model_types})


def measured(folder: Path) -> Golden:
    """What every model type that rotates does, in files of a folder."""
    census = Census()
    rotating = census.rotating()
    print(f"{len(rotating)} model types rotate, of {len(CONFIG_MAPPING.keys())}")
    print(f"{len(census.tables)} classes and configurations, all measured")
    write_golden(census, rotating, folder)
    return Golden(folder)


def report(found: Golden) -> set[str]:
    """Prints what differs, and returns the model types that differ with quirks."""
    wrong = {}
    for quirks in False, True:
        wrong = {
            name: differences
            for name in found.model_types
            if (differences := found.differences(name, quirks))
        }
        count = len(found.model_types)
        print(f"quirks={quirks}: {count - len(wrong)} of {count}")
        for name, differences in wrong.items():
            print(f"  {name}: {differences[0]}"[:160])
    return set(wrong)


if __name__ == "__main__":
    main()
