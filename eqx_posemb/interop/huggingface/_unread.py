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
    made = list(layers())
    return {
        key: value
        for key, value in speaking(told, settings.read).items()
        if not _is_done(key, value, made, settings, row)
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
    done |= {key for key, value in around.items() if _is_done(key, value, *made)}
    rope = around.keys() & _SETTINGS
    if rope:
        told = {key: around[key] for key in _OF_ROPE if key in around}
        told |= {key: part[key] for key in part if key not in (*_SETTINGS, *told)}
        other = _made(told, own)
        done |= rope if other is not None and other[0] == made[0] else set()
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
