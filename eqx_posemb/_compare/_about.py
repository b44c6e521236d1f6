"""What results say beside numbers: settings, versions, the machine and the text."""

import os
import platform
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from .._catalogue import Refused
from .._positions._consecutive import consecutive
from . import _devices, _report
from ._entries import Entry, fingerprint, Sizes
from ._model import at, decoder, forward
from ._settings import Settings
from ._text import evaluated


def of_entry(entry: Entry, settings: Settings) -> dict[str, Any]:
    """What is known of an embedding before it is trained.

    It finds out before the first training what would fail at the last.
    """
    sizes = Sizes.of(settings, settings.length)
    # Training builds the embedding from the same key, so the fingerprints agree.
    key = jr.fold_in(jr.key(settings.seed), 1)
    try:
        embedding = entry.build(sizes, key)
        tested = entry.at(embedding, settings.multiples[-1], settings.length)
        # Tracing finds mistakes without a computation.
        eqx.filter_eval_shape(_traced, tested, settings, key)
    except ValueError as error:
        raise Refused(f"{entry.name} cannot be compared on text: {error}") from error
    return {
        "trained_as": entry.base,
        "trained_from": fingerprint(embedding),
        "fingerprint": fingerprint(tested),
        "embedding": str(tested),
        "settings": entry.settings(sizes),
        "source": entry.source,
        "scores": {},
        "not_possible": {},
        "training_loss": {},
        "hardly_learnt": [],
        "seconds": {},
    }


def _traced(embedding, settings, key):
    """The logits of a model of these settings."""
    model = decoder(embedding, settings, vocabulary=2, key=key)
    there = at(embedding, consecutive(settings.length), settings.dim)
    tokens = jnp.zeros((1, settings.length), jnp.int32)
    return forward(model.weights, there, tokens, settings.heads)


def identity(settings, text):
    """What has to be the same for results to stand in one table."""
    values = settings.as_json()
    # A later run may add tasks to a folder, so tasks are no part of the identity.
    del values["tasks"]
    of_text = {} if text is None else {"text": text.sha256[:16]}
    dtype = str(_devices.computing_dtype())
    return {**values, **of_text, "dtype": dtype, **_report.versions()}


def fresh(settings, tasks, text, command, identity):
    """Results without a number."""
    results = {
        "command": command,
        "identity": identity,
        "settings": settings.as_json(),
        "versions": _report.versions(),
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "devices": f"{jax.device_count()} × {jax.devices()[0].device_kind}",
            "dtype": str(_devices.computing_dtype()),
        },
        "tasks": {
            task.name: {
                "measure": task.measure,
                "length": task.length(settings),
                "threshold": task.threshold,
                "about": task.about,
            }
            for task in tasks
        },
        "results": {},
    }
    if text is not None:
        results["text"] = {
            "source": text.source,
            "sha256": text.sha256,
            "training_bytes": len(text.training),
            "held_out_bytes": len(text.held_out),
            "evaluated_bytes": evaluated(text, settings.longest, settings.passages),
            "training_files": list(text.training_files),
            "held_out_files": list(text.held_out_files),
        }
    return results


def count(tree):
    arrays = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return sum(array.size for array in arrays)
