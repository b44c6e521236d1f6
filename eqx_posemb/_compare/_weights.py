"""Training states on disk, from which a run that was stopped goes on."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from . import _devices
from ._report import write
from ._train import State


class Weights(NamedTuple):
    """A file of a training state, and what the state must have been trained by."""

    path: Path | None
    identity: dict[str, Any]

    def save(self, state: State, *, finished: bool) -> None:
        """Writes the state behind a line of JSON. A finished one has no optimizer."""
        if self.path is None or not _devices.writes():
            return
        head = {
            "identity": self.identity,
            "finished": finished,
            "losses": state.losses,
        }

        def content(file):
            # The line of JSON comes first, so that a state of other settings is refused
            # before it is read.
            file.write(json.dumps(head).encode() + b"\n")
            eqx.tree_serialise_leaves(file, _kept(state, finished))

        write(self.path, content)

    def load(self, like: State) -> State | None:
        """The state, on every process; nothing if there is none of that identity."""
        found = self._read(like) if _devices.writes() else None
        if not _devices.agreed(found is not None):
            return None
        state = like if found is None else found
        losses = _devices.agreed(state.losses)
        model, optimizer = _devices.agreed_arrays(state[:2])
        return State(model, optimizer, losses)

    def _read(self, like):
        if self.path is None:
            return None
        try:
            with self.path.open("rb") as file:
                head = json.loads(file.readline())
                if head["identity"] != self.identity:
                    return None
                kept = _kept(like, head["finished"])
                model, *rest = eqx.tree_deserialise_leaves(file, kept)
                optimizer = rest[0] if rest else like.optimizer
                return State(model, optimizer, head["losses"])
        # A damaged or older file counts as missing, and training starts anew.
        except (OSError, ValueError, TypeError, KeyError, RuntimeError):
            return None


def _kept(state: State, finished: bool) -> PyTree:
    # No further step needs the optimizer, which is twice as large as a model.
    return [state.model] if finished else [state.model, state.optimizer]
