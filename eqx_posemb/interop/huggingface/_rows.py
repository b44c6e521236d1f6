"""How each model type of transformers embeds positions, as rows of data."""

import functools
import json
from pathlib import Path
from typing import Any

from .._configuration import rows_of


# Models have at most three levels of parts, so the limit concerns faulty files alone.
DEEPEST = 32

# The limit exceeds every model, and stops a faulty file before it exhausts memory.
MOST_LAYERS = 2**14


@functools.cache
def models() -> dict[str, dict[str, Any]]:
    """How each model type rotates, and its default settings: a row for each.

    A row of `models.json` says what differs from Llama, and an empty one is Llama:

    - `pairing`: the layout; `interleave`: the key that turns it off.
    - `head`: the keys, or sums and quotients of keys, that the width of a head follows
      from, the first that is there; `rotary`: the key of how many channels rotate,
      which are the last of a head for `qk_rope_head_dim`, and the first for others.
    - `partial`: whether the default rope type reads `partial_rotary_factor`, and
      `rotary_dim`: whether that key says the same; `"unread"` if transformers ignores
      the key.
    - `axes`: the rule of `_axes.py` for more than one coordinate; `sections`: its
      default numbers of pairs.
    - `theta_in`: the key of an object that has `rope_theta` in released files.
    - `theta`, `partial_rotary_factor`, `rope`: defaults, the last of all rope settings,
      for each layer type or for all.
      `theta` is also the default of settings that all layers share.
    - `flat`: the only key whose settings may be for all layers, or `"none"`.
    - `nested`: whether other settings for all layers are an error.
    - `lost`: keys that the class drops; `replaced`: keys that it replaces in settings
      for all layers.
    - `of_layers`: for a layer type, the settings of its own, with the key and the
      default of each.
    - `legacy`: older names of keys; `aliases`: older names of rope types; `thetas`,
        `scaled`: the older keys of each layer type; `dangling`: unused keys outside of
        the settings of layer types.
    - `nope`: which layers do not rotate: a layer type, or the key with the list;
      `nope_if`: the key without which all do; `nope_every`: without the list, the last
      layer and one in so many before it do not. `pattern`: the layer types, repeated.
    - `attends`: which layers attend in a model whose other layers do not: `every` so
      many, by that number or key, `at` the indices of that key, or else `all`, by the
      `blocks` of that key, or by the `ratios` of that key; with the type of the
      `others`.
    - `attention_factor`: of YaRN, where the settings have none.
    - `layers`: the keys whose sum is the number of layers, if it has another name.
    - `window`: the key of the window, if it has another name.
    - `windows`: which layers have the window where no layer types are given, repeated.
    - `labels`: the layer types by the names that the rope settings have for them.
    - `scale`, `temperature`: what else belongs to attention.
    - `instead`: a key, its value for which the model rotates, its default, and the row
      that stands for all other values.
    - `besides`: the type in a list of layers that is half of the layer before it.
    - `sinks`: the layer types with a learned logit beside keys, or true for all.
    - `learned`: whether the checkpoint has a shift of the logarithms of frequencies.
    - `adds`: for models that do not rotate, the builder of `_additive.py`; with `dim`,
      `length`, `offset`, `padding`, `layout`, `scaled` and `stacks`. A grid has the
      keys of the `image` and the `patch`, or of the number of `cells`, and the number
      of `tokens` that are on no grid.
    - `clockwise`: whether the angles are negative.
    - `torn`, `never_long`: what transformers has otherwise, for `quirks`.
    - `parts`: the types of parts whose configuration omits the type.

    A string in place of a row is the type that has the row.
    """
    return rows_of(Path(__file__).with_name("models.json"))


def by_hand(model_type: str) -> str:
    """What to build by hand for a model type without a row, or why nothing; empty for
    an unknown type.

    `by_hand.json` has an entry for each, with the name of its reason.
    """
    table = _by_hand()
    return table["reasons"].get(table["model_types"].get(model_type, ""), "")


@functools.cache
def _by_hand() -> dict[str, dict[str, str]]:
    return json.loads(Path(__file__).with_name("by_hand.json").read_text())
