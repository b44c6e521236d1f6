"""The rope settings of a layer, from whichever keys a configuration has them in."""

import dataclasses
from typing import Any

from ..._rotary import long_magnitude, magnitude
from .._configuration import known, listed, quoted, Settings
from ._layers import rotating_labels
from ._rope_keys import (
    ALIASES,
    BESIDE,
    CARRIED,
    COMMON,
    FOPE,
    KEYS,
    ORIGINAL,
    SECTIONED,
    SLOPES,
    TEMPERED,
    TYPES,
)
from ._sections import sections_of
from ._width import share_of


@dataclasses.dataclass(frozen=True)
class Rope:
    """The rope settings of a layer, all of them, in one spelling."""

    kind: str
    theta: float
    partial: float
    factor: float = 1.0
    original_length: int = 0
    length: int = 0
    attention_factor: float = 1.0
    slow: float = 1.0
    fast: float = 32.0
    truncate: bool = True
    short: tuple[float, ...] = ()
    long: tuple[float, ...] = ()
    mscale_all_dim: float = 0.0
    sections: tuple[int, ...] = ()
    beta: float = 0.0


def rope_of(
    settings: Settings,
    row: dict[str, Any],
    label: str,
    labels: set[str],
    quirks: bool,
    head: int,
) -> Rope | None:
    """The settings of the layers with that label; None if those do not rotate."""
    if settings.rope is None:
        settings.rope = _given(settings, row, labels)
    given, nested = settings.rope
    if nested:
        if given.get(label) is None:
            if label in given:
                return None
            given = {}
        else:
            given = given[label]
            if not isinstance(given, dict):
                raise ValueError(
                    f"`rope_parameters.{label[:80]}` must be an object, but got "
                    f"{quoted(given)}."
                )
            beside = settings.rope[0]
            if beside.get(ORIGINAL) is not None:
                given = _with_original(given, beside[ORIGINAL], settings, row)
    elif label not in row.get("scaled", (label,)):
        # Older files have one scaling, and it applies to the layer types in `scaled`
        # alone.
        given = {}
    settings.read.update(row.get("lost", ()))
    settings = settings.without(row.get("lost", ()))
    default = row.get("rope", {})
    flat = bool(given) and not nested
    if not (given or nested or settings.get("rope_parameters") == {}):
        given = default.get(label, {} if label in default else default)
        if given is None:
            return None
        if row.get("thetas", {}).get(label) in settings.keys:
            given = {key: given[key] for key in given if key != "rope_theta"}
        if "theta" in row or not rotating_labels(row):
            settings.read |= BESIDE & {*given}
    if not flat:
        # The settings of a class or of layers stand before the keys beside them.
        settings = settings.without(BESIDE & {*given})
    return _normalized(
        Settings(given, inside="rope_parameters"),
        settings,
        row,
        label,
        nested,
        flat,
        quirks,
        head,
    )


def _given(settings, row, labels) -> tuple[dict[str, Any], bool]:
    names = labels | {"full_attention", "sliding_attention"}
    flat = row.get("flat")
    found = []
    for place in "rope_parameters", "rope_scaling":
        if settings.has(place):
            given = settings.mapping(place)
            if any(key in names for key in given):
                found.append(given)
            elif given and row.get("nested") and flat != place:
                raise ValueError(
                    f"`{place}` must have settings for each of the layer types "
                    f"{listed(rotating_labels(row))}, but got {quoted(given)}."
                )
            elif flat in (None, place):
                found.append(given)
    if len(found) == 2 and found[0] and found[1] and found[0] != found[1]:
        raise ValueError(
            "`rope_parameters` and `rope_scaling` must agree where both are given, but "
            f"got {quoted(found[0])} and {quoted(found[1])}."
        )
    given = next((each for each in found if each), {})
    nested = any(key in names for key in given)
    if given and not nested:
        replaced = row.get("replaced", ())
        given = {key: value for key, value in given.items() if key not in replaced}
        if flat == "rope_scaling":
            # The class updates its own settings, which have a `rope_type`.
            given = {"rope_type": "default"} | given
    if nested:
        dangling = {key for key in given if key not in names} - {ORIGINAL}
        wrong = dangling - set(row.get("dangling", ()))
        if wrong:
            raise ValueError(
                f"`rope_parameters.{min(wrong)[:80]}` must not be there, beside "
                f"settings for each of the layer types {listed(names)}, but got "
                f"{quoted(given[min(wrong)])}."
            )
    return given, nested


def _with_original(given, beside, settings, row):
    """The settings of a layer type, with the original length beside all of them."""
    rope = Settings(given, inside="rope_parameters")
    if ORIGINAL not in KEYS[_kind(rope, row)]:
        return given
    beside = Settings({ORIGINAL: beside}, inside="rope_parameters").integer(ORIGINAL)
    if rope.has(ORIGINAL) and rope.integer(ORIGINAL) == beside:
        return given
    why = "transformers ignores it beside the settings of layer types"
    if not _applies(ORIGINAL, beside, why, settings):
        return given
    if rope.has(ORIGINAL):
        raise ValueError(
            f"`rope_parameters.{ORIGINAL}` must agree where it is given twice, but got "
            f"{beside} beside the layer types and {rope.integer(ORIGINAL)} for one."
        )
    return {**given, ORIGINAL: beside}


def _applies(key: str, value: Any, why: str, settings: Settings) -> bool:
    """Whether a key that inference engines read is applied."""
    if settings.engine_keys is None:
        raise ValueError(
            f"`engine_keys` must be given for `rope_parameters.{key}` {quoted(value)}, "
            f"as {why}, but got None. Give 'apply' or 'ignore'."
        )
    return settings.engine_keys == "apply"


def _normalized(rope, settings, row, label, nested, flat, quirks, head) -> Rope:
    kind = _kind(rope, row)
    if any(rope.get(key) for key in FOPE):
        raise ValueError(
            "`rope_parameters` must have no settings of FoPE, whose weights are in the "
            f"checkpoint, but got {quoted(dict(rope.keys))}. Build `eqx_posemb.FoPE`, "
            "and put the weights of the checkpoint in its `cosines` and `sines`."
        )
    allowed = {*COMMON, *FOPE, *KEYS[kind], *CARRIED.get(kind, ())}
    if row.get("axes") in ("chunked", "interleaved", "tail"):
        allowed |= set(SECTIONED)
    if row.get("temperature") == "llama_4_scaling_beta":
        allowed |= set(TEMPERED)
    # An unknown key may be a misspelled one, so it is never ignored.
    rope.only(allowed, f"`rope_type` {kind!r} of this model type")
    length = _length(rope, settings)
    original = _original_length(kind, rope, settings, quirks)
    told = rope.has(ORIGINAL) or settings.get(ORIGINAL) is not None
    factor = _factor(kind, rope, length / original if told and original else None)
    attention = _attention_factor(kind, rope, factor, original, row)
    if kind == "yarn" and rope.number("attn_factor", 1.0, above=0) != 1:
        why = "transformers ignores it and inference engines multiply by it"
        if _applies("attn_factor", rope.get("attn_factor"), why, settings):
            attention *= rope.number("attn_factor", above=0)
    return Rope(
        kind=kind,
        theta=_theta(rope, settings, row, label, flat, quirks),
        partial=share_of(kind, rope, settings, row, quirks, head),
        factor=factor,
        original_length=original,
        length=length,
        attention_factor=attention,
        **_shape(kind, rope),
        # transformers ignores the key in the settings of a layer type.
        truncate=rope.flag("truncate", True) or (quirks and nested),
        mscale_all_dim=rope.number("mscale_all_dim", 0.0) if kind == "yarn" else 0.0,
        sections=sections_of(rope, row, quirks),
        beta=rope.number("llama_4_scaling_beta", 0.0),
    )


def _kind(rope: Settings, row) -> str:
    aliases = ALIASES | row.get("aliases", {})
    kinds = set()
    for key in "rope_type", "type":
        if rope.has(key):
            name = rope.text(key)
            if name == "mrope" and row.get("axes") not in ("chunked", "interleaved"):
                known(f"rope_parameters.{key}", name, TYPES)
            kinds.add(known(f"rope_parameters.{key}", aliases.get(name, name), TYPES))
    if len(kinds) > 1:
        raise ValueError(
            "`rope_type` and `type` must agree where both are given, but got "
            f"{quoted(rope.get('rope_type'))} and {quoted(rope.get('type'))}."
        )
    kind = kinds.pop() if kinds else "default"
    # With `alpha`, Hunyuan's rope type `dynamic` has a fixed factor.
    if kind == "dynamic" and row.get("alpha") and rope.get("alpha"):
        return "ntk_alpha"
    image = row.get("axes") in IMAGE_AXES
    if kind == "axial" and not image:
        raise ValueError(
            "`rope_parameters.rope_type` must be one for text in this model type, but "
            "got 'axial', which is for images."
        )
    if image and kind not in ("default", "axial"):
        raise ValueError(
            "`rope_parameters.rope_type` must be 'default' or 'axial' for images, but "
            f"got {kind!r}."
        )
    return "default" if kind == "axial" else kind


IMAGE_AXES = (
    "grid",
    "columns_first",
    "columns_alternate",
    "ladder",
    "blocks",
    "centers",
    "video",
)


def _theta(rope, settings, row, label, flat, quirks) -> float:
    top = row.get("legacy", {}).get("rope_theta") or "rope_theta"
    standard = {}
    if not flat or label in row.get("scaled", ()):
        top = row.get("thetas", {}).get(label) or top
        standard = row.get("rope", {}).get(label) or {}
    default = standard.get("rope_theta", row.get("theta", 10_000.0))
    inner = row.get("theta_in")
    if inner and not quirks and settings.has(inner):
        told = Settings(settings.mapping(inner), inside=inner)
        default = told.number("rope_theta", default, above=1)
    if not rope.has("rope_theta"):
        return settings.number(top, default, above=1)
    theta = rope.number("rope_theta", above=1)
    if flat and not quirks and settings.has(top):
        other = settings.number(top, above=1)
        if other not in (theta, settings.defaults.get(top)):
            raise ValueError(
                f"`rope_parameters.rope_theta` and `{top}` must agree where both are "
                f"given, but got {theta} and {other}."
            )
    return theta


def _length(rope, settings) -> int:
    if not settings.get("max_position_embeddings"):
        return 0
    length = settings.integer("max_position_embeddings")
    if rope.has("max_position_embeddings"):
        other = rope.integer("max_position_embeddings")
        if settings.has("max_position_embeddings") and other != length:
            raise ValueError(
                "`max_position_embeddings` must agree where it is given twice, but got "
                f"{length} and {other}."
            )
    return length


def _original_length(kind, rope, settings, quirks) -> int:
    if ORIGINAL not in KEYS[kind]:
        return 0
    # Phi-3 has the original length beside its rope settings, and that value has
    # priority.
    outside = settings.integer(ORIGINAL) if settings.get(ORIGINAL) is not None else None
    inside = rope.integer(ORIGINAL) if rope.has(ORIGINAL) else None
    clash = settings.has(ORIGINAL) and inside is not None and outside != inside
    if clash and not quirks:
        raise ValueError(
            f"`{ORIGINAL}` must agree where it is given twice, but got {outside} "
            f"beside the rope settings and {inside} among them."
        )
    if outside is not None:
        return outside
    return inside or settings.integer("max_position_embeddings")


def _factor(kind, rope, growth) -> float:
    """The scaling factor; `growth` is the ratio of both lengths, if both are given."""
    if kind in ("default", "ntk_alpha"):
        if kind == "ntk_alpha":
            return rope.number("alpha", least=1)
        return 1.0
    if rope.get("factor") is None and kind in ("yarn", "longrope") and growth:
        # transformers computes a missing factor from the ratio of both lengths.
        return max(growth, 1.0)
    return rope.number("factor", 1.0 if kind == "proportional" else None, least=1)


def _attention_factor(kind, rope, factor, original, row) -> float:
    if kind == "longrope":
        scales = {
            rope.number(key, above=0)
            for key in ("short_mscale", "long_mscale")
            if rope.has(key)
        }
        if len(scales) > 1:
            raise ValueError(
                "`short_mscale` and `long_mscale` must be the same, as a rotation has "
                f"one scale at all lengths, but got {sorted(scales)}."
            )
        if scales:
            return scales.pop()
    if kind in ("yarn", "longrope") and rope.has("attention_factor"):
        return rope.number("attention_factor", above=0)
    if kind == "longrope":
        if factor <= 1:
            return 1.0
        if original < 2:
            raise ValueError(
                "`original_max_position_embeddings` must be at least 2 for longrope, "
                f"whose attention factor has its logarithm, but got {original}."
            )
        return long_magnitude(factor, original)
    if kind == "yarn" and "attention_factor" in row:
        return row["attention_factor"]
    if kind == "yarn":
        own = rope.number("mscale", 0.0)
        all_dims = rope.number("mscale_all_dim", 0.0)
        if own and all_dims:
            return magnitude(factor, own) / magnitude(factor, all_dims)
        # TeleChat3 has a slope of its own, and `kind` has lost its name.
        named = {rope.get("rope_type"), rope.get("type")}
        return magnitude(factor, next((SLOPES[n] for n in named if n in SLOPES), 1.0))
    return 1.0


def _shape(kind, rope) -> dict[str, Any]:
    """What a schedule has beside its factor: the ends of a ramp, or divisors."""
    if kind == "yarn":
        # Zero counts as not given, as in transformers.
        slow = rope.number("beta_slow", 1.0) or 1.0
        fast = rope.number("beta_fast", 32.0) or 32.0
        names = "beta_slow", "beta_fast"
    elif kind == "llama3":
        slow = rope.number("low_freq_factor", above=0)
        fast = rope.number("high_freq_factor", above=0)
        names = "low_freq_factor", "high_freq_factor"
    elif kind == "longrope":
        return {
            "short": rope.numbers("short_factor", above=0),
            "long": rope.numbers("long_factor", above=0),
        }
    else:
        return {}
    if slow > fast:
        raise ValueError(
            f"`{names[0]}` must be at most `{names[1]}`, but got {slow} and {fast}."
        )
    return {"slow": slow, "fast": fast}
