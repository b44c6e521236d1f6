"""What `load` builds beside what transformers does, table by table."""

import dataclasses
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

import eqx_posemb as pe
from eqx_posemb.interop import huggingface


# Powers in float32 differ by up to 20 ulp between torch, NumPy and JAX.
FREQUENCIES = 3e-6
# Below position 300 a float32 angle of theirs is off by 2e-5 at most, below 512 by 4e-5.
NEAR, MAPS = 512, 2e-5
ANGLES = 7e-8
# Products of the same float32 numbers: what is left are cosines.
GIVEN = 1e-6


class Given(pe.AbstractFrequencies):
    """Frequencies as float32 numbers of theirs, and so with products in float32."""

    values: Any

    def turns(self, length=None):
        return jnp.asarray(self.values, jnp.float32)

    def __call__(self, length=None):
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
        rotary = rotary.parts[0] if isinstance(rotary, pe.Chain) else rotary
        if isinstance(rotary, pe.Rotary):
            found.append(rotary)
    if not found and layer_type is None:
        found.append(huggingface.load(config, **told).rotary)
    return found


def difference(rotary: pe.Rotary, table: Table) -> str | None:
    """What is not equal to within the tolerances; None if all is."""
    if table.weight is not None:
        learned = pe.LearnedFrequencies(table.weight.T.reshape(-1))
        rotary = eqx.tree_at(lambda r: r.frequencies, rotary, learned)
    near = (np.abs(table.positions) < NEAR).reshape(len(table.positions), -1).all(-1)
    if table.frequencies is not None:
        ours, theirs = _distinct(rotary.frequencies()), _distinct(table.frequencies)
        if ours.shape != theirs.shape:
            return f"{ours.size} frequencies for {theirs.size}"
        error = np.abs(ours / theirs - 1).max(initial=0)
        if error > FREQUENCIES:
            return f"frequencies off by {error:.1e}"
    error = _error(rotary, table.positions[near], table.maps[near])
    if isinstance(error, str) or error > MAPS:
        return error if isinstance(error, str) else f"maps off by {error:.1e}"
    return None


def _distinct(frequencies) -> np.ndarray:
    values = np.asarray(frequencies, np.float64)
    return np.unique(np.float32(values[values != 0])).astype(np.float64)


def _error(rotary, positions, maps) -> float | str:
    width = maps.shape[-1]
    if width > rotary.dim:
        return f"{rotary.dim} channels for {width}"
    ours = _maps(rotary, positions)
    # Theirs may be of the rotated slice alone, which lies at either end of a head.
    for start in {0, rotary.dim - width}:
        full = np.tile(np.eye(rotary.dim), (len(maps), 1, 1))
        full[:, start : start + width, start : start + width] = maps
        error = float(np.abs(ours - full).max())
        if error < MAPS:
            return error
    return error


def _maps(rotary, positions) -> np.ndarray:
    kind = jnp.int32 if np.issubdtype(positions.dtype, np.integer) else jnp.float32
    rotation = rotary(jnp.asarray(positions, kind), length=1)
    eye = jnp.eye(rotary.dim, dtype=jnp.float32)
    x = jnp.broadcast_to(eye, (len(positions), rotary.dim, rotary.dim))
    return np.asarray(rotation.queries(x), np.float64)
