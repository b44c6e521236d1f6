"""The learned logits of attention sinks, from a checkpoint."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Float

from ..._state_dicts import array, listed


# transformers has the first name, and files of DeepSeek, MiMo and Flint have the
# others.
NAMES = (
    "self_attn.sinks",
    "attn.attn_sink",
    "self_attn.attention_sink_bias",
    "self_attn.softmax_offset",
)


def sinks_from_state_dict(
    state: Mapping[str, Any], layer: int, *, prefix: str = "model.layers."
) -> Float[Array, " heads"] | None:
    """Takes the learned logits of a layer's attention sink from a checkpoint.

    GPT-OSS, DeepSeek-V4, Granite-SWA, Hunyuan 4, MiMo-V2 and Flint add a logit for each
    head to the softmax of a layer. No key takes its weight. The logits are no part of
    the embedding, whose layers share it: give them to `attend(..., sinks=...)`. See
    [`eqx_posemb.PositionalEmbedding.attend`][]. `eqx-posemb inspect` says which layers
    have a sink.

    One of these names may be there, after `prefix` and the number of the layer, with
    shape [heads]: `self_attn.sinks`, `attn.attn_sink`, `self_attn.attention_sink_bias`
    or `self_attn.softmax_offset`.

    !!! Example

        ```python
        import numpy as np
        from eqx_posemb.interop import huggingface

        state = {"model.layers.0.self_attn.sinks": np.zeros(64)}
        sinks = huggingface.sinks_from_state_dict(state, layer=0)
        assert sinks.shape == (64,)
        assert huggingface.sinks_from_state_dict(state, layer=1) is None
        ```

    **Arguments:**

    - `state`: arrays by name, of NumPy or anything that it understands.
    - `layer`: the layer, from 0 on.
    - `prefix`: what comes before the number of a layer.

    **Returns:** the logits in JAX's default float dtype, or `None` for a layer without
    a sink.

    **Raises:** a `ValueError` if no layer after `prefix` has a sink.
    """
    found = [f"{prefix}{layer}.{name}" for name in NAMES]
    chosen = next((name for name in found if name in state), None)
    if chosen is not None:
        return array(state, chosen)
    # Where no layer has a sink, the prefix is probably wrong, and None would hide the
    # mistake.
    ends = tuple(f".{name}" for name in NAMES)
    if not any(name.startswith(prefix) and name.endswith(ends) for name in state):
        raise ValueError(
            f"`state` must have one of {', '.join(NAMES)} for some layer after "
            f"`prefix` {prefix!r}, but got {listed(state)}."
        )
    return None
