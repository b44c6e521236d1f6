"""Keys of a configuration that speak of positions, and that nothing reads."""

import re
from collections.abc import Callable, Iterable, Set
from typing import Any

from .._configuration import listed, quoted, Settings, WIDEST
from ._layers import labels_of, rotating_labels
from ._parts import part_of, parts_of
from ._rope_keys import OF_ROPE, PLACES, SECTIONED
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
# Models have at most a dozen parts.
MOST_PARTS = 32
_TYPE = re.compile(r"^pos(ition(al)?)?_(emb|enc)")


def unread(settings: Settings, layers: Callable[[], Iterable[Layer]]) -> dict[str, Any]:
    """Keys that contradict the embedding, with their values.

    `layers` makes all layers, for all their keys to be read; only if it has to.
    """
    told = _told(settings)
    if not speaking(told, settings.read):
        return {}
    seen = _Seen(layers(), settings)
    found = speaking(told, settings.read)
    return {key: value for key, value in found.items() if not seen.says(key, value)}


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
    layers, settings = made
    seen = _Seen(layers, settings)
    done |= {key for key, value in around.items() if seen.says(key, value)}
    rope = around.keys() & {*PLACES}
    if rope:
        told = {key: around[key] for key in OF_ROPE if key in around}
        told |= {key: part[key] for key in part if key not in (*PLACES, *told)}
        other = _made(told, own)
        done |= rope if other is not None and other[0] == layers else set()
    return done


def _made(keys, own) -> tuple[list[Layer], Settings] | None:
    """All layers of a part, or None if it cannot be loaded."""
    try:
        settings, _ = part_of(keys, own)
        settings.engine_keys = "ignore"
        if "adds" in settings.row:
            return [], settings
        every = dict.fromkeys([*labels_of(settings), *rotating_labels(settings)])
        return [layer_of(settings, label) for label in every], settings
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


class _Seen:
    """What the layers that rotate have, each value once."""

    def __init__(self, layers: Iterable[Layer], settings: Settings):
        found = [(layer, layer.rope) for layer in layers if layer.rope is not None]
        self.settings = settings
        self.pairings = {layer.pairing for layer, _ in found}
        self.widths = {(layer.head, layer.width) for layer, _ in found}
        self.kinds = {rope.kind for _, rope in found}
        self.thetas = {rope.theta for _, rope in found}
        self.factors = {1, *(rope.factor for _, rope in found)}
        self.sections = [list(rope.sections) for _, rope in found]

    def says(self, key: str, value: Any) -> bool:
        """Whether some of the layers have the value anyway."""
        row, rotates = self.settings.row, bool(self.kinds)
        alibi = row.get("adds") in ("alibi", "falcon", "mpt")
        if key in OF_ROPE and not rotates and "adds" not in row:
            # No layer rotates, as in a hybrid without any layer of attention.
            return True
        if value is True:
            if "interleave" in key:
                return bool(self.pairings - {"halves"})
            if "alibi" in key:
                return alibi
            axes = row.get("axes") in SECTIONED and _AXES.match(key)
            return rotates and bool(axes or _FLAG.match(key))
        if isinstance(value, str):
            named = value.lower()
            if _TYPE.search(key) and "alibi" in named:
                return alibi
            rotary = _TYPE.search(key) and named.startswith(("rope", "rotary"))
            return named in self.kinds or (rotates and bool(rotary))
        if isinstance(value, list | tuple):
            return list(value) in self.sections
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if not abs(value) < WIDEST**2:
            return False
        says = next((says for end, says in _SAYS if end.search(key)), None)
        return says is not None and says(self, value)


# What a number says, by the end of its key; the first that fits counts.
_SAYS = (
    (
        re.compile(r"pct|percent|fraction|partial"),
        lambda seen, share: any(
            rotates_as_much(share, head, width, seen.settings)
            for head, width in seen.widths
        ),
    ),
    (
        re.compile(r"(dims?|emb)$"),
        lambda seen, width: width in {width for _, width in seen.widths},
    ),
    (re.compile(r"(theta|base|base_freq)$"), lambda seen, theta: theta in seen.thetas),
    (re.compile(r"(factor|ratio)$"), lambda seen, factor: factor in seen.factors),
)
