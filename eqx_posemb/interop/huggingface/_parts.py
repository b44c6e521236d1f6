"""Finding the part of a composite model that has positions."""

from typing import Any

from .._configuration import known, listed, quoted, require, Settings
from ._rope_keys import OF_ROPE
from ._rows import by_hand, DEEPEST, models


def part_of(
    keys: dict[str, Any], model_type: str | None, part: str | None = None
) -> tuple[Settings, str]:
    """The settings and the type of a model, or of its part of that name; by default of
    its one part that rotates.

    **Raises:** a `ValueError` that names the parts if there are several.
    """
    name = _name(keys, model_type)
    if part is not None:
        return _within(keys, *named_part(part, parts_of(keys, model_type)))
    own = _own(keys, name)
    if own is not None:
        return _found(keys, own)
    parts = parts_of(keys, model_type)
    _check_text(keys, parts)
    # Parts that rotate have priority, and a table counts only without such a part.
    rotating = {p: of for p, of in parts.items() if "adds" not in models()[of[1]]}
    parts = rotating or parts
    if len(parts) == 1:
        (only,) = parts.items()
        return _within(keys, *only)
    if parts:
        text = min(parts, key=lambda path: ("text" not in path, path))
        raise ValueError(
            "`part` must be given, as several parts of "
            f"{quoted(name) if name else 'the model'} have positions: "
            f"{listed(parts, mark='`')}, but got None. Call `load(config, "
            f'part="{text[:80]}")`.'
        )
    if not name:
        raise ValueError(
            "`model_type` must be given, in the configuration or as an argument, but "
            f"got keys {listed(keys)}."
        )
    rule = "be of a model that `load` builds from its configuration"
    reason = by_hand(name)
    require(not reason, "model_type", rule, name, cure=reason)
    if f"{name}_text" in models():
        raise ValueError(
            f"`config` must have the parts of {quoted(name)}, such as `text_config`, "
            f"but got keys {listed(keys)}. Give the whole `config.json`, or "
            f'`model_type="{name}_text"` for a text alone.'
        )
    known("model_type", name, models())
    raise AssertionError(name)


def _check_text(keys, parts):
    """The text of a model with other parts must be known: else they would stand for
    the whole model."""
    text = keys.get("text_config")
    if not isinstance(text, dict) or any(path.startswith("text_") for path in parts):
        return
    own = text.get("model_type")
    if parts and isinstance(own, str) and own:
        cure = (
            f"{by_hand(own)} Give `part` to load one of {listed(parts, mark='`')}, or "
            "load the text by itself with the `model_type` of a model that rotates "
            "alike."
        )
        require(
            False, "text_config.model_type", "be a known type", own, cure=cure.strip()
        )


def parts_of(
    keys: dict[str, Any], model_type: str | None = None
) -> dict[str, tuple[dict[str, Any], str]]:
    """The keys and types of the parts that have positions, by their paths; nothing for
    a model that has no parts."""
    name = _name(keys, model_type)
    return {} if _own(keys, name) is not None else dict(_parts(keys, name))


def named_part(
    part: str, parts: dict[str, tuple[dict[str, Any], str]]
) -> tuple[str, tuple[dict[str, Any], str]]:
    """The part of that name, with or without `_config` at its end, and its path."""
    for path in (part, f"{part}_config", part.removesuffix("_config")):
        if path in parts:
            return path, parts[path]
    rule = "be a part of the model" if parts else "be None for a model of one part"
    has = f" It has {listed(parts, mark='`')}." if parts else ""
    raise ValueError(f"`part` must {rule}, but got {quoted(part)}.{has}")


def _within(keys, path, part):
    """The part at a path, with the keys around it."""
    settings, own = _found(*part)
    for name in path.split("."):
        # A text at the top has no keys around it.
        if isinstance(keys.get(name), dict):
            settings.around |= keys
            keys = keys[name]
    return settings, own


def _name(keys, model_type):
    name = model_type or keys.get("model_type") or ""
    require(isinstance(name, str), "model_type", "be a string", name)
    return name


def _found(keys, own):
    settings = Settings(keys, _with_axes(keys, models()[own]))
    if "instead" not in settings.row:
        return settings, own
    key, rotary, default, other = settings.row["instead"]
    told = settings.get(key, default)
    if told == rotary and type(told) is type(rotary):
        return settings, own
    if other is None:
        rule = f"be {rotary!r} for this model type, as others are not built here"
        require(False, key, rule, told, cure=by_hand(own))
    choices = (rotary, default) if isinstance(rotary, str) else (True, False)
    fine = told in choices and type(told) is type(rotary)
    require(fine, key, f"be {' or '.join(map(repr, choices))}", told)
    # Rope settings have no effect in a model that does not rotate, so they count as
    # read.
    settings, own = _found(keys, other)
    settings.read |= {key, *OF_ROPE}
    return settings, own


def _with_axes(keys, row):
    """The row with M-RoPE, where the rope type of a text says so: engines read it."""
    for place in "rope_parameters", "rope_scaling":
        rope = keys.get(place)
        if not isinstance(rope, dict) or row.keys() & {"axes", "adds"}:
            continue
        if "mrope" in (rope.get("rope_type"), rope.get("type")):
            dealt = "interleaved" if rope.get("mrope_interleaved") else "chunked"
            return {**row, "axes": dealt}
    return row


def _own(keys: dict[str, Any], name: str) -> str | None:
    """The row of the model itself, if it has one and is not the sum of its parts."""
    if name in models():
        return name
    # Configurations from before there were parts have the text at the top.
    if any(
        isinstance(value, dict) and key.endswith("_config")
        for key, value in keys.items()
    ):
        return None
    if f"{name}_text" in models() and "num_attention_heads" in keys:
        return f"{name}_text"
    if f"{name}_vision" in models() and ("depth" in keys or "num_heads" in keys):
        return f"{name}_vision"
    return None


def _parts(keys: dict[str, Any], parent: str, prefix: str = ""):
    """Paths to the parts that rotate, with their keys and types."""
    # A file may be faulty, and endless nesting would exhaust the stack.
    rule = f"have at most {DEEPEST} parts within each other"
    require(prefix.count(".") < DEEPEST, "config", rule, prefix)
    # Older files, such as the files of Qwen2.5-VL, have the settings of the text at the
    # top.
    at_top = "text_config" not in keys and "num_attention_heads" in keys
    if at_top and f"{parent}_text" in models():
        yield prefix or "text", (keys, f"{parent}_text")
    for key, value in keys.items():
        if not (isinstance(value, dict) and key.endswith("_config")):
            continue
        path = f"{prefix}.{key}" if prefix else key
        own = _type_of_part(key, value, parent)
        if own in models():
            yield path, (value, own)
        else:
            yield from _parts(value, own, path)


def _type_of_part(key: str, keys: dict[str, Any], parent: str) -> str:
    name = keys.get("model_type")
    if isinstance(name, str) and name in models() and name != parent:
        return name
    row = models().get(parent, {})
    guess = row.get("parts", {}).get(key) or f"{parent}_{key.removesuffix('_config')}"
    if guess in models():
        return guess
    return name if isinstance(name, str) else ""
