"""From a configuration to a positional embedding."""

from typing import Any

from jaxtyping import PRNGKeyArray

from ..._bundle import PositionalEmbedding
from ._layers import labels_of, layer_types_of, NO_ATTENTION, ROTATES
from ._parts import part_of
from ._rotaries import layer_of, rotary_of
from ._settings import known, read


def load(
    config: Any,
    *,
    layer_type: str | None = None,
    model_type: str | None = None,
    quirks: bool = False,
    key: PRNGKeyArray | None = None,
) -> PositionalEmbedding:
    """Builds the positional embedding of a model."""
    settings, row, _ = part_of(read(config), model_type)
    labels = labels_of(settings, row)
    names = {ROTATES, *labels, *row.get("rope", {})}
    label = _chosen(layer_type, labels, settings, row, names, quirks)
    layer = layer_of(settings, row, label, names, quirks)
    rotary = rotary_of(layer, settings, row, quirks, key)
    return PositionalEmbedding(rotary=rotary, scale=layer.scale)


def layer_types(config: Any, *, model_type: str | None = None) -> tuple[str, ...]:
    """Says, for each layer of a model, what to give to `load` as its `layer_type`."""
    settings, row, _ = part_of(read(config), model_type)
    return labels_of(settings, row)


def _chosen(layer_type, labels, settings, row, names, quirks) -> str:
    if layer_type is not None:
        types = layer_types_of(settings, row)
        renamed = row.get("labels", {})
        known("layer_type", layer_type, {*labels, *types, *renamed, *names})
        return renamed.get(layer_type, layer_type)
    attending = [label for label in dict.fromkeys(labels) if label not in NO_ATTENTION]
    if not attending:
        return ROTATES
    made = {layer_of(settings, row, label, names, quirks) for label in attending}
    if len(made) > 1:
        raise ValueError(
            "`layer_type` must be given, as the layers of this model differ, but got "
            f"None. Give one of {', '.join(map(repr, attending))}; `layer_types` has "
            "that of each layer."
        )
    return attending[0]
