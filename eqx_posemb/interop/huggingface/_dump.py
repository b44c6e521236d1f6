"""From a positional embedding back to a configuration."""

import operator
import textwrap
from collections.abc import Iterator
from typing import Any, NoReturn

from ..._bias import ALiBi, T5Bias
from ..._bundle import PositionalEmbedding
from ..._encoding import Learned, Sinusoidal
from ..._frequencies import (
    DynamicNTK,
    Geometric,
    Linear,
    LongRoPEFrequencies,
    NTK,
    NTKByParts,
    Truncated,
    YaRNFrequencies,
)
from ..._rotary import Chain, Rotary, Sections, Temperature
from ._load import load
from ._rope_keys import ORIGINAL


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
    names = "bias", "encoding", "rotary", "score"
    slots = [name for name in names if getattr(embedding, name) is not None]
    if len(slots) != 1 or "score" in slots:
        raise ValueError(
            "`embedding` must have one slot filled, with an encoding, a rotary "
            "embedding or a bias, for a configuration to say so, but got "
            f"{slots}."
        )
    if embedding.rotary is not None:
        return _rotary(embedding)
    config = _bias(embedding.bias) if "bias" in slots else _encoding(embedding.encoding)
    if embedding.scale != (1.0 if config["model_type"] == "t5" else None):
        _refuse(f"for {config['model_type']} the scale", embedding.scale)
    return config


def _refuse(what: str, value: Any) -> NoReturn:
    raise ValueError(
        "`embedding` must be one that a model type of transformers has, but got "
        f"{what} {textwrap.shorten(str(value), 400, placeholder='…')}."
    )


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


def _rotary(embedding: PositionalEmbedding) -> dict[str, Any]:
    for config in _candidates(embedding):
        try:
            if load(config) == embedding:
                return config
        except ValueError:
            # The model type has no such settings.
            continue
    _refuse("the embedding", embedding)


def _candidates(embedding: PositionalEmbedding) -> Iterator[dict[str, Any]]:
    """Configurations of all kinds of models, in the order in which they are tried."""
    rotary, temperature = embedding.rotary, None
    if isinstance(rotary, Chain) and len(rotary.parts) == 2:
        rotary, temperature = rotary.parts
    if not isinstance(rotary, Rotary):
        _refuse("the rotary part", rotary)
    rope, beside, width = _schedule(rotary)
    # Only YaRN and LongRoPE have an attention factor among their settings.
    if rope["rope_type"] in ("yarn", "longrope"):
        rope["attention_factor"] = rotary.scale
    dim, axes = rotary.dim, rotary.axes
    share = {**rope}
    share.setdefault("partial_rotary_factor", _share(width, dim))

    def of(model_type, rope=rope, **keys):
        return {"model_type": model_type, **keys, **beside, "rope_parameters": rope}

    if isinstance(temperature, Temperature):
        tempered = {**rope, "llama_4_scaling_beta": temperature.beta}
        yield of("ministral3", tempered, head_dim=dim)
    plain = "llama" if width == dim else "glm4_moe"
    plain = "hunyuan_v1_dense" if "alpha" in rope else plain
    yield of(plain, share if plain == "glm4_moe" else rope, head_dim=dim)
    if embedding.scale is not None:
        # Granite rotates as Llama does, and its scale is a setting.
        yield of("granite", head_dim=dim) | {"attention_multiplier": embedding.scale}
    # GLM-4 rotates half of a head by default.
    yield of("glm4", share, head_dim=dim)
    # Multi-head latent attention rotates the last channels of a head.
    for model_type in "deepseek_v3", "deepseek_v2", "minicpm3":
        widths = dict(qk_rope_head_dim=width, qk_nope_head_dim=dim - width)
        yield of(model_type, **widths)
    yield of("qwen3_vl_vision", hidden_size=dim, num_heads=1)
    yield of("sam3_vit_model", hidden_size=dim, num_attention_heads=1)
    if isinstance(axes, Sections) and axes.coordinates == 3:
        sizes = list(axes.sizes)
        dealt = sizes[1:] + sizes[:1] if axes.order == "tail" else sizes
        for model_type, partial in _SECTIONED.items():
            told = share if partial else rope
            yield of(model_type, {**told, "mrope_section": dealt}, head_dim=dim)


# Model types with sections, and whether they state the share that rotates.
_SECTIONED = {
    "qwen2_vl_text": False,
    "glm4v_moe_text": True,
    "glm_ocr_text": False,
    "glm4v_text": True,
    "qwen3_vl_text": False,
    "qwen3_5_text": True,
    "ernie4_5_vl_moe_text": False,
}


def _schedule(rotary) -> tuple[dict[str, Any], dict[str, Any], int]:
    """The rope settings, what stands beside them, and how many channels rotate."""
    schedule, beside = rotary.frequencies, {}
    # Only the exact class counts, since a subclass may have another formula.
    if type(schedule) not in _SETTINGS:
        _refuse("the schedule", schedule)
    kind, keys = _SETTINGS[type(schedule)]
    base = schedule.unscaled
    # The unscaled form of a truncated schedule is truncated, too.
    base = getattr(base, "base", base)
    rope: dict[str, Any] = {"rope_type": kind}
    try:
        for key, place in keys.items():
            value = operator.attrgetter(place)(schedule) if place else 1.0
            rope[key] = list(value) if isinstance(value, tuple) else value
        if kind == "proportional":
            rope["partial_rotary_factor"] = _share(2 * schedule.keep, base.dim)
        rope["rope_theta"], width = base.theta, base.dim
    except AttributeError:
        # It is a schedule of other schedules than a model type has.
        _refuse("the schedule", schedule)
    if isinstance(schedule, DynamicNTK):
        beside["max_position_embeddings"] = schedule.original_length
    if rotary.axes is not None:
        width = 2 * rotary.axes.frequency(schedule.pairs).shape[-1]
    return rope, beside, width


def _share(width: int, dim: int) -> float:
    """A share whose `int(share * dim)` equals the width after rounding."""
    share = width / dim
    return share if int(share * dim) == width else (width + 0.25) / dim


# For each class the rope type, and its keys with the attribute of the class; a key
# without one is 1.
_SCALED = {"factor": "factor", ORIGINAL: "original_length"}
_RAMP = {"beta_slow": "slow", "beta_fast": "fast", "truncate": "truncate"}
_SETTINGS: dict[type, tuple[str, dict[str, str]]] = {
    Geometric: ("default", {}),
    Linear: ("linear", {"factor": "factor"}),
    DynamicNTK: ("dynamic", {"factor": "factor"}),
    # transformers requires a factor, too, and does not read it.
    NTK: ("dynamic", {"alpha": "factor", "factor": ""}),
    YaRNFrequencies: ("yarn", _SCALED | _RAMP),
    NTKByParts: (
        "llama3",
        _SCALED | {"low_freq_factor": "slow", "high_freq_factor": "fast"},
    ),
    LongRoPEFrequencies: (
        "longrope",
        {
            # The factor would only set the attention factor, which is given as a value.
            "factor": "",
            ORIGINAL: "original_length",
            "short_factor": "short.divisors",
            "long_factor": "long.divisors",
        },
    ),
    Truncated: ("proportional", {"factor": "base.factor"}),
}
