"""What `load` builds beside what transformers does, table by table."""

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import eqx_posemb as pe
from eqx_posemb.interop import huggingface


# Powers in float32 differ by up to 20 ulp between torch, NumPy and JAX.
FREQUENCIES = 3e-6
# Beside what their frequencies, of 24 bits, are off by, times the position.
NEAR, MAPS = 512, 2e-5
# Products of equal float32 numbers differ by their cosines alone.
GIVEN = 1e-6


class Given(pe.frequencies.AbstractFrequencies):
    """Frequencies of transformers, as float32 numbers."""

    values: Any

    def turns(self):
        return jnp.asarray(self.values, jnp.float32)

    def __call__(self):
        return self.turns()


@dataclasses.dataclass
class Table:
    """A measured table, as the golden files have it."""

    positions: np.ndarray
    maps: np.ndarray
    frequencies: np.ndarray | None = None
    weight: np.ndarray | None = None


def loaded(config: Any, layer_type: str | None, quirks: bool, model_type=None) -> list:
    """The rotary embeddings of the layers in question: all that rotate, by default."""
    told = {"quirks": quirks, "model_type": model_type}
    types = huggingface.layer_types(config, model_type=model_type)
    asked = dict.fromkeys(types) if layer_type is None else [layer_type]
    found = []
    for each in asked:
        rotary = huggingface.load(config, layer_type=each, **told).rotary
        rotary = rotary.parts[0] if isinstance(rotary, pe.rotations.Chain) else rotary
        if isinstance(rotary, pe.Rotary):
            found.append(rotary)
    if not found and layer_type is None:
        found.append(huggingface.load(config, **told).rotary)
    return found


def difference(rotary: pe.Rotary, table: Table) -> str | None:
    """What is not equal to within the tolerances; None if all is."""
    if table.weight is not None:
        learned = pe.frequencies.LearnedFrequencies(table.weight.T.reshape(-1))
        rotary = eqx.tree_at(lambda r: r.frequencies, rotary, learned)
    positions = np.abs(table.positions).reshape(len(table.positions), -1).max(-1)
    near = positions < NEAR
    if table.frequencies is None:
        return _error(rotary, table, np.where(near, MAPS, np.inf))
    ours = np.asarray(rotary.frequencies(), np.float64)
    theirs = _nearest(ours, table.frequencies)
    bound = MAPS + np.abs(theirs - ours).max() * positions
    error = _error(rotary, table, np.where(near, bound, np.inf))
    if error is not None:
        return error
    turning = ours > 0
    worst = np.abs(theirs[turning] / ours[turning] - 1).max(initial=0)
    missing = np.setdiff1d(table.frequencies, theirs)
    if worst > FREQUENCIES or missing.any():
        return f"frequencies off by {worst:.1e}"
    if table.positions.dtype.kind == "f":
        return None
    schedule = Given(np.float32(theirs))
    given = dataclasses.replace(rotary, frequencies=schedule, arithmetic="float32")
    return _error(given, table, np.full(len(positions), GIVEN))


def _nearest(ours, theirs) -> np.ndarray:
    """Theirs in the order of ours: some of their classes have another."""
    return theirs[np.abs(ours[:, None] - theirs[None]).argmin(-1)].astype(np.float64)


def _error(rotary, table, bounds) -> str | None:
    """The error at the first position where it is beyond its bound."""
    width = table.maps.shape[-1]
    if width > rotary.dim:
        return f"{rotary.dim} channels for {width}"
    ours = _maps(rotary, table.positions)
    # Theirs may be of the rotated slice alone, which lies at either end of a head.
    worst = ""
    for start in (0, rotary.dim - width):
        full = np.tile(np.eye(rotary.dim), (len(ours), 1, 1))
        full[:, start : start + width, start : start + width] = table.maps
        errors = np.abs(ours - full).max((-1, -2))
        if (errors <= bounds).all():
            return None
        at = int((errors / bounds).argmax())
        worst = f"maps off by {errors[at]:.1e} at {table.positions[at]}"
    return worst


@eqx.filter_jit
def _turned(rotation, x):
    return rotation.queries(x)


def _maps(rotary, positions) -> np.ndarray:
    kind = jnp.int32 if positions.dtype.kind == "i" else jnp.float32
    rotation = rotary(jnp.asarray(positions, kind), length=1)
    # A head for each channel.
    eye = jnp.eye(rotary.dim, dtype=jnp.float32)[:, None]
    x = jnp.broadcast_to(eye, (rotary.dim, len(positions), rotary.dim))
    return np.asarray(_turned(rotation, x), np.float64).swapaxes(0, 1)


class Golden:
    """The measured tables of every model type that rotates, and what they came from."""

    def __init__(self, folder: Path):
        facts = json.loads(gzip.decompress((folder / "hf_census.json.gz").read_bytes()))
        self.model_types: dict[str, dict] = facts["model_types"]
        self.entries: list[dict] = facts["entries"]
        with np.load(folder / "hf_census.npz") as arrays:
            self.arrays = dict(arrays)
        self._known: dict[tuple[str, int], str | None] = {}

    def table(self, index: int) -> Table:
        part: Any = lambda name: self.arrays.get(f"{index}.{name}")
        joined, values = part("joined"), part("values")
        width = int(part("width"))
        maps = np.zeros((len(values), width, width))
        maps[:, joined[:, 0], joined[:, 1]] = values
        return Table(part("positions"), maps, part("frequencies"), part("weight"))

    def differences(self, model_type: str, quirks: bool) -> list[str]:
        """What differs in each table of a model type; empty if nothing does."""
        found = self.model_types[model_type]
        differences = []
        for path, entry in found["rotary"].items():
            part = part_at(found["config"], path)
            name = None if part.get("model_type") else UNNAMED[path.split(".")[-1]]
            for row in self.entries[entry]["tables"]:
                said = self._of_layer(part, row, quirks, name)
                if said:
                    differences.append(f"{path} {row['layer_type'] or ''}: {said}")
        return differences

    def _of_layer(self, config, row, quirks, name) -> str | None:
        try:
            rotaries = loaded(config, row["layer_type"], quirks, name)
        except ValueError as reason:
            return str(reason)
        if not rotaries:
            return "nothing rotates"
        return next(filter(None, (self._said(r, row["table"]) for r in rotaries)), None)

    def _said(self, rotary, index) -> str | None:
        key = jax.tree.structure(rotary), index
        if key not in self._known:
            self._known[key] = difference(rotary, self.table(index))
        return self._known[key]


# Parts that a configuration has without a model type.
UNNAMED = {
    "protein_encoder_config": "saprot",
    "atom_encoder": "esmfold2_atom_encoder",
}


def part_at(config: dict, path: str) -> dict:
    for name in filter(None, path.split(".")):
        config = config[name]
    return config
