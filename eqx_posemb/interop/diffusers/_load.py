"""From a configuration of diffusers to a positional embedding."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ..._bundle import PositionalEmbedding
from ..._encoding._sinusoidal_grid import SinusoidalGrid
from ..._frequencies import (
    AbstractFrequencies,
    Geometric,
    LearnedFrequencies,
    NTK,
    Scaled,
)
from ..._rotary import Assigned, Mixed, Pairing, Rotary
from ..._rotary._recipes._axes import axial, thirds
from .._configuration import require, Settings
from ._rows import rotates, settings_of


HEAD = ("attention_head_dim",)


def load(
    config: Any,
    *,
    extend: Callable[[int, Geometric | NTK], AbstractFrequencies] | None = None,
) -> PositionalEmbedding:
    r"""Builds the positional embedding of a diffusion transformer of diffusers.

    It reads the config.json in the folder `transformer` of a model, without diffusers
    and torch. [`eqx_posemb.interop.diffusers.positions`][] counts the tokens.

    | class, without `Transformer2DModel` or `3DModel` | coordinates | pairs |
    |---|---|---|
    | Flux, Chroma, QwenImage, Lumina2, ZImage | time, row, column | adjacent |
    | Flux2 | image, row, column, place in the text | adjacent |
    | Wan, WanVACE, WanAnimate, SkyReelsV2 | frame, row, column | adjacent |
    | HunyuanVideo, HunyuanVideo15 | frame, row, column | adjacent |
    | CogVideoX, ConsisID | frame, row, column | adjacent, or an encoding |
    | CogView4 | row, column | halves |
    | Cosmos | frame, row, column, each with NTK | halves |
    | Mochi | frame, row, column, mixed for each head | adjacent, learned |
    | LTXVideo | frame, row, column, over all heads | adjacent |
    | SD3, PixArt | row, column | an encoding of sines and cosines |

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.interop import diffusers

        config = {
            "_class_name": "FluxTransformer2DModel",
            "attention_head_dim": 128,
            "axes_dims_rope": [16, 56, 56],
        }
        embedding = diffusers.load(config)
        positions = diffusers.positions(config, (4, 6), text=8)
        q = k = v = jnp.ones((2, 8 + 24, 128))  # [heads, text and image, dim]
        embedding.attend(q, k, v, positions, positions)
        ```

    Mochi learns its frequencies, and they are zero until the weights are there. Its
    `pos_frequencies` [axes, heads, pairs] become `rotary.frequencies.weight` by
    `pos_frequencies.swapaxes(0, 1).reshape(heads, -1)`. LTX rotates all heads as one
    vector. `embedding.rotary(positions).queries` therefore takes [seq, heads * dim].

    **Arguments:**

    - `config`: A dictionary, the path of a config.json or of its folder, or a model of
        diffusers.
    - `extend`: A function of the number of a coordinate and its schedule, which returns
        the schedule to use: [`eqx_posemb.frequencies.RIFLEx`][] for the frames, say.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][].

    **Raises:** a `ValueError` that names the key, if it is missing, of the wrong type
    or out of range, or if it speaks of positions and the class does not read it. The
    same if the class has no row, if the model adds a table of the checkpoint, or if
    `extend` is given for a model without a schedule for each coordinate.
    """
    settings, name = settings_of(config)
    row = settings.row
    turns, widths = rotates(settings), row.get("widths")
    fine = extend is None or (turns and widths not in ("all_heads", "learned"))
    rule = f"be None for {name}, which has no schedule for each coordinate"
    require(fine, "extend", rule, extend)
    # The encodings of these models are functions of positions, without weights.
    if not turns:
        dim, axes = _all_heads(settings), row.get("axes", 3)
        encoding = SinusoidalGrid(dim, axes=axes, layout=row["adds"])
        return PositionalEmbedding(encoding=encoding)
    if widths == "all_heads":
        return PositionalEmbedding(rotary=_over_all_heads(_all_heads(settings)))
    if widths == "learned":
        heads, dim = settings.width("num_attention_heads"), _head(settings)
        # Zeros rotate nothing until the weights of a checkpoint are there.
        start = LearnedFrequencies(jnp.zeros((heads, 3 * (dim // 2))))
        made = Rotary(start, axes=Mixed(3), pairing="adjacent")
        return PositionalEmbedding(rotary=made)
    return PositionalEmbedding(rotary=_axial(settings, extend))


def _axial(settings: Settings, extend) -> Rotary:
    row, dim = settings.row, _head(settings)
    theta = settings.number(row["theta"], above=1) if "theta" in row else 10_000.0
    schedules: list[Any] = [Geometric(w, theta) for w in _widths(dim, settings)]
    if "factors" in row:
        factors = settings.numbers(row["factors"])
        rule = f"have a factor for each of the {len(schedules)} coordinates"
        require(len(factors) == len(schedules), row["factors"], rule, list(factors))
        schedules = list(map(NTK, schedules, factors))
    # An extension follows the scaling of the configuration.
    if extend is not None:
        schedules = [extend(axis, each) for axis, each in enumerate(schedules)]
    return axial(dim, schedules, row.get("pairing", "adjacent"))


_RULES: dict[str, Callable[[int], tuple[int, ...]]] = {
    "equal": lambda dim: (dim // 2, dim // 2),
    "thirds": thirds,
    "quarter_time": lambda dim: (dim // 4, dim // 8 * 3, dim // 8 * 3),
}


def _widths(dim: int, settings: Settings) -> tuple[int, ...]:
    """The channels of each coordinate."""
    key = settings.row["widths"]
    if key in _RULES:
        widths = _RULES[key](dim)
        key = settings.row.get("head", HEAD)[0]
    else:
        widths = settings.integers(key, least=1)
    fine = sum(widths) == dim and all(width and width % 2 == 0 for width in widths)
    rule = (
        "give each coordinate an even number of channels, which add up to the "
        f"{dim} of a head"
    )
    require(fine, key, rule, list(widths))
    return widths


def _head(settings: Settings) -> int:
    """The channels of a head: a key, or the quotient of two."""
    key, *divisor = settings.row.get("head", HEAD)
    dim = settings.width(key)
    for other in divisor:
        heads = settings.width(other)
        require(dim % heads == 0, key, f"be a multiple of `{other}`, {heads}", dim)
        dim //= heads
    return dim


def _all_heads(settings: Settings) -> int:
    return settings.width("num_attention_heads") * settings.width("attention_head_dim")


def _over_all_heads(dim: int) -> Rotary:
    """The frequencies rise to the end of a token, and the coordinates take turns."""
    count, theta = dim // 6, 10_000.0
    base = Geometric(2 * count, theta, endpoint=True)
    # LTX orders frequencies from slow to fast, which `Geometric` has the other
    # way.
    rising = [step for step in reversed(range(count)) for _ in range(3)]
    return Rotary(
        Scaled(base, theta * math.pi / 2),
        axes=Assigned([0, 1, 2] * count, rising),
        pairing=Pairing.adjacent(dim, 6 * count, dim - 6 * count),
    )
