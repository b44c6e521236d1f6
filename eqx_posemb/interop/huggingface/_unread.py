"""Keys of a configuration that speak of positions, and that nothing reads."""

import re
from collections.abc import Callable, Iterable, Set
from typing import Any

from .._configuration import listed, quoted, Settings, WIDEST
from ._layers import labels_of, ROTATES, rotating_labels
from ._parts import part_of, parts_of
from ._rotaries import Layer, layer_of
from ._width import rotates_as_much


_SPEAKS = re.compile(
    r"(^|_)(m|xd|no_?)?rope|rotary|alibi|(^|_)rel(ative|_)|xpos|yarn|(^|_)ntk"
)
# Settings of training, sizes of grids and bins of distances between residues have these
# endings, and change no position of a token.
_BESIDE = re.compile(r"_(dropout|sizes|bins)$")
_FLAG = re.compile(r"(use_)?(rope|rotary)(_(pos|position|emb|embedding|embeddings))*$")
_AXES = re.compile(r"(use_)?(mrope|3d_rope|rope_3d)$")
_SHARE = re.compile(r"pct|percent|fraction|partial")
_SETTINGS = ("rope_parameters", "rope_scaling")
_OF_ROPE = (*_SETTINGS, "rope_theta", "partial_rotary_factor")
# Models have at most a dozen parts.
MOST_PARTS = 32
_TYPE = re.compile(r"^pos(ition(al)?)?_(emb|enc)")


def unread(
    settings: Settings, row: dict[str, Any], layers: Callable[[], Iterable[Layer]]
) -> dict[str, Any]:
    """Keys that contradict the embedding, with their values.

    `layers` makes all layers, for all their keys to be read; only if it has to.
    """
    told = _told(settings)
    if not speaking(told, settings.read):
        return {}
    seen = _seen(layers())
    return {
        key: value
        for key, value in speaking(told, settings.read).items()
        if not _is_done(key, value, seen, settings, row)
    }


def unread_around(
    settings: Settings, keys: dict[str, Any], model_type: str | None
) -> dict[str, Any]:
    """The keys about positions around a part that contradict every part."""
    around = speaking(settings.around)
    # A faulty file may have thousands of parts.
    parts = list(parts_of(keys, model_type).values())[:MOST_PARTS] if around else []
    done = set().union(*(_done_by(part, own, around) for part, own in parts))
    return {key: value for key, value in around.items() if key not in done}


def _done_by(part, own, around) -> set[str]:
    """The keys around a part that the part has, or that say what it does anyway."""
    done = {key for key, value in around.items() if part.get(key) == value}
    made = _made(part, own)
    if made is None:
        return done
    layers, settings, row = made
    seen = _seen(layers)
    is_done = lambda key: _is_done(key, around[key], seen, settings, row)
    done |= set(filter(is_done, around))
    rope = around.keys() & _SETTINGS
    if rope:
        told = {key: around[key] for key in _OF_ROPE if key in around}
        told |= {key: part[key] for key in part if key not in (*_SETTINGS, *told)}
        other = _made(told, own)
        done |= rope if other is not None and other[0] == layers else set()
    return done


def _made(keys, own) -> tuple[list[Layer], Settings, dict[str, Any]] | None:
    """All layers of a part, or None if it cannot be loaded."""
    try:
        settings, row, _ = part_of(keys, own)
        settings.engine_keys = "ignore"
        if "adds" in row:
            return [], settings, row
        every = [*labels_of(settings, row), *rotating_labels(row)]
        names = {ROTATES, *every}
        of = lambda label: layer_of(settings, row, label, names, quirks=False)
        return list(map(of, dict.fromkeys(every))), settings, row
    except ValueError:
        return None


def _told(settings: Settings) -> dict[str, Any]:
    """The keys of a model and of its single layers."""
    layers = settings.keys.get("per_layer_config")
    found = {}
    for keys in layers.values() if isinstance(layers, dict) else ():
        found |= keys if isinstance(keys, dict) else {}
    return found | settings.keys


def refuse(found: dict[str, Any], why: str, cure: Callable[[str], str]) -> None:
    """Raises an error that names the first of some keys."""
    if not found:
        return
    key = min(found)
    more = f" (and {listed(found.keys() - {key}, mark='`')})" if len(found) > 1 else ""
    raise ValueError(
        f"`{key[:80]}`{more} must not be there, as {why} it, but got "
        f"{quoted(found[key])}. {cure(key)}Remove it, or give "
        "`quirks=True`, which ignores it as transformers does."
    )


def speaking(keys: dict[str, Any], read: Set[str] = frozenset()) -> dict[str, Any]:
    """The keys that speak of positions and are not read, unless they say nothing."""
    return {
        key: value
        for key, value in keys.items()
        if key not in read
        and (_SPEAKS.search(key.lower()) or _names_other(key, value))
        and not _BESIDE.search(key)
        and not _says_nothing(value)
    }


def _names_other(key: str, value: Any) -> bool:
    named = isinstance(value, str) and _SPEAKS.search(value.lower())
    return bool(_TYPE.search(key) and named)


def _says_nothing(value: Any) -> bool:
    if isinstance(value, str | list | tuple | dict):
        return not value
    # transformers writes -1 for a `max_relative_positions` that is not set.
    return value is False or (isinstance(value, int) and value == -1)


def _seen(layers: Iterable[Layer]) -> dict[str, set[Any]]:
    """What the layers that rotate have, each value once."""
    found = [(layer, layer.rope) for layer in layers if layer.rope is not None]
    return {
        "pairings": {layer.pairing for layer, _ in found},
        "widths": {(layer.head, layer.width) for layer, _ in found},
        "kinds": {rope.kind for _, rope in found},
        "thetas": {rope.theta for _, rope in found},
        "factors": {rope.factor for _, rope in found},
        "sections": {rope.sections for _, rope in found},
    }


def _is_done(key, value, seen, settings, row) -> bool:
    """Whether some of the layers have the value anyway."""
    rotates, kinds, widths = bool(seen["kinds"]), seen["kinds"], seen["widths"]
    if key in _OF_ROPE and not rotates and "adds" not in row:
        # No layer rotates, as in a hybrid without any layer of attention.
        return True
    if value is True:
        if "interleave" in key:
            return bool(seen["pairings"] - {"halves"})
        if "alibi" in key:
            return row.get("adds") in ("alibi", "falcon", "mpt")
        axes = row.get("axes") in ("chunked", "interleaved", "tail")
        return bool(rotates and (_FLAG.match(key) or (axes and _AXES.match(key))))
    if isinstance(value, str):
        named = value.lower()
        if _TYPE.search(key) and "alibi" in named:
            return row.get("adds") in ("alibi", "falcon", "mpt")
        return named in kinds or bool(
            rotates and _TYPE.search(key) and named.startswith(("rope", "rotary"))
        )
    if isinstance(value, list | tuple):
        return list(value) in map(list, seen["sections"])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if not abs(value) < WIDEST**2:
        return False
    if _SHARE.search(key):
        return any(
            rotates_as_much(value, head, width, settings) for head, width in widths
        )
    if re.search(r"(dims?|emb)$", key):
        return value in {width for _, width in widths}
    if re.search(r"(theta|base|base_freq)$", key):
        return value in seen["thetas"]
    return bool(re.search(r"(factor|ratio)$", key)) and (
        value == 1 or value in seen["factors"]
    )
