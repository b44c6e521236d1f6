"""The report in words."""

import textwrap

from .._catalogue import in_columns
from ..interop.huggingface._layers import ROTATES
from ._facts import Facts


# The rows of frequencies that scaling treats alike, in the order of the report.
_FATES = {
    "kept": "kept",
    "blended": "blended",
    "interpolated": "over {:.4g}",
    "still": "do not turn",
}


def words_of(facts: Facts, warnings: list[str]) -> str:
    """The report for a terminal."""
    head = f"{facts['model_type']}: {_many(facts['layer_count'], 'layer')}"
    if facts["context"]:
        head += f", a context of {_many(facts['context'], 'position')}"
    blocks = [head]
    if facts.get("other_parts"):
        blocks.append(f"Other parts, for --part: {', '.join(facts['other_parts'])}.")
    for kind in facts["kinds"]:
        rows = [(f"    {name}", value) for name, value in _rows(kind)]
        head = f"{layers_of(kind['layers'])}{label_of(kind)}:"
        blocks.append(f"{head}\n{in_columns(rows)}")
    if warnings:
        bullet = textwrap.TextWrapper(80, "  * ", "    ")
        blocks.append("\n".join(["Warnings:", *map(bullet.fill, warnings)]))
    return "\n\n".join(blocks)


def label_of(kind: Facts) -> str:
    """The type of the layers, unless it says that they rotate and they do not."""
    rotates = any(part["class"] == "Rotary" for part in kind.get("rotary", []))
    named = kind["layer_type"] != ROTATES or rotates
    return f", {kind['layer_type']}" if named else ""


def layers_of(indices: list[int]) -> str:
    """Indices of layers, with consecutive ones as ranges."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][1] + 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    shown = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs]
    # Models that alternate two kinds of layers would fill the line.
    if len(shown) > 8:
        shown = [*shown[:4], "…", shown[-1]]
    return f"{'Layer' if len(indices) == 1 else 'Layers'} {', '.join(shown)}"


def _rows(kind):
    if not kind["attention"]:
        yield "position", "none: these layers have no attention"
        return
    for place in "encoding", "bias", "score":
        if place in kind:
            yield place, _part(kind[place])
    for part in kind["rotary"]:
        if part["class"] == "Rotary":
            yield from _rotary_rows(part)
        else:
            yield "rotary", _part(part)
    if kind["logit_scale"] is not None:
        yield "logits times", f"{kind['logit_scale']:.6g}"
    if kind["window"]:
        some = kind["window_layers"] != kind["layers"]
        where = f" in {layers_of(kind['window_layers']).lower()}" if some else ""
        yield "window", _many(kind["window"], "key") + where
    if kind["chunk"]:
        yield "within pieces of", _many(kind["chunk"], "position")


def _part(part):
    settings = [f"{name}={value!r}" for name, value in part.items() if name != "class"]
    return f"eqx_posemb.{part['class']}({', '.join(settings)})"


def _rotary_rows(part):
    yield "rotary", f"eqx_posemb.Rotary over eqx_posemb.frequencies.{part['schedule']}"
    yield "channels", f"{part['rotated']} of {part['head_dim']} rotate"
    yield "pairs", part["pairing"]
    if part["coordinates"] > 1:
        said = f"of {part['coordinates']} coordinates"
        if "sections" in part:
            sizes = ", ".join(map(str, part["sections"]))
            said += f", which turn {sizes} pairs, {part['order']}"
        yield "positions", said
    if "frequencies" not in part:
        yield "frequencies", "learned"
        return
    frequencies, factor = part["frequencies"], part["factor"]
    if part["theta"]:
        yield "theta", f"{part['theta']:,.10g}"
    if part["original_length"]:
        yield "trained length", _many(part["original_length"], "position")
    yield "frequencies", f"{frequencies['count']}"
    for fate, name in _FATES.items():
        found = frequencies[fate]
        if found["count"] and not (fate == "kept" and factor == 1):
            yield f"  {name.format(factor)}", _fate(found)
    longest = f"{_size(part['longest_wavelength'])} positions"
    if "turns_of_slowest" in part:
        longest += f": {part['turns_of_slowest']:.3g} turns in the context"
    yield "wavelengths", f"up to {longest}"
    if "unfinished" in part:
        scaled = part["original_length"] is not None
        where = "trained length, before scaling" if scaled else "context"
        yield "less than a turn", f"{_many(part['unfinished'], 'pair')} in the {where}"
    factor = part["attention_factor"]
    logits = f", and so logits {factor**2:.6g}" if factor != 1 else ""
    yield "attention factor", f"{factor:.6g}{logits}"


def _fate(found):
    first, last = found["indices"]
    pairs = f"pair {first}" if first == last else f"pairs {first}-{last}"
    said = f"{found['count']}: {pairs}"
    if found["wavelengths"] is None:
        return said
    waves = " to ".join(dict.fromkeys(map(_size, found["wavelengths"])))
    return f"{said}, wavelengths of {waves} positions"


def _size(value) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


def _many(count, what) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
