"""Biases of transformers' models, computed from exact buckets and slopes of ours."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import huggingface
from ._relative import Buckets


def patch_t5(model: Any, name: str, module: Any) -> Callable[[], None]:
    """Replaces the bias of an attention of T5; gives what undoes it.

    **Raises:** a `ValueError` if it is another bias than that of its configuration.
    """
    stack = "decoder" if module.is_decoder else "encoder"
    bias: Any = huggingface.load(model.config, layer_type=stack).bias
    count = bias.weight.shape[0]
    buckets = Buckets(count, bias.max_distance, bias.bidirectional)
    return _replaced(module, "compute_bias", _T5(module, buckets), 9, 7)


class _T5:
    """Stands where `compute_bias` of an attention of T5 stood."""

    def __init__(self, attention: Any, buckets: Buckets):
        self.attention = attention
        self.buckets = buckets

    def __call__(
        self,
        query_length: int,
        key_length: int,
        device: torch.device | None = None,
        past_seen_tokens: int | Tensor = 0,
    ) -> Tensor:
        table = self.attention.relative_attention_bias
        where = table.weight.device if device is None else device
        q_positions = torch.arange(query_length, device=where) + past_seen_tokens
        delta = torch.arange(key_length, device=where) - q_positions[:, None]
        return table(self.buckets.to(where)(delta)).permute(2, 0, 1)[None]


def patch_alibi(model: Any, name: str, module: Any) -> Callable[[], None]:
    """Replaces the bias of Bloom; gives what undoes it.

    **Raises:** a `ValueError` if it is another bias than that of its configuration.
    """
    bias: Any = huggingface.load(model.config).bias
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    example = mask, module.num_heads, torch.float32
    undo = _replaced(module, "build_alibi_tensor", _ALiBi(bias), *example)
    # Without a mask Bloom has the formula once more, inline.
    hook = module.register_forward_pre_hook(_with_mask, with_kwargs=True)

    def both():
        hook.remove()
        undo()

    return both


class _ALiBi:
    """Stands where `build_alibi_tensor` of Bloom stood."""

    def __init__(self, bias: Any):
        self.slopes = np.asarray(bias.slopes, np.float32).tolist()

    def __call__(self, mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        # As seen from position zero: the softmax does not see the difference.
        positions = (mask.cumsum(dim=-1) - 1) * mask
        slopes = torch.tensor(self.slopes, device=mask.device)
        return (
            (slopes[:, None, None] * positions[:, None, None]).flatten(0, 1).to(dtype)
        )


def _with_mask(module, args, kwargs):
    if kwargs.get("attention_mask") is not None or len(args) > 2:
        return args, kwargs
    tokens = args[0] if args else kwargs.get("input_ids")
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    batch, seq = tokens.shape[:2]
    cache = kwargs.get("past_key_values")
    keys = seq if cache is None else cache.get_mask_sizes(seq, 0)[0]
    mask = torch.ones(batch, keys, dtype=torch.int64, device=tokens.device)
    return args, {**kwargs, "attention_mask": mask}


def _replaced(module, name, ours, *example):
    found, wanted = ours(*example), getattr(module, name)(*example)
    # What both add up is the same, in one order or another.
    if found.shape != wanted.shape or not torch.allclose(found, wanted, atol=1e-5):
        raise ValueError("its bias is not that of its configuration")
    setattr(module, name, ours)
    return lambda: delattr(module, name)
