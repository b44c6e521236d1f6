"""Keys of a configuration that speak of positions, and that nothing reads."""

import re
from collections.abc import Callable, Iterable
from typing import Any

from .._configuration import listed, meant, quoted, Settings, WIDEST
from ._rotaries import Layer
from ._width import rotates_as_much


_SPEAKS = re.compile(r"(^|_)(m|xd|no_?)?rope|rotary|alibi|(^|_)relative|xpos|yarn|_ntk")
# Settings of training and sizes of grids have these endings, and change no position.
_BESIDE = re.compile(r"_(dropout|sizes)$")
_FLAG = re.compile(r"(use_)?(rope|rotary)(_(pos|position|emb|embedding|embeddings))*$")
_AXES = re.compile(r"(use_)?(mrope|3d_rope|rope_3d)$")
_SHARE = re.compile(r"pct|percent|fraction|partial")
_OF_ROPE = ("rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor")
_TYPE = re.compile(r"^position_embeddings?_type$")


def unread(
    settings: Settings, row: dict[str, Any], layers: Callable[[], Iterable[Layer]]
) -> dict[str, Any]:
    """Keys that contradict the embedding, with their values.

    `layers` makes all layers, for all their keys to be read; only if it has to.
    """
    left = _left(settings)
    if not left:
        return {}
    made = list(layers())
    return {
        key: settings.keys[key]
        for key in _left(settings)
        if not _is_done(key, settings.keys[key], made, settings, row)
    }


def refuse(found: dict[str, Any], settings: Settings, name: str) -> None:
    """Raises an error that names the first of some keys."""
    if not found:
        return
    key = min(found)
    more = f" (and {listed(found.keys() - {key}, mark='`')})" if len(found) > 1 else ""
    raise ValueError(
        f"`{key[:80]}`{more} must not be there, as the model type {quoted(name)} does "
        f"not read it, but got {quoted(found[key])}. {meant(key, settings.read)}"
        "Remove it, or give "
        "`quirks=True`, which ignores it as transformers does."
    )


def _left(settings: Settings) -> list[str]:
    return [
        key
        for key, value in settings.keys.items()
        if key not in settings.read
        and (_SPEAKS.search(key.lower()) or _names_other(key, value))
        and not _BESIDE.search(key)
        and not _says_nothing(value)
    ]


def _names_other(key: str, value: Any) -> bool:
    named = isinstance(value, str) and _SPEAKS.search(value.lower())
    return bool(_TYPE.search(key) and named)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str | list | tuple | dict):
        return not value
    # transformers writes -1 for a `max_relative_positions` that is not set.
    return value is False or (isinstance(value, int) and value == -1)


def _is_done(key, value, layers, settings, row) -> bool:
    """Whether some of the layers have the value anyway."""
    layers = [layer for layer in layers if layer.rope is not None]
    ropes = [layer.rope for layer in layers]
    if key in _OF_ROPE and not ropes and "adds" not in row:
        # No layer rotates, as in a hybrid without any layer of attention.
        return True
    if value is True:
        if "interleave" in key:
            return any(layer.pairing != "halves" for layer in layers)
        if "alibi" in key:
            return row.get("adds") in ("alibi", "falcon", "mpt")
        axes = row.get("axes") in ("chunked", "interleaved", "tail")
        return bool(ropes and (_FLAG.match(key) or (axes and _AXES.match(key))))
    if isinstance(value, str):
        named = value.lower()
        if _TYPE.search(key) and "alibi" in named:
            return row.get("adds") in ("alibi", "falcon", "mpt")
        return _is_any(named, ropes, "kind") or (
            bool(ropes and _TYPE.search(key)) and named.startswith(("rope", "rotary"))
        )
    if isinstance(value, list | tuple):
        return _is_any(tuple(value), ropes, "sections")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not abs(value) < WIDEST**2:
        return False
    if _SHARE.search(key):
        return any(
            rotates_as_much(value, layer.head, layer.width, settings)
            for layer in layers
        )
    if re.search(r"(dims?|emb)$", key):
        return _is_any(value, layers, "width")
    if re.search(r"(theta|base|base_freq)$", key):
        return _is_any(value, ropes, "theta")
    return bool(re.search(r"(factor|ratio)$", key)) and (
        value == 1 or _is_any(value, ropes, "factor")
    )


def _is_any(value: Any, found: list[Any], name: str) -> bool:
    return any(getattr(each, name) == value for each in found)
