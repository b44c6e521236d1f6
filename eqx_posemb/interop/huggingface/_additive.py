"""Biases and tables, for models that do not rotate."""

from typing import Any

import jax
from jaxtyping import PRNGKeyArray

from ..._bias import ALiBi, T5Bias
from ..._bundle import PositionalEmbedding
from ..._encoding import Learned, Sinusoidal
from ..._encoding._learned_grid import LearnedGrid
from ..._encoding._scaled_sinusoidal import ScaledSinusoidal
from ..._rotary import NoPE
from ..._state_dicts import square
from .._configuration import known, require, Settings, WIDEST
from ._layers import count_of, ROTATES as ALIKE
from ._rows import MOST_LAYERS


STACKS = ("encoder", "decoder")
LENGTH = "max_position_embeddings"


def stacks_of(settings: Settings) -> tuple[str, ...]:
    """For each layer, the stack that it is in, or that it is as all others."""
    keys = settings.row.get("stacks")
    if keys is None:
        return (ALIKE,) * count_of(settings)
    # By default, T5's decoder has the number of layers of its encoder.
    same = settings.get(keys[0], 1)
    first, second = (settings.integer(key, same, most=MOST_LAYERS) for key in keys)
    return ("encoder",) * first + ("decoder",) * second


def additive_of(
    settings: Settings, layer_type: str | None, key: PRNGKeyArray | None
) -> PositionalEmbedding:
    """The embedding of a model whose positions are added, to tokens or to logits."""
    stacked = "stacks" in settings.row
    if stacked and layer_type is None:
        raise ValueError(
            "`layer_type` must be given, as the layers of this model differ, but got "
            "None. Give one of 'encoder', 'decoder'."
        )
    if layer_type is not None:
        known("layer_type", layer_type, STACKS if stacked else (ALIKE,))
    # Weights of a checkpoint replace the initial values, so the key is optional.
    key = jax.random.key(0) if key is None else key
    slots = BUILDERS[settings.row["adds"]](settings, layer_type, key)
    return PositionalEmbedding(**slots)


def _t5(settings, layer_type, key):
    bias = T5Bias(
        _any(settings, "num_heads", "num_attention_heads"),
        num_buckets=settings.width("relative_attention_num_buckets"),
        max_distance=settings.integer("relative_attention_max_distance"),
        bidirectional=layer_type == "encoder",
        key=key,
    )
    return dict(bias=bias, scale=1.0)


def _mpnet(settings, layer_type, key):
    first, second = jax.random.split(key)
    bias = T5Bias(
        settings.width("num_attention_heads"),
        num_buckets=settings.width("relative_attention_num_buckets"),
        # The configuration lacks this number, which is a constant in the code of
        # transformers.
        max_distance=128,
        key=first,
    )
    return dict(bias=bias, **_learned(settings, layer_type, second))


def _falcon(settings, layer_type, key):
    heads = settings.width("num_attention_heads")
    head = settings.width("hidden_size") // heads
    require(head >= 1, "num_attention_heads", "be at most `hidden_size`", heads)
    # Falcon scales the bias together with the products.
    return dict(bias=ALiBi(heads, factor=head**-0.5))


def _mpt(settings, layer_type, key):
    attention = Settings({}, inside="attn_config")
    if settings.has("attn_config"):
        attention = settings.within("attn_config")
    rule = "be true, as their code has no other embedding for this model type"
    attention.require(attention.flag("alibi", True), "alibi", rule, False)
    most = attention.number("alibi_bias_max", 8, above=0)
    scale = None
    if attention.has("softmax_scale"):
        scale = attention.number("softmax_scale", above=0)
    return dict(bias=ALiBi(settings.width("n_heads"), bias_max=most), scale=scale)


def _learned(settings, layer_type, key):
    row = settings.row
    kind = settings.text("position_embedding_type", "absolute")
    rule = "be 'absolute' for this model type"
    require(kind == "absolute", "position_embedding_type", rule, kind)
    name, offset, padding = row.get("length", LENGTH), row.get("offset", 0), None
    rows = settings.integer(name, most=2**20)
    if "padding" in row:
        # Positions of the model begin after the row of padding, and positions here
        # begin at zero.
        padding = _padding(settings)
        offset = padding + 1
        rows -= offset
        rule = f"be beyond the row of padding, `pad_token_id` {padding}"
        require(rows >= 1, name, rule, rows + offset)
    dim = _dim(settings)
    return dict(
        encoding=Learned(rows, dim, offset=offset, padding_idx=padding, key=key)
    )


def _grid(settings, layer_type, key):
    tokens = settings.row.get("tokens", 1)
    if isinstance(tokens, str):
        tokens = settings.integer(tokens, least=0, most=WIDEST)
    shape, dim = _cells(settings), _dim(settings)
    return dict(encoding=LearnedGrid(shape, dim, prefix=tokens, key=key))


def _sinusoidal(settings, layer_type, key):
    row, dim = settings.row, _dim(settings)
    offset, layout = row.get("offset", 0), row["layout"]
    if "padding" in row:
        offset = _padding(settings) + 1
    if "scaled" in row:
        return dict(encoding=ScaledSinusoidal(dim, layout=layout))
    return dict(encoding=Sinusoidal(dim, layout=layout, offset=offset))


def _whisper(settings, layer_type, key):
    # Whisper has sinusoids in its encoder, and a learned table in its decoder.
    if layer_type == "encoder":
        return _sinusoidal(settings, layer_type, key)
    length = settings.integer("max_target_positions", most=2**20)
    return dict(encoding=Learned(length, _dim(settings), key=key))


def _alibi(settings, layer_type, key):
    heads = _any(settings, "n_head", "n_heads", "num_attention_heads")
    return dict(bias=ALiBi(heads))


BUILDERS: dict[str, Any] = {
    "nothing": lambda settings, layer_type, key: dict(rotary=NoPE()),
    "t5": _t5,
    "mpnet": _mpnet,
    "alibi": _alibi,
    "falcon": _falcon,
    "mpt": _mpt,
    "learned": _learned,
    "grid": _grid,
    "sinusoidal": _sinusoidal,
    "whisper": _whisper,
}


def _cells(settings) -> tuple[int, int]:
    """The height and the width of the grid that a table has rows for."""
    row = settings.row
    if "cells" in row:
        return square(row["cells"], settings.integer(row["cells"], most=2**20))
    image, patch = row.get("image", "image_size"), row.get("patch", "patch_size")
    sizes = zip(_sides(settings, image), _sides(settings, patch), strict=True)
    height, width = (side // each for side, each in sizes)
    rule = f"be at least `{patch}`, for an image to have patches"
    told = settings.get(image), settings.get(patch)
    require(height and width, image, rule, *told)
    return height, width


def _sides(settings, key) -> tuple[int, ...]:
    if not isinstance(settings.get(key), list | tuple):
        return (settings.width(key),) * 2
    sides = settings.integers(key, least=1)
    require(len(sides) == 2, key, "be a size or a height and a width", list(sides))
    return sides


def _padding(settings) -> int:
    return settings.integer("pad_token_id", 1, least=0, most=WIDEST)


def _dim(settings) -> int:
    return settings.width(settings.row.get("dim", "hidden_size"))


def _any(settings, *names: str) -> int:
    """The first of some keys that is there."""
    given = [name for name in names if settings.has(name)]
    default = [name for name in names if name in settings.defaults]
    return settings.width((given or default or names)[0])
