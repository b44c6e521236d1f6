"""Biases of transformers' models, computed by ours from their weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..._bias import AbstractBias
from .. import huggingface
from ._operator import call
from ._parts import TorchBias
from ._programs import frame_of


class _T5:
    """Stands where `compute_bias` of an attention of T5 stood."""

    def __init__(self, attention: Any, bias: AbstractBias):
        self.attention = attention
        self.frame = frame_of(bias)

    def __call__(
        self,
        query_length: int,
        key_length: int,
        device: torch.device | None = None,
        past_seen_tokens: int | Tensor = 0,
    ) -> Tensor:
        weight = self.attention.relative_attention_bias.weight
        where = weight.device if device is None else device
        q_positions = torch.arange(_few(query_length), device=where)
        k_positions = torch.arange(_few(key_length), device=where)
        program = f"{self.frame.digest}|__call__|q_positions:0,k_positions:0|"
        inputs = [weight, q_positions + past_seen_tokens, k_positions]
        (bias,) = call(program, inputs)
        return bias[None, :, :query_length, :key_length].to(weight.dtype)


def patch_t5(model: Any, name: str, module: Any) -> Callable[[], None]:
    """Replaces the bias of an attention of T5; gives what undoes it.

    **Raises:** a `ValueError` if it is another bias than that of its configuration.
    """
    stack = "decoder" if module.is_decoder else "encoder"
    bias: Any = huggingface.load(model.config, layer_type=stack).bias
    ours = _T5(module, bias)
    _check_same(ours(9, 7), module.compute_bias(9, 7))
    return _replaced(module, "compute_bias", ours)


class _ALiBi:
    """Stands where `build_alibi_tensor` of Bloom stood."""

    def __init__(self, bias: AbstractBias):
        self.bias = TorchBias(bias)

    def __call__(self, mask: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
        seq = mask.shape[-1]
        positions = (mask.cumsum(dim=-1) - 1) * mask
        positions = torch.nn.functional.pad(positions, (0, _few(seq) - seq))
        first = torch.zeros(1, dtype=torch.int32, device=mask.device)
        # The bias seen from position zero: the softmax does not see the difference.
        bias = self.bias(first, positions)
        return bias[..., :seq].reshape(-1, 1, seq).to(dtype)


def patch_alibi(model: Any, name: str, module: Any) -> Callable[[], None]:
    """Replaces the bias of Bloom; gives what undoes it.

    **Raises:** a `ValueError` if it is another bias than that of its configuration.
    """
    bias: Any = huggingface.load(model.config).bias
    ours = _ALiBi(bias)
    example = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]), module.num_heads
    ours_made = ours(*example, dtype=torch.float32)
    _check_same(ours_made, module.build_alibi_tensor(*example, dtype=torch.float32))
    undo = _replaced(module, "build_alibi_tensor", ours)
    # Without a mask Bloom has the formula once more, inline.
    hook = module.register_forward_pre_hook(_with_mask, with_kwargs=True)

    def both():
        hook.remove()
        undo()

    return both


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


def _few(length):
    """A length at least as large, of which there are few: JAX compiles for each, and a
    text that is generated has another one at every step."""
    return max(16, 1 << (length - 1).bit_length())


def _replaced(module, name, ours):
    setattr(module, name, ours)
    return lambda: delattr(module, name)


def _check_same(ours, theirs):
    # What both add up is the same, in one order or another.
    if ours.shape != theirs.shape or not torch.allclose(ours, theirs, atol=1e-5):
        raise ValueError("its bias is not that of its configuration")
