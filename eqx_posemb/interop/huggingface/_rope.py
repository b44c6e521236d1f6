"""The rope settings of a layer, from whichever keys a configuration has them in."""

import dataclasses
from typing import Any

from ..._rotary import long_magnitude, magnitude
from .._configuration import agreed, known, listed, quoted, require, Settings
from ._layers import labels_of, ROTATES, rotating_labels
from ._rope_keys import (
    ALIASES,
    BESIDE,
    CARRIED,
    COMMON,
    DEALT,
    FOPE,
    KEYS,
    ORIGINAL,
    SCALES,
    SECTIONED,
    SECTIONS,
    SLOPES,
    TEMPERED,
    TYPES,
)
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


def rope_of(settings: Settings, label: str, head: int) -> Rope | None:
    """The settings of the layers with that label; None if those do not rotate."""
    row = settings.row
    if settings.rope is None:
        settings.rope = _given(settings)
    given, nested = settings.rope
    if nested:
        if label in given and given[label] is None:
            return None
        beside, given = given.get(ORIGINAL), given.get(label, {})
        name = f"rope_parameters.{label[:80]}"
        require(isinstance(given, dict), name, "be an object", given)
        if beside is not None:
            given = _with_original(given, beside, settings)
    elif label not in row.get("scaled", (label,)):
        # Older files have one scaling, and it applies to the layer types in `scaled`
        # alone.
        given = {}
    flat = bool(given) and not nested
    if not (given or nested or settings.get("rope_parameters") == {}):
        default = row.get("rope", {})
        given = default.get(label, default)
        if given is None:
            return None
        if row.get("thetas", {}).get(label) in settings.keys:
            given = {key: given[key] for key in given if key != "rope_theta"}
        if "theta" in row or not rotating_labels(settings):
            settings.read |= BESIDE & {*given}
    if not flat:
        # The settings of a class or of layers stand before the keys beside them.
        settings = settings.changed(dict.fromkeys(BESIDE & {*given}))
    rope = Settings(given, inside="rope_parameters")
    return _normalized(rope, settings, label, nested, flat, head)


def _given(settings) -> tuple[dict[str, Any], bool]:
    """The settings of all layers, and whether each layer type has its own."""
    row, flat = settings.row, settings.row.get("flat")
    names = {ROTATES, "full_attention", "sliding_attention"}
    names |= {*labels_of(settings), *rotating_labels(settings)}
    found = {}
    for place in "rope_parameters", "rope_scaling":
        given = settings.mapping(place) if settings.has(place) else {}
        if given and names.isdisjoint(given):
            kinds = listed(rotating_labels(settings))
            fine = not row.get("nested") or flat == place
            require(fine, place, f"have settings for the layer types {kinds}", given)
            given = given if flat in (None, place) else {}
        if given:
            found[place] = given
    given = agreed(found) or {}
    nested = not names.isdisjoint(given)
    if given and not nested:
        replaced = row.get("replaced", ())
        given = {key: value for key, value in given.items() if key not in replaced}
        if flat == "rope_scaling":
            # The class updates its own settings, which have a `rope_type`.
            given = {"rope_type": "default"} | given
    wrong = given.keys() - names - {ORIGINAL, *row.get("dangling", ())}
    if nested and wrong:
        key = min(wrong)
        rule = f"not be there, beside settings for each of {listed(names)}"
        require(False, f"rope_parameters.{key[:80]}", rule, given[key])
    return given, nested


def _with_original(given, beside, settings):
    """The settings of a layer type, with the original length beside all of them."""
    rope = Settings(given, inside="rope_parameters")
    if ORIGINAL not in KEYS[_kind(rope, settings.row)]:
        return given
    told = Settings({ORIGINAL: beside}, inside=rope.inside).integer(ORIGINAL)
    own = rope.integer(ORIGINAL) if rope.has(ORIGINAL) else None
    why = "transformers ignores it beside the settings of layer types"
    if own == told or not _applies(ORIGINAL, told, why, settings):
        return given
    rope.require(own is None, ORIGINAL, "agree where it is given twice", told, own)
    return {**given, ORIGINAL: told}


def _applies(key: str, value: Any, why: str, settings: Settings) -> bool:
    """Whether a key that inference engines read is applied."""
    if settings.engine_keys is None:
        raise ValueError(
            f"`engine_keys` must be given for `rope_parameters.{key}` {quoted(value)}, "
            f"as {why}, but got None. Give 'apply' or 'ignore'."
        )
    return settings.engine_keys == "apply"


def _normalized(rope, settings, label, nested, flat, head) -> Rope:
    row = settings.row
    kind = _kind(rope, row)
    if any(rope.get(key) for key in FOPE):
        raise ValueError(
            "`rope_parameters` must have no settings of FoPE, whose weights are in the "
            f"checkpoint, but got {quoted(dict(rope.keys))}. Build `eqx_posemb.FoPE`, "
            "and put the weights of the checkpoint in its `cosines` and `sines`."
        )
    allowed = {*COMMON, *FOPE, *KEYS[kind], *CARRIED.get(kind, ())}
    if row.get("axes") in SECTIONED:
        allowed |= {*SECTIONS, "mrope_interleaved"}
    if row.get("temperature") == "llama_4_scaling_beta":
        allowed |= {*TEMPERED}
    # An unknown key may be a misspelled one, so it is never ignored.
    rope.only(allowed, f"`rope_type` {kind!r} of this model type")
    length = _length(rope, settings)
    original = _original_length(kind, rope, settings)
    factor = _factor(kind, rope, settings, length, original)
    attention = _attention_factor(kind, rope, factor, original, row)
    if kind == "yarn" and rope.number("attn_factor", 1.0, above=0) != 1:
        why = "transformers ignores it and inference engines multiply by it"
        if _applies("attn_factor", rope.get("attn_factor"), why, settings):
            attention *= rope.number("attn_factor", above=0)
    return Rope(
        kind=kind,
        theta=_theta(rope, settings, label, flat),
        partial=share_of(kind, rope, settings, head),
        factor=factor,
        original_length=original,
        length=length,
        attention_factor=attention,
        **_shape(kind, rope),
        # transformers ignores the key in the settings of a layer type.
        truncate=rope.flag("truncate", True) or (settings.quirks and nested),
        mscale_all_dim=rope.number("mscale_all_dim", 0.0) if kind == "yarn" else 0.0,
        sections=_sections(rope, settings),
        beta=rope.number("llama_4_scaling_beta", 0.0),
    )


def _kind(rope: Settings, row) -> str:
    axes = row.get("axes")

    def named(key):
        name, place = rope.text(key), f"rope_parameters.{key}"
        dealt = name != "mrope" or axes in ("chunked", "interleaved")
        aliases = ALIASES | row.get("aliases", {}) if dealt else {}
        return known(place, aliases.get(name, name), TYPES)

    kind = agreed(rope.told(named, "rope_type", "type")) or "default"
    # With `alpha`, Hunyuan's rope type `dynamic` has a fixed factor.
    if kind == "dynamic" and row.get("alpha") and rope.get("alpha"):
        return "ntk_alpha"
    if axes is None or axes in DEALT:
        fine, rule = kind != "axial", "be one for text, and not for images"
    else:
        fine, rule = kind in ("default", "axial"), "be 'default' or 'axial' for images"
    require(fine, "rope_parameters.rope_type", rule, kind)
    return "default" if kind == "axial" else kind


def _theta(rope, settings, label, flat) -> float:
    row = settings.row
    top = row.get("legacy", {}).get("rope_theta") or "rope_theta"
    standard = {}
    if not flat or label in row.get("scaled", ()):
        top = row.get("thetas", {}).get(label) or top
        standard = row.get("rope", {}).get(label) or {}
    default = standard.get("rope_theta", row.get("theta", 10_000.0))
    inner = row.get("theta_in")
    if inner and not settings.quirks and settings.has(inner):
        default = settings.within(inner).number("rope_theta", default, above=1)
    if not rope.has("rope_theta"):
        return settings.number(top, default, above=1)
    theta = rope.number("rope_theta", above=1)
    if flat and not settings.quirks and settings.has(top):
        other = settings.number(top, above=1)
        if other != settings.defaults.get(top):
            agreed({"rope_parameters.rope_theta": theta, top: other})
    return theta


def _length(rope, settings) -> int:
    key = "max_position_embeddings"
    if not settings.get(key):
        return 0
    inside = rope.told(rope.integer, key)
    agreed(settings.told(settings.integer, key) | inside, settings.has(key))
    return settings.integer(key)


def _original_length(kind, rope, settings) -> int:
    if ORIGINAL not in KEYS[kind]:
        return 0
    inside = rope.told(rope.integer, ORIGINAL)
    agreed(inside | settings.told(settings.integer, ORIGINAL), not settings.quirks)
    # Phi-3 has the original length beside its rope settings, and that value has
    # priority.
    if settings.get(ORIGINAL) is not None:
        return settings.integer(ORIGINAL)
    return agreed(inside) or settings.integer("max_position_embeddings")


def _factor(kind, rope, settings, length, original) -> float:
    if kind == "ntk_alpha":
        return rope.number("alpha", least=1)
    if kind == "default":
        return 1.0
    told = rope.has(ORIGINAL) or settings.get(ORIGINAL) is not None
    if kind in ("yarn", "longrope") and rope.get("factor") is None and told and length:
        # transformers computes a missing factor from the ratio of both lengths.
        return max(length / original, 1.0)
    return rope.number("factor", 1.0 if kind == "proportional" else None, least=1)


def _attention_factor(kind, rope, factor, original, row) -> float:
    if kind not in ("yarn", "longrope"):
        return 1.0
    if kind == "longrope":
        # A rotation has one scale at all lengths.
        scale = agreed(rope.told(rope.number, *SCALES, above=0))
        if scale is not None:
            return scale
    if rope.has("attention_factor"):
        return rope.number("attention_factor", above=0)
    if kind == "longrope":
        rule = "be at least 2 for longrope, whose attention factor has its logarithm"
        require(factor <= 1 or original >= 2, ORIGINAL, rule, original)
        return long_magnitude(factor, original) if factor > 1 else 1.0
    if "attention_factor" in row:
        return row["attention_factor"]
    own, all_dims = (rope.number(key, 0.0) for key in ("mscale", "mscale_all_dim"))
    if own and all_dims:
        return magnitude(factor, own) / magnitude(factor, all_dims)
    # TeleChat3 has a slope of its own, and `kind` has lost its name.
    named = {rope.get("rope_type"), rope.get("type")}
    return magnitude(factor, next((SLOPES[n] for n in named if n in SLOPES), 1.0))


def _shape(kind, rope) -> dict[str, Any]:
    """What a schedule has beside its factor: the ends of a ramp, or divisors."""
    if kind == "longrope":
        return {
            "short": rope.numbers("short_factor", above=0),
            "long": rope.numbers("long_factor", above=0),
        }
    if kind == "yarn":
        low, high = "beta_slow", "beta_fast"
        # Zero counts as not given, as in transformers.
        slow = rope.number(low, 1.0) or 1.0
        fast = rope.number(high, 32.0) or 32.0
    elif kind == "llama3":
        low, high = "low_freq_factor", "high_freq_factor"
        slow, fast = rope.number(low, above=0), rope.number(high, above=0)
    else:
        return {}
    require(slow <= fast, low, f"be at most `{high}`", slow, fast)
    return {"slow": slow, "fast": fast}


def _sections(rope, settings) -> tuple[int, ...]:
    """The sections of M-RoPE: how many pairs each coordinate of a position turns; none
    if the settings have none."""
    interleaved = settings.row.get("axes") == "interleaved"
    if rope.has("mrope_interleaved") and not settings.quirks:
        told = rope.flag("mrope_interleaved", interleaved)
        rule = f"be {str(interleaved).lower()} for this model type"
        require(told == interleaved, "mrope_interleaved", rule, told)
    return agreed(rope.told(rope.integers, *SECTIONS)) or ()
