"""What a rotary class of transformers does, measured: its tables and its linear map.

The function that applies the tables is run on the identity matrix, so that what comes
out is the exact linear map of each position: which channels it pairs, with which signs,
by which angles, whatever the code looks like.
"""

import dataclasses
import importlib
import inspect
import re
import sys
import types
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedConfig


# Two of them far out, where a slow frequency shows; a class with a table of its own has
# only the first.
LINE = [0, 1, 2, 3, 5, 8, 100, 511, 4095, 131_071, 1_000_003]
NEAR = LINE[:6]


@dataclasses.dataclass
class Table:
    """The map of some positions: queries times `maps[i]` is the rotated query."""

    layer_type: str | None
    positions: np.ndarray
    frequencies: np.ndarray | None
    maps: np.ndarray
    extra: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)


def grid(axes: int) -> np.ndarray:
    """Zero, a step along each axis, and a few mixed positions."""
    rows = [[0] * axes, *np.eye(axes, dtype=int).tolist()]
    for first, step in (3, 2), (7, 7), (101, 101), (50_021, 50_021):
        rows.append([first + step * axis for axis in range(axes)])
    return np.array(rows)


def config_of(args: tuple, kwargs: dict) -> Any:
    given = [*args, *kwargs.values()]
    return next((x for x in given if isinstance(x, PreTrainedConfig)), None)


def measure(cls: type, args: tuple, kwargs: dict) -> list[Table]:
    """All tables of a rotary class: one, or one for each layer type."""
    config = config_of(args, kwargs)
    with torch.no_grad():
        if cls.__name__ in SPECIAL:
            return SPECIAL[cls.__name__](cls, args, kwargs, config)
        module = cls(*args, **kwargs).eval()
        if "pixel_values" in inspect.signature(cls.forward).parameters:
            return [_of_image(module, config)]
        takes_type = "layer_type" in inspect.signature(cls.forward).parameters
        if not (takes_type and hasattr(module, "layer_types")):
            return [_table(module, config, None)]
        kinds = getattr(module, "rope_type", None)
        return [
            _table(module, config, layer_type)
            for layer_type in module.layer_types
            if not isinstance(kinds, dict) or layer_type in kinds
        ]


def _table(module, config, layer_type) -> Table:
    axes = _axes(module)
    positions = np.array(LINE) if axes == 1 else grid(axes)
    name = type(module).__name__
    given = torch.tensor(positions)
    if axes == 1:
        given = given[None]
    elif "position_ids.expand(" in inspect.getsource(type(module).forward):
        given = given.T[:, None]
    elif "Gemma4Vision" in name:
        given = given[None]
    told = {} if layer_type is None else {"layer_type": layer_type}
    tables = module(torch.zeros(1, 8, 4), given, **told)
    prefix = "" if layer_type is None else f"{layer_type}_"
    frequencies = getattr(module, f"{prefix}inv_freq", None)
    width = _width(tables, frequencies, axes)
    heads = [_head_dim(config, layer_type), width]
    maps = _maps(type(module), config, tables, heads, width, given)
    return Table(layer_type, positions, _numpy(frequencies), maps)


def _axes(module) -> int:
    source = inspect.getsource(type(module).forward)
    expanded = re.search(r"position_ids\.expand\((\d)", source)
    if expanded:
        return int(expanded.group(1))
    if "len(self.mrope_section)" in source:
        return len(module.mrope_section)
    if not hasattr(module, "recomposition_frequencies"):
        return 1
    return 3 if "MiniMaxM3VLVision" in type(module).__name__ else 2


def _width(tables, frequencies, axes) -> int:
    if isinstance(tables, torch.Tensor):
        return 2 * tables.shape[-1]
    width = tables[0].shape[-1]
    halved = frequencies is not None and axes == 1 and width == frequencies.shape[-1]
    return 2 * width if halved else width


def _head_dim(config, layer_type) -> int | None:
    tries = (
        lambda: config.per_layer_config[layer_type].head_dim,
        lambda: config.head_dim,
        lambda: config.hidden_size // config.num_attention_heads,
        lambda: config.embed_dim // config.num_attention_heads,
    )
    for get in tries:
        try:
            if value := get():
                return int(value)
        except Exception:  # Whatever a class raises for what it does not have.
            continue
    return None


def _numpy(x) -> np.ndarray | None:
    return None if x is None else x.detach().float().numpy()


def _maps(cls, config, tables, heads, width, positions) -> np.ndarray:
    """The map at the width of a head if `apply` accepts it, or at the width of the
    tables."""
    name, function = _apply(cls, config)
    error: Exception | None = None
    for dim in dict.fromkeys(dim for dim in heads if dim and dim >= width):
        try:
            maps = _run(cls, name, function, tables, dim, positions)
            return maps.detach().double().numpy()
        except Exception as reason:
            error = reason
    raise RuntimeError(f"{cls.__name__}: {name} cannot be run") from error


def _apply(cls, config):
    """The function that the attention of this class calls."""
    module = sys.modules[cls.__module__]
    found = {
        name: value
        for name, value in vars(module).items()
        if re.match(r"(vision_)?apply_.*(rotary|rope)", name)
        and inspect.isfunction(value)
        and value.__module__ == module.__name__
    }
    vision = "Vision" in cls.__name__ or cls.__name__.startswith("MLCD")
    order = ["apply_multidimensional_rope"] if vision else []
    order += [name for name in found if "vision" in name] if vision else []
    if "Audio" not in cls.__name__ and _interleaves(module, config):
        order.append("apply_rotary_pos_emb_interleave")
    order += ["apply_rotary_pos_emb", "apply_rotary_emb"]
    order += [name for name in found if "_2d" in name]
    return next((name, found[name]) for name in order if name in found)


def _interleaves(module, config) -> bool:
    """Whether the main attention, and not only an indexer, takes adjacent channels."""

    def callers(name):
        return {
            key
            for key, value in vars(module).items()
            if inspect.isclass(value)
            and value.__module__ == module.__name__
            and issubclass(value, torch.nn.Module)
            and not key.endswith("Indexer")
            and re.search(rf"(?<![\w.]){name}\(", inspect.getsource(value))
        }

    main = callers("apply_rotary_pos_emb_interleave")
    both = main & callers("apply_rotary_pos_emb")
    return bool(main) and (not both or getattr(config, "rope_interleave", True))


def _run(cls, name, function, tables, dim, positions):
    eye = torch.eye(dim)
    if isinstance(tables, torch.Tensor):
        if cls.__name__.startswith("Llama4"):
            x = eye[None, None].expand(1, tables.shape[1], dim, dim)
            return function(x, x, tables)[0][0]
        x = eye[None, :, None].expand(1, dim, tables.shape[1], dim)
        return function(x, x, tables)[0][0].transpose(0, 1)
    cos, sin = tables
    if name == "apply_multidimensional_rope":
        x = eye[None, None].expand(1, cos.shape[1], dim, dim)
        return function(x, cos, sin, positions)[0]
    if name == "apply_rotary_pos_emb_vision":
        x = eye[None].expand(cos.shape[0], dim, dim)
        return function(x, x, cos, sin)[0]
    x = eye[None, :, None].expand(1, dim, cos.shape[-2], dim)
    if list(inspect.signature(function).parameters)[:2] == ["x", "cos"]:
        return function(x, cos, sin)[0].transpose(0, 1)
    if "2d" in name:
        if cos.ndim == 2:
            cos, sin = cos[None, None], sin[None, None]
        return function(x, x, cos, sin)[0][0].transpose(0, 1)
    told = {"unsqueeze_dim": 0} if cls.__name__.startswith("Pixtral") else {}
    return function(x, x, cos, sin, **told)[0][0].transpose(0, 1)


def _rows(dim, count):
    return torch.eye(dim)[None, :, None].expand(1, dim, count, dim)


def _of_image(module, config) -> Table:
    patch = config.patch_size
    patch = patch if isinstance(patch, int) else patch[0]
    high, wide = 5, 7
    cos, sin = module(torch.zeros(1, 3, high * patch, wide * patch))
    dim = cos.shape[-1]
    function = _apply(type(module), config)[1]
    x = _rows(dim, high * wide)
    maps = function(x, x, cos, sin)[0][0].transpose(0, 1)
    center = lambda count: 2 * (np.arange(count) + 0.5) / count - 1
    rows, columns = np.meshgrid(center(high), center(wide), indexing="ij")
    positions = np.stack([rows, columns], axis=-1).reshape(-1, 2)
    frequencies = 2 * np.pi * module.inv_freq.numpy()
    return Table(None, positions, frequencies, maps.double().numpy())


def _gptj(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    dim = config.rotary_dim or config.n_embd // config.n_head
    table = module.create_sinusoidal_positions(NEAR[-1] + 1, dim)[NEAR][None]
    sin, cos = table.chunk(2, -1)
    x = torch.eye(dim)[None, None].expand(1, len(NEAR), dim, dim)
    maps = module.apply_rotary_pos_emb(x, sin, cos)[0]
    return [Table(None, np.array(NEAR), None, maps.double().numpy())]


def _roformer(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    dim = config.hidden_size // config.num_attention_heads
    made = module.RoFormerSinusoidalPositionalEmbedding(NEAR[-1] + 1, dim)
    table = made.create_weight()[NEAR][None, None]
    x = _rows(dim, len(NEAR))
    maps = cls.apply_rotary_position_embeddings(table, x, x)[0][0].transpose(0, 1)
    return [Table(None, np.array(NEAR), None, maps.double().numpy())]


def _lightglue(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    dim = config.descriptor_dim // config.num_attention_heads
    generator = torch.Generator().manual_seed(0)
    made.projector.weight.copy_(torch.randn(dim // 2, 2, generator=generator))
    points = torch.randn(1, 6, 2, generator=generator)
    ((cos, sin),) = made(points)
    x = _rows(dim, 6)
    maps = module.apply_rotary_pos_emb(x, x, cos, sin)[0][0].transpose(0, 1)
    weight = made.projector.weight.numpy()
    extra = {"weight": weight}
    return [Table(None, points[0].numpy(), None, maps.double().numpy(), extra)]


def _vjepa2(cls, args, kwargs, config):
    dim = config.hidden_size // config.num_attention_heads
    width = 2 * (dim // 3 // 2)
    me = types.SimpleNamespace(
        d_dim=width, h_dim=width, w_dim=width, attention_head_size=dim
    )
    positions = grid(3)
    x = _rows(dim, len(positions))
    given = [
        torch.tensor(row, dtype=torch.float32)[None, None].expand(1, dim, -1)
        for row in positions.T
    ]
    maps = cls.apply_rotary_embeddings(me, x, given)[0].transpose(0, 1)
    return [Table(None, positions, None, maps.double().numpy())]


def _conformer(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    count = 12
    tables = made(torch.zeros(1, count, 4))
    dim = tables.shape[-1]
    attention = next(
        value
        for key, value in vars(module).items()
        if key.endswith("SelfAttention") and hasattr(value, "_apply_rotary_embedding")
    )
    me = types.SimpleNamespace(num_heads=1, head_size=dim)
    x = torch.eye(dim)[:, None].expand(dim, count, dim)
    maps = attention._apply_rotary_embedding(me, x, tables).transpose(0, 1)
    frequencies = _numpy(made.inv_freq)
    return [Table(None, np.arange(count), frequencies, maps.double().numpy())]


def _clvp(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    count = 9
    table = made(torch.zeros(1, count, 4))
    dim = table.shape[-1]
    x = _rows(dim, count)
    cos, sin = table.cos().squeeze(0), table.sin().squeeze(0)
    rotated = module.apply_rotary_pos_emb(x, x, x, cos, sin, torch.arange(count)[None])
    maps = rotated[0][0].transpose(0, 1).double().numpy()
    return [Table(None, np.arange(count), _numpy(made.inv_freq), maps)]


def _loftr(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    kernel, stride = config.q_aggregation_kernel_size, config.q_aggregation_stride
    cos, sin = made(torch.zeros(1, 4, kernel + 2 * stride, kernel + stride))
    high, wide, dim = cos.shape[-3:]
    rows, columns = np.meshgrid(range(1, high + 1), range(1, wide + 1), indexing="ij")
    positions = np.stack([rows, columns], axis=-1).reshape(-1, 2)
    cos, sin = cos.reshape(1, -1, dim), sin.reshape(1, -1, dim)
    x = _rows(dim, len(positions))
    maps = module.apply_rotary_pos_emb(x, x, cos, sin)[0][0].transpose(0, 1)
    return [Table(None, positions, _numpy(made.inv_freq), maps.double().numpy())]


def _llama4_vision(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    side = config.image_size // config.patch_size
    index = np.array([0, 1, 2, side, side + 1, side * side])
    dim = 2 * made.freqs_ci.shape[-1]
    x = torch.eye(dim)[None, None].expand(1, len(index), dim, dim)
    maps = module.vision_apply_rotary_emb(x, x, made.freqs_ci[index])[0][0]
    # Column before row, both from one; the class token, the last, is at zero.
    positions = np.stack([index % side + 1, index // side + 1], axis=-1)
    positions[-1] = 0
    return [Table(None, positions, None, maps.double().numpy())]


def _musicflamingo(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    count = 6
    times = torch.arange(count)[None] * 0.04 + 30.0
    cos, sin = made(times, count)
    dim = cos.shape[-1]
    x = torch.eye(dim)[:, None].expand(dim, count, dim)
    tables = (table.expand(dim, -1, -1) for table in (cos, sin))
    maps = module.apply_rotary_time_emb(x, *tables).transpose(0, 1)
    # Its angles are products of three: the time in seconds, a position, a frequency.
    length = config.max_position_embeddings
    window = round(30.0 / (config.audio_frame_step * 4 * count)) / length
    steps = np.arange(count) / length * 2 * np.pi
    seconds = -2 * np.pi * times[0].double().numpy()
    positions = np.stack([seconds * window, seconds * steps], axis=-1)
    return [Table(None, positions, _numpy(made.inv_freq), maps.double().numpy())]


def _esmfold2(cls, args, kwargs, config):
    module = sys.modules[cls.__module__]
    made = cls(*args, **kwargs)
    count = 5
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(1, count, 3, generator=generator)
    tokens = torch.arange(count)[None]
    cos, sin = made(places, tokens, torch.float32)
    x = _rows(cos.shape[-1], count)
    maps = module.apply_rotary_pos_emb(x, x, cos, sin)[0][0].transpose(0, 1)
    positions = np.concatenate([places[0].numpy(), tokens.T.numpy()], axis=-1)
    return [Table(None, positions, None, maps.double().numpy())]


SPECIAL: dict[str, Any] = {
    "GPTJAttention": _gptj,
    "CodeGenAttention": _gptj,
    # As transformers has them from 5.24 on.
    "GPTJRotaryEmbedding": _gptj,
    "CodeGenRotaryEmbedding": _gptj,
    "RoFormerSelfAttention": _roformer,
    "LightGluePositionalEncoder": _lightglue,
    "VJEPA2RopeAttention": _vjepa2,
    "Wav2Vec2ConformerRotaryPositionalEmbedding": _conformer,
    "Wav2Vec2BertRotaryPositionalEmbedding": _conformer,
    "SeamlessM4TConformerRotaryPositionalEmbedding": _conformer,
    "ClvpRotaryPositionalEmbedding": _clvp,
    "EfficientLoFTRRotaryEmbedding": _loftr,
    "Llama4VisionRotaryEmbedding": _llama4_vision,
    "MusicFlamingoRotaryEmbedding": _musicflamingo,
    "EsmFold2RotaryEmbedding": _esmfold2,
}
"""Classes that are called, or applied, in a way of their own."""


def class_of(module: str, name: str) -> type:
    return getattr(importlib.import_module(module), name)
