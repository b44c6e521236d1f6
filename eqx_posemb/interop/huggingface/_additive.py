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
from .._configuration import known, quoted, Settings, WIDEST
from ._layers import count_of, ROTATES as ALIKE
from ._rows import MOST_LAYERS


STACKS = ("encoder", "decoder")


def stacks_of(settings: Settings, row: dict[str, Any]) -> tuple[str, ...]:
    """For each layer, the stack that it is in, or that it is as all others."""
    if "stacks" not in row:
        return (ALIKE,) * count_of(settings, row)
    names = []
    for stack, key in zip(STACKS, row["stacks"], strict=True):
        # By default, T5's decoder has the number of layers of its encoder.
        same = settings.get(row["stacks"][0], 1)
        names += [stack] * settings.integer(key, same, most=MOST_LAYERS)
    return tuple(names)


def additive_of(
    settings: Settings,
    row: dict[str, Any],
    layer_type: str | None,
    key: PRNGKeyArray | None,
) -> PositionalEmbedding:
    """The embedding of a model whose positions are added, to tokens or to logits."""
    if "stacks" in row and layer_type is None:
        raise ValueError(
            "`layer_type` must be given, as the layers of this model differ, but got "
            "None. Give one of 'encoder', 'decoder'."
        )
    if layer_type is not None:
        known("layer_type", layer_type, STACKS if "stacks" in row else (ALIKE,))
    # Weights of a checkpoint replace the initial values, so the key is optional.
    key = jax.random.key(0) if key is None else key
    return BUILDERS[row["adds"]](settings, row, layer_type, key)


def _nothing(settings, row, layer_type, key):
    return PositionalEmbedding(rotary=NoPE())


def _t5(settings, row, layer_type, key):
    bias = T5Bias(
        _any(settings, "num_heads", "num_attention_heads"),
        num_buckets=settings.width("relative_attention_num_buckets"),
        max_distance=settings.integer("relative_attention_max_distance"),
        bidirectional=layer_type == "encoder",
        key=key,
    )
    return PositionalEmbedding(bias=bias, scale=1.0)


def _mpnet(settings, row, layer_type, key):
    first, second = jax.random.split(key)
    bias = T5Bias(
        settings.width("num_attention_heads"),
        num_buckets=settings.width("relative_attention_num_buckets"),
        # The configuration lacks this number, which is a constant in the code of
        # transformers.
        max_distance=128,
        key=first,
    )
    return PositionalEmbedding(encoding=_table(settings, row, second), bias=bias)


def _alibi(settings, row, layer_type, key):
    heads = _any(settings, "n_head", "n_heads", "num_attention_heads")
    return PositionalEmbedding(bias=ALiBi(heads))


def _falcon(settings, row, layer_type, key):
    heads = settings.width("num_attention_heads")
    head = settings.width("hidden_size") // heads
    if head < 1:
        raise ValueError(
            f"`num_attention_heads` must be at most `hidden_size`, but got {heads}."
        )
    # Falcon scales the bias together with the products.
    return PositionalEmbedding(bias=ALiBi(heads, factor=head**-0.5))


def _mpt(settings, row, layer_type, key):
    attention = Settings(
        settings.mapping("attn_config") if settings.has("attn_config") else {},
        {"alibi": True, "alibi_bias_max": 8},
        "attn_config",
    )
    if not attention.flag("alibi", True):
        raise ValueError(
            "`attn_config.alibi` must be true, as their code has no other embedding "
            "for this model type, but got False."
        )
    most = attention.number("alibi_bias_max", above=0)
    scale = None
    if attention.has("softmax_scale"):
        scale = attention.number("softmax_scale", above=0)
    bias = ALiBi(_any(settings, "n_heads"), bias_max=most)
    return PositionalEmbedding(bias=bias, scale=scale)


def _learned(settings, row, layer_type, key):
    return PositionalEmbedding(encoding=_table(settings, row, key))


def _grid(settings, row, layer_type, key):
    tokens = row.get("tokens", 1)
    if isinstance(tokens, str):
        tokens = settings.integer(tokens, least=0, most=WIDEST)
    shape, dim = _cells(settings, row), _dim(settings, row)
    encoding = LearnedGrid(shape, dim, prefix=tokens, key=key)
    return PositionalEmbedding(encoding=encoding)


def _sinusoidal(settings, row, layer_type, key):
    offset = row.get("offset", 0)
    if "padding" in row:
        offset = _padding(settings) + 1
    dim, layout = _dim(settings, row), row["layout"]
    if "scaled" in row:
        return PositionalEmbedding(encoding=ScaledSinusoidal(dim, layout=layout))
    encoding = Sinusoidal(dim, layout=layout, offset=offset)
    return PositionalEmbedding(encoding=encoding)


def _whisper(settings, row, layer_type, key):
    # Whisper has sinusoids in its encoder, and a learned table in its decoder.
    if layer_type == "decoder":
        length = settings.integer("max_target_positions", most=2**20)
        return PositionalEmbedding(
            encoding=Learned(length, _dim(settings, row), key=key)
        )
    encoding = Sinusoidal(_dim(settings, row), layout="tensor2tensor")
    return PositionalEmbedding(encoding=encoding)


BUILDERS: dict[str, Any] = {
    "nothing": _nothing,
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


def _table(settings, row, key) -> Learned:
    kind = settings.text("position_embedding_type", "absolute")
    if kind != "absolute":
        raise ValueError(
            "`position_embedding_type` must be 'absolute' for this model type, but got "
            f"{quoted(kind)}."
        )
    rows = settings.integer(row.get("length", "max_position_embeddings"), most=2**20)
    padding = None
    offset = row.get("offset", 0)
    if "padding" in row:
        # Positions of the model begin after the row of padding, and positions here
        # begin at zero.
        padding = _padding(settings)
        offset = padding + 1
        rows -= offset
        if rows < 1:
            raise ValueError(
                "`max_position_embeddings` must be beyond the row of padding, but "
                f"got {rows + offset} and `pad_token_id` {padding}."
            )
    return Learned(
        rows, _dim(settings, row), offset=offset, padding_idx=padding, key=key
    )


def _cells(settings, row) -> tuple[int, int]:
    """The height and the width of the grid that a table has rows for."""
    if "cells" in row:
        cells = settings.integer(row["cells"], most=2**20)
        return square(row["cells"], cells)
    image, patch = row.get("image", "image_size"), row.get("patch", "patch_size")
    sizes = zip(_sides(settings, image), _sides(settings, patch), strict=True)
    height, width = (side // each for side, each in sizes)
    if not (height and width):
        raise ValueError(
            f"`{image}` must be at least `{patch}`, for an image to have patches, but "
            f"got {quoted(settings.get(image))} and {quoted(settings.get(patch))}."
        )
    return height, width


def _sides(settings, key) -> tuple[int, ...]:
    if not isinstance(settings.get(key), list | tuple):
        return (settings.width(key),) * 2
    sides = settings.integers(key, least=1)
    if len(sides) != 2:
        raise ValueError(
            f"`{key}` must be a size or a height and a width, but got {list(sides)}."
        )
    return sides


def _padding(settings) -> int:
    return settings.integer("pad_token_id", 1, least=0, most=WIDEST)


def _dim(settings, row) -> int:
    return settings.width(row.get("dim", "hidden_size"))


def _any(settings, *names: str) -> int:
    """The first of some keys that is there."""
    name = next((name for name in names if settings.has(name)), None)
    name = name or next((n for n in names if settings.get(n) is not None), names[0])
    return settings.width(name)
