"""From a positional embedding back to a configuration."""

from typing import Any, NoReturn

from ..._bias import ALiBi, T5Bias
from ..._bundle import PositionalEmbedding
from ..._encoding import Learned, Sinusoidal
from ..._frequencies import (
    Divided,
    DynamicNTK,
    Geometric,
    Linear,
    LongRoPEFrequencies,
    NTK,
    NTKByParts,
    Truncated,
    YaRNFrequencies,
)
from ..._rotary import Axial, Chain, Pairing, Rotary, Sections, Temperature


def dump(embedding: PositionalEmbedding) -> dict[str, Any]:
    """Gives the configuration of a model that has this positional embedding.

    The reverse of [`eqx_posemb.interop.huggingface.load`][]: what that makes of the
    result is equal to `embedding`, but for trained weights, which no configuration has.
    The model type is one of transformers whose code reads these settings, and no other
    key is set.

    !!! Example

        ```python
        import eqx_posemb as pe
        from eqx_posemb.interop import huggingface

        embedding = pe.PositionalEmbedding(rotary=pe.rope(64, theta=500_000.0))
        config = huggingface.dump(embedding)
        assert config["model_type"] == "llama"
        assert config["rope_parameters"]["rope_theta"] == 500_000.0
        assert huggingface.load(config) == embedding
        ```

    **Arguments:**

    - `embedding`: what fills one of the slots, and the scale that goes with it.

    **Returns:** a dictionary, of what JSON has.

    **Raises:** a `ValueError` if no model type has such an embedding.
    """
    slots = {
        name: value
        for name in ("encoding", "rotary", "bias", "score")
        if (value := getattr(embedding, name)) is not None
    }
    if len(slots) != 1 or "score" in slots:
        raise ValueError(
            "`embedding` must have one slot filled, with an encoding, a rotary "
            "embedding or a bias, for a configuration to say so, but got "
            f"{sorted(slots)}."
        )
    ((name, part),) = slots.items()
    config = {"encoding": _encoding, "rotary": _rotary, "bias": _bias}[name](part)
    return _with_scale(config, embedding)


def _refuse(what: str, value: Any) -> NoReturn:
    raise ValueError(
        "`embedding` must be one that a model type of transformers has, but got "
        f"{what} {value}."
    )


def _with_scale(config, embedding):
    if embedding.scale == (1.0 if config["model_type"] == "t5" else None):
        return config
    # Granite rotates as Llama does, and its scale is a setting.
    if config["model_type"] == "llama" and embedding.scale is not None:
        return {
            **config,
            "model_type": "granite",
            "attention_multiplier": embedding.scale,
        }
    _refuse(f"for {config['model_type']} the scale", embedding.scale)


def _encoding(encoding) -> dict[str, Any]:
    if isinstance(encoding, Learned):
        rows, dim = encoding.weight.shape
        offset, padding = encoding.offset, encoding.padding_idx
        table = {"max_position_embeddings": rows, "hidden_size": dim}
        if padding is not None and offset == padding + 1:
            return {"model_type": "roberta", "pad_token_id": padding, **table}
        if padding is None and offset == 0:
            return {"model_type": "bert", **table}
        if padding is None and offset == 2:
            return {"model_type": "opt", **table, "max_position_embeddings": rows - 2}
    if isinstance(encoding, Sinusoidal) and encoding.theta == 10_000:
        layout, offset = encoding.layout, encoding.offset
        if layout == "concatenated" and not offset:
            return {"model_type": "marian", "d_model": encoding.dim}
        if layout == "tensor2tensor" and offset > 0:
            token = {"pad_token_id": offset - 1}
            return {"model_type": "m2m_100", "d_model": encoding.dim, **token}
    _refuse("the encoding", encoding)


def _bias(bias) -> dict[str, Any]:
    if isinstance(bias, ALiBi) and bias == ALiBi(bias.heads):
        return {"model_type": "bloom", "n_head": bias.heads}
    if isinstance(bias, T5Bias):
        buckets, heads = bias.weight.shape
        return {
            "model_type": "t5",
            "num_heads": heads,
            "relative_attention_num_buckets": buckets,
            "relative_attention_max_distance": bias.max_distance,
        }
    _refuse("the bias", bias)


def _rotary(rotary) -> dict[str, Any]:
    beta = None
    if isinstance(rotary, Chain) and len(rotary.parts) == 2:
        rotary, beta = rotary.parts[0], rotary.parts[1]
    if not isinstance(rotary, Rotary):
        _refuse("the rotary part", rotary)
    if rotary.decay is not None or rotary.arithmetic != "exact":
        _refuse("the rotary part", rotary)
    rope, more, width = _schedule(rotary)
    # Only YaRN and LongRoPE have an attention factor among their settings.
    if rotary.scale != 1 or rope["rope_type"] in ("yarn", "longrope"):
        if rope["rope_type"] not in ("yarn", "longrope"):
            _refuse(f"for {rope['rope_type']} the scale", rotary.scale)
        rope["attention_factor"] = rotary.scale
    if rotary.axes is not None:
        width = 2 * rotary.axes.frequency(rotary.frequencies.pairs).shape[-1]
    if width != rotary.dim and rope["rope_type"] == "proportional":
        _refuse("a proportional rotary embedding of part of a head:", rotary.dim)
    config, rope = _model(rotary, rope, width)
    config |= more | {"rope_parameters": rope}
    return config if beta is None else _tempered(config, rope, beta)


def _tempered(config, rope, temperature):
    fits = (
        isinstance(temperature, Temperature)
        and temperature.kind == "stepped"
        and not temperature.offset
        and config["model_type"] == "llama"
        and rope.get("original_max_position_embeddings") == temperature.length
    )
    if not fits:
        _refuse("the temperature", temperature)
    rope["llama_4_scaling_beta"] = temperature.beta
    return {**config, "model_type": "ministral3"}


def _schedule(rotary) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The rope settings, what stands beside them, and how many channels rotate."""
    schedule = rotary.frequencies
    # Only the exact class counts, since a subclass may have another formula.
    settings = _SETTINGS.get(type(schedule))
    if settings is None:
        _refuse("the schedule", schedule)
    rope, base = settings(schedule)
    if not isinstance(base, Geometric) or base.endpoint:
        _refuse("the schedule", schedule)
    more = {}
    if isinstance(schedule, DynamicNTK):
        more["max_position_embeddings"] = schedule.original_length
    return {**rope, "rope_theta": base.theta}, more, base.dim


def _yarn(schedule):
    if schedule.extrapolation_factor != 1:
        _refuse("the schedule", schedule)
    rope, base = _by_parts("yarn", schedule, "beta_slow", "beta_fast")
    return {**rope, "truncate": schedule.truncate}, base


def _by_parts(kind, schedule, slow: str, fast: str):
    return {
        "rope_type": kind,
        "factor": schedule.factor,
        "original_max_position_embeddings": schedule.original_length,
        slow: schedule.slow,
        fast: schedule.fast,
    }, schedule.base


def _proportional(schedule):
    linear, width = schedule.base, 2 * schedule.pairs
    if not isinstance(linear, Linear):
        _refuse("the schedule", schedule)
    return {
        "rope_type": "proportional",
        "factor": linear.factor,
        "partial_rotary_factor": _share(2 * schedule.keep, width),
    }, linear.base


def _share(width: int, dim: int) -> float:
    """A share whose `int(share * dim)` equals the width after rounding."""
    share = width / dim
    return share if int(share * dim) == width else (width + 0.25) / dim


def _longrope(schedule):
    short, long = schedule.short, schedule.long
    if not (isinstance(short, Divided) and isinstance(long, Divided)):
        _refuse("the schedule", schedule)
    if short.base != long.base:
        _refuse("the schedule", schedule)
    return {
        "rope_type": "longrope",
        # The factor would only set the attention factor, which is given as a value.
        "factor": 1.0,
        "original_max_position_embeddings": schedule.original_length,
        "short_factor": list(short.divisors),
        "long_factor": list(long.divisors),
    }, short.base


_SETTINGS = {
    Geometric: lambda schedule: ({"rope_type": "default"}, schedule),
    Linear: lambda schedule: (
        {"rope_type": "linear", "factor": schedule.factor},
        schedule.base,
    ),
    DynamicNTK: lambda schedule: (
        {"rope_type": "dynamic", "factor": schedule.factor},
        schedule.base,
    ),
    # transformers requires a factor, too, and does not read it.
    NTK: lambda schedule: (
        {"rope_type": "dynamic", "alpha": schedule.factor, "factor": 1.0},
        schedule.base,
    ),
    YaRNFrequencies: _yarn,
    NTKByParts: lambda schedule: _by_parts(
        "llama3", schedule, "low_freq_factor", "high_freq_factor"
    ),
    LongRoPEFrequencies: _longrope,
    Truncated: _proportional,
}


def _model(rotary, rope, width) -> tuple[dict[str, Any], dict[str, Any]]:
    """The model type with that pairing and those axes, and how it says its widths."""
    head, partial = {"head_dim": rotary.dim}, width != rotary.dim
    layout = rotary.pairing
    if partial:
        rope = {**rope, "partial_rotary_factor": _share(width, rotary.dim)}
    if rotary.axes is not None:
        return _of_axes(rotary, rope, width, partial)
    if "alpha" in rope:
        if layout != "halves" or partial:
            _refuse("the pairing", layout)
        return {"model_type": "hunyuan_v1_dense", **head}, rope
    if layout == "halves":
        return {"model_type": "glm4_moe" if partial else "llama", **head}, rope
    if layout == "adjacent":
        # GLM-4 rotates half of a head by default.
        if not partial and rope["rope_type"] != "proportional":
            rope = {**rope, "partial_rotary_factor": 1.0}
        return {"model_type": "glm4", **head}, rope
    # Multi-head latent attention rotates the last channels of a head.
    for name, model in _LATENT.items():
        if layout == getattr(Pairing, name)(rotary.dim, width, rotary.dim - width):
            if rope["rope_type"] == "proportional" or not partial:
                break
            rope.pop("partial_rotary_factor")
            widths = {"qk_rope_head_dim": width, "qk_nope_head_dim": rotary.dim - width}
            return {"model_type": model, **widths}, rope
    _refuse("the pairing", layout)


_LATENT = {
    "adjacent_to_halves": "deepseek_v3",
    "adjacent": "deepseek_v2",
    "halves": "minicpm3",
}


def _of_axes(rotary, rope, width, partial):
    axes, layout = rotary.axes, rotary.pairing
    head = {"head_dim": rotary.dim}
    if isinstance(axes, Axial) and axes == Axial(2) and rope["rope_type"] == "default":
        models = {"halves": ("qwen3_vl_vision", "num_heads")}
        models["adjacent"] = ("sam3_vit_model", "num_attention_heads")
        if not partial and layout in models:
            model, heads = models[layout]
            return {"model_type": model, "hidden_size": rotary.dim, heads: 1}, rope
    if isinstance(axes, Sections) and axes.coordinates == 3 and isinstance(layout, str):
        model = _SECTIONED.get((axes.order, layout, partial))
        sizes = axes.sizes
        if axes.order == "tail":
            sizes = (*sizes[1:], sizes[0])
        if model is not None:
            rope = {**rope, "mrope_section": list(sizes)}
            return {"model_type": model, **head}, rope
    _refuse("the axes", axes)


_SECTIONED = {
    ("chunked", "halves", False): "qwen2_vl_text",
    ("chunked", "halves", True): "glm4v_moe_text",
    ("chunked", "adjacent", False): "glm_ocr_text",
    ("chunked", "adjacent", True): "glm4v_text",
    ("interleaved", "halves", False): "qwen3_vl_text",
    ("interleaved", "halves", True): "qwen3_5_text",
    ("tail", "adjacent", False): "ernie4_5_vl_moe_text",
}
