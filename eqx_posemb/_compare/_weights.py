"""Trained weights on disk, so that a resumed run does not train again."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx

from .._catalogue import Refused
from ._model import Decoder


Curve = dict[str, list[Any]]


class Weights(NamedTuple):
    """A file of weights, and what they have to have been trained by to be of use."""

    path: Path
    identity: dict[str, Any]

    def save(self, model: Decoder, curve: Curve) -> None:
        """Writes the weights behind a line of JSON with the loss curve."""
        beside = self.path.with_name(f".{self.path.name}")
        head = json.dumps({"identity": self.identity, "training_loss": curve})
        try:
            with beside.open("wb") as file:
                file.write(head.encode("utf-8") + b"\n")
                eqx.tree_serialise_leaves(file, model)
            beside.replace(self.path)
        except OSError as error:
            raise Refused(
                f"cannot write {str(self.path)!r}: {error.strerror}."
            ) from error

    def load(self, like: Decoder) -> tuple[Decoder, Curve] | None:
        """The model and its loss curve; nothing if there are none of that identity."""
        try:
            with self.path.open("rb") as file:
                head = json.loads(file.readline())
                if head["identity"] != self.identity:
                    return None
                return eqx.tree_deserialise_leaves(file, like), head["training_loss"]
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None
