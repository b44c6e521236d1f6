"""What a configuration says of positions, as numbers and names."""

import math
from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax
import numpy as np

from .._rotary import Chain, Pairing, Rotary, Sections
from ..interop.huggingface import layer_types, load
from ..interop.huggingface._layers import NO_ATTENTION, ROTATES
from ..interop.huggingface._load import made_of
from ..interop.huggingface._parts import part_of
from ..interop.huggingface._rows import MOST_LAYERS
from ..interop.huggingface._unread import unread_around
from ._schedule import fates, float32_error, float32_limit, numbers


Facts = dict[str, Any]
NOTICED = 1e-3
"""Errors of an angle beyond this number of radians get a warning. It is a quarter of
the largest rounding error of a cosine in bfloat16."""


def facts_of(
    keys: Mapping[str, Any],
    model_type: str | None,
    engine_keys: Literal["apply", "ignore"] | None = None,
    part: str | None = None,
) -> Facts:
    """All that is reported but for the warnings, ready to be JSON."""
    keys = dict(keys)
    settings, own = part_of(keys, model_type, part)
    row = settings.row
    kinds = layer_types(keys, model_type=model_type, part=part)
    settings.engine_keys = engine_keys
    unread = made_of(settings, kinds[0])[1] if kinds else {}
    around = unread_around(settings, keys, model_type)
    # `load` refuses keys that nothing reads, and the report lists them.
    keys = {key: value for key, value in settings.keys.items() if key not in unread}
    length = settings.get(row.get("length", "max_position_embeddings"))
    context = length if isinstance(length, int) and length > 0 else None
    found = []
    for kind in dict.fromkeys(kinds):
        layers = [i for i, other in enumerate(kinds) if other == kind]
        facts: Facts = {"layer_type": kind, "layers": layers}
        facts["attention"] = kind not in NO_ATTENTION
        if facts["attention"]:
            window = _window(kind, settings, row)
            seen = _windowed(layers, settings, row) if window else []
            facts["window"] = window if seen else None
            facts["window_layers"] = seen
            facts["chunk"] = _chunk(kind, settings)
            sinks = row.get("sinks", ())
            facts["sinks"] = sinks is True or kind in sinks
            facts |= _loaded(keys, own, kind, context, engine_keys)
        found.append(facts)
    return {
        "model_type": own,
        "layer_count": len(kinds),
        "context": context,
        "unread": around | unread,
        "kinds": found,
    }


def _loaded(keys, model_type, kind, context, engine_keys) -> Facts:
    told = dict(model_type=model_type, layer_type=kind)
    made = load(keys, **told, engine_keys=engine_keys)
    # The comparison tells whether transformers deviates from the configuration.
    theirs = load(keys, **told, quirks=True)
    slots = dict(encoding=made.encoding, bias=made.bias, score=made.score)
    rotary = made.rotary
    parts = rotary.parts if isinstance(rotary, Chain) else (rotary,)
    return {
        "as_transformers": bool(eqx.tree_equal(made, theirs)),
        "logit_scale": made.scale,
        **{place: _settings(part) for place, part in slots.items() if part is not None},
        "rotary": [_rotary(part, context) for part in parts if part is not None],
    }


def _settings(part) -> Facts:
    """The class of a part, its settings, and the shapes of what it learns."""
    found: Facts = {"class": type(part).__name__}
    for name, value in vars(part).items():
        if isinstance(value, bool | int | float | str):
            found[name] = value
        elif isinstance(value, jax.Array):
            found[name] = list(value.shape)
    return found


def _rotary(rotary, context: int | None) -> Facts:
    if not isinstance(rotary, Rotary):
        return _settings(rotary)
    schedule, pairing = rotary.frequencies, rotary.pairing
    learned = any(map(eqx.is_inexact_array, jax.tree.leaves(schedule)))
    angles = schedule.pairs
    if rotary.axes is not None:
        angles = rotary.axes.frequency(angles).shape[-1]
    # Without a context, the schedule is for a short text.
    now = schedule if context is None else schedule.for_length(context)
    still = 0 if learned else int(np.sum(numbers(now) == 0))
    facts: Facts = {
        "class": "Rotary",
        "schedule": type(schedule).__name__,
        "head_dim": rotary.dim,
        # Pairs with a frequency of zero pass through.
        "rotated": min(2 * angles, rotary.dim) - 2 * still,
        "pairing": "its own" if isinstance(pairing, Pairing) else pairing,
        "attention_factor": rotary.scale,
        "coordinates": 1 if rotary.axes is None else rotary.axes.coordinates,
        "dynamic": schedule.dynamic,
    }
    if isinstance(rotary.axes, Sections):
        facts["sections"] = list(rotary.axes.sizes)
        facts["order"] = rotary.axes.order
    if learned:
        return facts
    base = schedule.unscaled
    facts["theta"] = getattr(getattr(base, "base", base), "theta", None)
    facts["original_length"] = getattr(schedule, "original_length", None)
    facts["factor"] = now.scaling_factor
    return facts | _numbers(schedule, now, context)


def _numbers(schedule, now, context) -> Facts:
    """How fast the pairs turn, in a context of that length."""
    frequencies = numbers(now)
    facts: Facts = {"frequencies": {"count": len(frequencies)}}
    for fate, which in fates(now).items():
        ends = [int(which[0]), int(which[-1])] if len(which) else None
        found = frequencies[which]
        waves = None
        if len(found) and fate != "still":
            waves = [2 * math.pi / float(f) for f in (found.max(), found.min())]
        facts["frequencies"][fate] = dict(
            count=len(which), indices=ends, wavelengths=waves
        )
    moving = frequencies[frequencies > 0]
    facts["longest_wavelength"] = 2 * math.pi / float(moving.min(initial=math.inf))
    trained = getattr(schedule, "original_length", None) or context
    if trained is not None:
        first = numbers(schedule.unscaled)
        facts["unfinished"] = int(np.sum((first > 0) & (first * trained < 2 * math.pi)))
    if context is not None:
        facts["turns_of_slowest"] = context / facts["longest_wavelength"]
        facts["float32_error"] = float32_error(frequencies, context)
        facts["float32_limit"] = float32_limit(frequencies, NOTICED)
    return facts


def _window(kind: str, settings, row) -> int | None:
    """How many keys a query of these layers sees, where the configuration says so."""
    if kind == "full_attention" or settings.get("use_sliding_window") is False:
        return None
    if kind != "sliding_attention" and settings.has("layer_types"):
        return None
    return _count(settings.get(row.get("window", "sliding_window")))


def _windowed(layers: list[int], settings, row) -> list[int]:
    """Which of the layers have the window."""
    first = _count(settings.get("max_window_layers"))
    if settings.has("layer_types") or "pattern" in row:
        return layers
    if first is not None:
        return [i for i in layers if i >= first]
    pattern = row.get("windows", ["sliding_attention"])
    # Only GPT-Neo counts its patterns, as in [[["global", "local"], 12]].
    if "window" in row and isinstance(counted := settings.get("attention_types"), list):
        names = _expanded(counted) or pattern
        pattern = ["sliding_attention" if name == "local" else name for name in names]
    return [i for i in layers if pattern[i % len(pattern)] == "sliding_attention"]


def _expanded(counted: list) -> list[Any]:
    """The repetitions of each pattern. Files by strangers may hold anything."""
    match counted:
        case [[list(names), int(times)], *others]:
            return names * min(times, MOST_LAYERS) + _expanded(others)
    return []


def _chunk(kind: str, settings) -> int | None:
    """The chunk length of layers with chunked attention, such as the rotating layers of
    Llama 4."""
    if kind not in ("chunked_attention", ROTATES):
        return None
    return _count(settings.get("attention_chunk_size"))


def _count(value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
