"""From a row and its settings to what fills the rotary slot."""

import dataclasses
import functools
import operator
from typing import Any

from jaxtyping import PRNGKeyArray

from ..._rotary import (
    AbstractRotary,
    Chain,
    magnitude,
    NoPE,
    Pairing,
    Rotary,
    ScalableSoftmax,
    Temperature,
)
from ..._rotary._extension import DualChunk
from .._configuration import listed, require, Settings
from . import _axes as axes
from ._layers import DOES_NOT, layer_types_of, rotates
from ._rope import Rope, rope_of
from ._rope_keys import DEALT
from ._schedule import schedule
from ._width import width_of


# Inference engines have these defaults, and their other keys do not change distances.
CHUNKS = {"chunk_size": 8192, "local_size": 1024}
BESIDE_CHUNKS = (
    "original_max_position_embeddings",
    "sparse_attention_config",
    "sparse_attention_enabled",
    "sparse_attention_last_q",
)
HEAD = ("head_dim", "hidden_size/num_attention_heads", "hidden_size/num_heads")
LATENT = "qk_rope_head_dim"


@dataclasses.dataclass(frozen=True)
class Layer:
    """All that the layers with a label have of position."""

    rope: Rope | None
    head: int
    width: int
    pairing: str
    temperature: Temperature | None
    scale: float | None


def layer_of(settings: Settings, label: str) -> Layer:
    row, settings = settings.row, _of_layers(settings, label)
    head = _head(settings)
    rope = rope_of(settings, label, head) if rotates(label, settings) else None
    if rope is not None and label == "unscaled":
        # Layers outside of `rope_scaling_layers` keep the frequencies of training.
        rope = dataclasses.replace(rope, kind="default", attention_factor=1.0)
    if rope is not None and label.startswith("theta="):
        rope = dataclasses.replace(rope, theta=float(label.removeprefix("theta=")))
    turned_off = "interleave" in row and not settings.flag(row["interleave"], True)
    return Layer(
        rope=rope,
        head=head,
        width=head if rope is None else width_of(rope, head, settings),
        pairing="halves" if turned_off else row.get("pairing", "halves"),
        temperature=_temperature(rope, label, settings),
        scale=_scale(rope, head, settings),
    )


def _of_layers(settings, label):
    """With what the configuration has for these layers alone."""
    if not settings.has("per_layer_config"):
        own = settings.row.get("of_layers", {}).get(label, {})
        found = {key: settings.get(*told) for key, told in own.items()}
        return settings.changed(found) if found else settings
    types = layer_types_of(settings)
    for key, value in settings.mapping("per_layer_config").items():
        fine, rule = isinstance(value, dict), "be the object of a layer, by its index"
        require(fine and key.isdigit(), f"per_layer_config.{key[:80]}", rule, value)
        if int(key) < len(types) and types[int(key)] == label:
            return settings.changed(value)
    return settings


def _head(settings: Settings) -> int:
    tried = settings.row.get("head", HEAD)
    found = ((rule, _evaluated(rule, settings)) for rule in tried)
    rule, value = next((pair for pair in found if pair[1] is not None), ("", None))
    if value is None:
        raise ValueError(
            f"`{tried[0]}` must be given, or what it follows from, "
            f"{', '.join(tried[1:])}, but got keys {listed(settings.keys)}."
        )
    if value < 1:
        raise ValueError(
            f"`{rule.replace('/', '` must be at least `')}`, for a head to have "
            f"channels, but got {value} of them."
        )
    return value


def _evaluated(rule: str, settings: Settings) -> int | None:
    """A sum, a quotient or a key of a part, or `None` if a key is missing."""
    if rule == "clvp":
        heads = settings.width("num_attention_heads")
        # CLVP's code bounds the width by 32 channels.
        return max(settings.width("projection_dim") // (2 * heads), 32)
    if "." in rule:
        part, key = rule.split(".")
        default = settings.defaults.get(part, {})
        if settings.get(part) is None:
            return None
        return settings.within(part, **default).width(key)
    names = rule.replace("+", "/").split("/")
    if any(settings.get(name) is None for name in names):
        return None
    widths = map(settings.width, names)
    return sum(widths) if "+" in rule else functools.reduce(operator.floordiv, widths)


def _temperature(rope, label, settings) -> Temperature | None:
    rule = settings.row.get("temperature")
    if rule == "llama_4_scaling_beta" and rope is not None and rope.beta:
        return Temperature(beta=rope.beta, length=rope.original_length or rope.length)
    tuned = rule == "attn_temperature_tuning" and label == DOES_NOT
    if tuned and settings.flag(rule, True):
        return Temperature(
            beta=settings.number("attn_scale", 0.1, above=0),
            length=settings.number("floor_scale", 8192, above=0),
            offset=1,
        )
    return None


def _scale(rope, head, settings) -> float | None:
    rule = settings.row.get("scale")
    if rule == "query_pre_attn_scalar":
        return settings.number(rule, above=0) ** -0.5
    if rule == "attention_multiplier":
        return settings.number(rule, above=0)
    if rule == "half_head":
        return (head / 2) ** -0.5
    if rule is not None:
        return float(rule)
    if settings.row.get("rotary") == LATENT and rope is not None:
        if rope.mscale_all_dim and rope.kind == "yarn":
            # DeepSeek multiplies the logits by YaRN's factor, in place of queries and
            # keys.
            return head**-0.5 * magnitude(rope.factor, rope.mscale_all_dim) ** 2
    return None


def rotary_of(
    layer: Layer, settings: Settings, key: PRNGKeyArray | None
) -> AbstractRotary | DualChunk:
    """What fills the rotary slot of such a layer."""
    made: list[AbstractRotary] = []
    if layer.rope is not None:
        made.append(_rotary(layer, layer.rope, settings, key))
    if layer.temperature is not None:
        made.append(layer.temperature)
    if settings.row.get("temperature") == "learned":
        # The model has no temperature until its weights are loaded, hence weight zero
        # and bias one.
        heads = settings.width("num_attention_heads")
        made.append(ScalableSoftmax(heads, weight=0.0, bias=1.0))
    if not made:
        return NoPE()
    rotary = Chain(made) if len(made) > 1 else made[0]
    return rotary if layer.rope is None else _in_chunks(rotary, settings)


def _rotary(layer, rope, settings, key) -> Rotary:
    row = settings.row
    rule = row.get("axes")
    if rule is not None and rule not in DEALT:
        return _of_image(layer, rope, settings, rule, key)
    frequencies = schedule(rope, layer.head, layer.width, settings)
    width = layer.width + layer.width % 2
    # An odd width is rounded up to pairs, and may then exceed the head.
    dim = max(layer.head, width)
    pairing = _layout(layer.pairing, dim, width, row)
    dealt = None
    if rule is not None:
        dealt = axes.sections(rope, width // 2, settings)
        if settings.quirks and row.get("torn"):
            dealt, pairing = axes.torn(dealt.sizes, width // 2)
    return Rotary(
        frequencies,
        axes=dealt,
        dim=dim,
        scale=rope.attention_factor,
        pairing=pairing,
    )


def _of_image(layer, rope, settings, rule, key) -> Rotary:
    if rule == "atoms":
        made = axes.atoms(layer.head, settings)
    elif rule == "points":
        made = axes.points(layer.head, key)
    else:
        width = layer.width if rule == "seconds" else layer.head
        made = getattr(axes, rule)(width, rope.theta)
    pairing = made.pairing or layer.pairing
    return Rotary(made.frequencies, axes=made.axes, dim=layer.head, pairing=pairing)


def _in_chunks(
    rotary: AbstractRotary, settings: Settings
) -> AbstractRotary | DualChunk:
    """With the distances of dual chunk attention, which inference engines have."""
    name = "dual_chunk_attention_config"
    if not settings.has(name) or settings.engine_keys == "ignore":
        return rotary
    chunks = settings.within(name, **CHUNKS)
    chunks.only((*CHUNKS, *BESIDE_CHUNKS), f"`{name}`")
    chunk, window = chunks.integer("chunk_size"), chunks.integer("local_size")
    rule = f"be larger than `local_size`, {window}"
    chunks.require(chunk > window, "chunk_size", rule, chunk)
    return DualChunk(rotary, chunk=chunk, window=window)


def _layout(name: str, dim: int, width: int, row) -> Any:
    start = dim - width if row.get("rotary") == LATENT else 0
    if name == "halves" and row.get("clockwise"):
        return Pairing.halves(dim, width, start).inverse()
    if start or name == "adjacent_to_halves":
        return getattr(Pairing, name)(dim, width, start)
    return name
