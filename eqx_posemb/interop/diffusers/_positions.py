"""The positions of tokens in diffusion models of diffusers."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Num

from ..._checks import check_count, check_positive, check_shape
from ..._phase import as_float
from ..._positions import grid_positions
from ..._positions._patches import (
    centered_positions,
    normalized_positions,
    resized_positions,
)
from .._configuration import require, Settings
from ._rows import rotates, settings_of


# LTX counts pixels of 8 frames, 32 rows and 32 columns for a token.
_LTX_TOKEN, _LTX_WHOLE = (8, 32, 32), (20, 2048, 2048)
_COSMOS_RATE = 24
_MOCHI_SIDE = 192


def positions(
    config: Any,
    shape: Sequence[int],
    *,
    text: int = 0,
    frame_rate: float | None = None,
) -> Num[Array, "seq axes"]:
    r"""Counts the tokens of a diffusion transformer as the code of the model does.

    | class | image of $h \times w$ tokens in $f$ frames | text |
    |---|---|---|
    | Flux, Chroma | frame, row, column | zeros, first |
    | Flux 2 | frame, row, column, 0 | its number on the last axis, first |
    | Qwen-Image | rows and columns from the middle | from $\max(h, w) // 2$ on, first |
    | Lumina 2 | time is the length of the text | its number is the time, first |
    | Z-Image | the same, plus one | its number from one is the time, last |
    | CogView 4 | rows and columns spread over 256 | zeros, first |
    | CogVideoX | the trained grid, resized and cropped; 1.5: plain | zeros, first |
    | HunyuanVideo | frame, row, column | zeros, last |
    | Mochi | centers of tokens, with the area of the trained grid | zeros, last |
    | Wan, SkyReels | frame, row, column | none |
    | Cosmos | frames at 24 a second | none |
    | LTX | seconds and pixels, as parts of the largest video, from -1 to 1 | none |
    | PixArt | rows and columns spread over the trained grid | none |
    | SD3 | the middle of the largest grid | none |

    A rotary embedding does not rotate at zero, so text at zero stays as it is.

    !!! Example

        ```python
        from eqx_posemb.interop import diffusers

        config = {"_class_name": "QwenImageTransformer2DModel"}
        positions = diffusers.positions(config, (2, 4), text=2).tolist()
        assert positions[:3] == [[2, 2, 2], [3, 3, 3], [0, -1, -2]]
        ```

    Images to edit or to follow have another frame. It is 1 in Flux Kontext, the number
    of the image in Qwen-Image, and 10, 20 and so on in Flux 2: add it to the first
    coordinate. The text of Qwen-Image begins beside the largest image.

    **Arguments:**

    - `config`: As in [`eqx_posemb.interop.diffusers.load`][].
    - `shape`: The grid of tokens, which are patches of the latents: frames, rows and
        columns, or rows and columns for an image.
    - `text`: The number of tokens of text in the same attention, with its padding.
    - `frame_rate`: Frames of the video for each second, for Cosmos and LTX. Cosmos
        needs none for images.

    **Returns:** positions of all tokens in the order of the model's attention, integers
    or floats.

    **Raises:** a `ValueError` as `load` for `config`, if `shape` has another number of
    axes, if `text` is given where the attention has none, or if `frame_rate` is missing
    or not read.
    """
    settings, name = settings_of(config)
    row = settings.row
    axes = row.get("axes", 3)
    # An image is a video of one frame.
    if axes == 3 and isinstance(shape, Sequence) and len(shape) == 2:
        shape = (1, *shape)
    rule = f"have rows and columns{', or frames, rows and columns' * (axes == 3)}"
    shape = check_shape("shape", shape, axes=axes, rule=rule)
    check_count("text", text, 0)
    has_text = "text" in row and rotates(settings)
    rule = f"be 0 for {name}, whose text has no positions"
    require(has_text or not text, "text", rule, text)
    grid = row.get("grid", "cells")
    counts = frame_rate is None or grid in ("seconds", "frame_rate")
    rule = f"be None for {name}, which counts frames"
    require(counts, "frame_rate", rule, frame_rate)
    known = frame_rate is not None or grid != "seconds"
    rule = f"be given for {name}, which counts seconds"
    require(known, "frame_rate", rule, frame_rate)
    if frame_rate is not None:
        check_positive("frame_rate", frame_rate)
    image = _GRIDS[grid](shape, settings, frame_rate)
    if not has_text:
        return image
    words, image = _TEXTS[row["text"]](text, image, shape)
    return jnp.concatenate([image, words] if row.get("text_last") else [words, image])


def _cells(shape, settings, rate):
    del settings, rate
    return grid_positions(shape)


def _centered(shape, settings, rate):
    del settings, rate
    frames = shape[0] - shape[0] // 2
    return centered_positions(shape) + jnp.array([[frames, 0, 0]])


def _resized(shape, settings, rate):
    del rate
    onto = settings.integers("rope_axes_dim", least=1)
    return resized_positions(shape, onto, whole=True)


def _cropped(shape, settings, rate):
    del rate
    cells = grid_positions(shape)
    if not settings.flag("use_rotary_positional_embeddings", False):  # an encoding
        space = settings.number("spatial_interpolation_scale", above=0)
        time = settings.number("temporal_interpolation_scale", above=0)
        return _times(cells, (1 / time, 1 / space, 1 / space))
    if settings.get("patch_size_t") is not None:
        return cells
    patch = settings.width("patch_size")
    trained = [
        settings.width(f"sample_{side}") // patch for side in ("height", "width")
    ]
    # The smaller ratio fits the whole image into the grid of training.
    scale = min(size / n for size, n in zip(trained, shape[1:], strict=True))
    lines = [np.arange(shape[0])]
    for size, n in zip(trained, shape[1:], strict=True):
        fitted = round(scale * n)
        start = round((size - fitted) / 2)
        # The last token is where a token before the end of the whole would be.
        lines.append(np.linspace(start, (start + fitted) * (n - 1) / n, n))
    grid = np.stack(np.meshgrid(*lines, indexing="ij"), axis=-1)
    return jnp.asarray(grid.reshape(-1, 3), jnp.result_type(float))


def _area(shape, settings, rate):
    del settings, rate
    frames, *space = shape
    time = as_float(grid_positions(shape)[:, :1])
    # Positions of all aspect ratios cover the same area, as in training.
    within = normalized_positions(space, by="area") * (_MOCHI_SIDE / 2)
    return jnp.concatenate([time, jnp.tile(within, (frames, 1))], axis=1)


def _seconds(shape, settings, rate):
    del settings
    # LTX measures time in seconds and space in pixels.
    per_second = (1 / rate, 1, 1)
    sizes = zip(_LTX_TOKEN, per_second, _LTX_WHOLE, strict=True)
    return _times(grid_positions(shape), [2 * n * each / m for n, each, m in sizes]) - 1


def _frame_rate(shape, settings, rate):
    del settings
    cells = grid_positions(shape)
    # Without a rate the tokens are images, whose frame is zero.
    return cells if rate is None else _times(cells, (_COSMOS_RATE / rate, 1, 1))


def _patches(shape, settings, rate):
    del rate
    trained = _trained(settings)
    scale = max(settings.integer("sample_size") // 64, 1)
    if settings.get("interpolation_scale") is not None:
        scale = settings.number("interpolation_scale", above=0)
    return resized_positions(shape, (trained / scale, trained / scale))


def _middle(shape, settings, rate):
    del rate
    largest = settings.width("pos_embed_max_size")
    # The middle of the largest table is the crop that the model was trained on.
    start = jnp.array([[(largest - n) // 2 for n in shape]])
    return _times(grid_positions(shape) + start, 2 * [_trained(settings) / largest])


def _times(cells, factors):
    return as_float(cells) * jnp.array(factors, jnp.result_type(float))[None]


def _trained(settings: Settings) -> int:
    return settings.integer("sample_size") // settings.width("patch_size")


_GRIDS = {
    "cells": _cells,
    "centered": _centered,
    "resized": _resized,
    "cropped": _cropped,
    "area": _area,
    "seconds": _seconds,
    "frame_rate": _frame_rate,
    "patches": _patches,
    "middle": _middle,
}


def _origin(text, image, shape):
    del shape
    return jnp.zeros((text, image.shape[1]), image.dtype), image


def _last_axis(text, image, shape):
    del shape
    return jnp.pad(_count(text), [(0, 0), (3, 0)]), jnp.pad(image, [(0, 0), (0, 1)])


def _beside(text, image, shape):
    return jnp.tile(_count(text) + max(shape[1:]) // 2, (1, 3)), image


def _time(text, image, shape):
    del shape
    later = image + jnp.array([[text, 0, 0]])
    return jnp.pad(_count(text), [(0, 0), (0, 2)]), later


def _time_from_one(text, image, shape):
    words, image = _time(text, image, shape)
    one = jnp.array([[1, 0, 0]])
    return words + one, image + one


def _count(text):
    return jnp.arange(text, dtype=jnp.int32)[:, None]


_TEXTS = {
    "origin": _origin,
    "last_axis": _last_axis,
    "beside": _beside,
    "time": _time,
    "time_from_one": _time_from_one,
}
