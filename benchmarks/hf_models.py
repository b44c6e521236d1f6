"""The configurations and the model classes of the model types of transformers."""

import contextlib
import copy
import importlib
import inspect
import json
import os
import signal
from pathlib import Path
from typing import Any


os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TRANSFORMERS_VERBOSITY"] = "critical"

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto


MODELS = Path(transformers.__file__).parent / "models"

_HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
_GLM = {"rope_parameters": _HALF | {"mrope_section": [8, 12, 12]}, "head_dim": 128}
_XDROPE = {"rope_type": "xdrope", "rope_theta": 1e4, "alpha": 1000.0, "factor": 1.0}
_COMPASS = {
    "rope_type": "default",
    "rope_theta": 50_000.0,
    "mrope_section": [24, 20, 20],
    "mrope_interleaved": True,
}
_ASSISTED = {
    "model_type": "gemma4_text",
    "hidden_size_per_layer_input": 0,
    "enable_moe_block": False,
    "use_double_wide_mlp": False,
    "vocab_size_per_layer_input": 0,
    "num_hidden_layers": 4,
    "num_kv_shared_layers": 4,
    "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
}
COMPLETED: dict[str, dict] = {
    # Defaults that no model can be built from.
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 20,
        "rope_parameters": {"sliding_attention": _COMPASS, "full_attention": None},
    },
    "hunyuan_v1_dense": {"head_dim": 128},
    "hunyuan_v1_moe": {"head_dim": 128},
    "hunyuan_vl_text": {
        "head_dim": 128,
        "rope_parameters": _XDROPE | {"xdrope_section": [16, 16, 16, 16]},
    },
    "glm4v_text": _GLM,
    "glm4v_moe_text": _GLM,
    "glm_image_text": _GLM,
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 768},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8},
    "gemma4_assistant": {"text_config": _ASSISTED},
    # Rotary embeddings that are off by default.
    "esm": {
        "position_embedding_type": "rotary",
        "vocab_size": 33,
        "pad_token_id": 1,
    },
    "wav2vec2-conformer": {"position_embeddings_type": "rotary"},
    "wav2vec2-bert": {"position_embeddings_type": "rotary"},
    "seamless_m4t": {"position_embeddings_type": "rotary"},
    "zamba2": {"use_mem_rope": True},
    "autoformer": {"prediction_length": 24},
    "informer": {"prediction_length": 24},
    "time_series_transformer": {"prediction_length": 24},
    "granitemoehybrid": {"position_embedding_type": "rope"},
}
for _whole, _part in (
    ("hunyuan_vl", "hunyuan_vl_text"),
    ("cohere_compass", "cohere_compass_text"),
    ("glm4v", "glm4v_text"),
    ("glm46v", "glm4v_text"),
    ("glmga", "glm4v_text"),
    ("glm4v_moe", "glm4v_moe_text"),
    ("glm_image", "glm_image_text"),
):
    COMPLETED[_whole] = {"text_config": COMPLETED[_part]}


def config_for(model_type: str) -> Any:
    settings = copy.deepcopy(COMPLETED.get(model_type, {}))
    return CONFIG_MAPPING[model_type](**settings)


def package_of(cls: type) -> str:
    return cls.__module__.rsplit(".", 1)[0]


def models_of(model_type: str, config) -> list[type]:
    names = []
    for mapping in ["MODEL_MAPPING_NAMES", *sorted(dir(modeling_auto))]:
        if mapping.endswith("MAPPING_NAMES") and not mapping.startswith("CONFIG"):
            value = getattr(modeling_auto, mapping).get(model_type)
            names += value if isinstance(value, tuple | list) else [value]
    classes = [getattr(transformers, name, None) for name in names if name]
    package = package_of(type(config))
    for path in sorted((MODELS.parent.parent / package.replace(".", "/")).glob("*.py")):
        if path.stem.startswith("modeling_"):
            try:
                classes += vars(
                    importlib.import_module(f"{package}.{path.stem}")
                ).values()
            except Exception:
                continue
    ours = lambda cls: (
        inspect.isclass(cls)
        and issubclass(cls, PreTrainedModel)
        and "PreTrainedModel" not in cls.__name__
        and (cls.config_class is type(config) or cls in classes[: len(names)])
    )
    return list(dict.fromkeys(cls for cls in classes if cls and ours(cls)))


def parts_in(config, prefix=""):
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield f"{prefix}{name}", value
            yield from parts_in(value, f"{prefix}{name}.")


def plain(config) -> dict:
    return json.loads(json.dumps(config.to_dict(), default=str))


class _Timeout(Exception):
    pass


def _alarm(*_):
    raise _Timeout


@contextlib.contextmanager
def seconds(limit: int):
    """Stops what takes longer, such as a model of hundreds of layers."""
    signal.signal(signal.SIGALRM, _alarm)
    signal.alarm(limit)
    try:
        yield
    finally:
        signal.alarm(0)


def on_meta(model_type: str, classes: list[type]) -> Any:
    """The first of some models that can be built, without its weights."""
    for cls in classes:
        with contextlib.suppress(Exception), seconds(120), torch.device("meta"):
            return cls(config_for(model_type))
    return None
