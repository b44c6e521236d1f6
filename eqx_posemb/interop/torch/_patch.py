"""Puts the rotary embeddings of this library into models of transformers, and restores
the originals."""

import contextlib
import copy
import dataclasses
import functools
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor

from ..._rotary import Chain, Rotary
from .. import huggingface
from ._functions import duplicate_interleave, twice
from ._parts import TorchRotary
from ._relative import Buckets


@dataclasses.dataclass(eq=False)
class Patch:
    """The changes of [`eqx_posemb.interop.torch.patch_rotary`][], and how to undo them.

    The end of a `with` restores the model, and so does `remove` at any time.

    !!! Example

        ```python
        from transformers import LlamaConfig, LlamaModel
        from eqx_posemb.interop.torch import patch_rotary

        sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2)
        patch = patch_rotary(LlamaModel(LlamaConfig(num_hidden_layers=1, **sizes)))
        patch.remove()
        ```
    """

    patched: tuple[str, ...]
    """The names of the modules that have our numbers now."""
    left: dict[str, str]
    """The names of unchanged modules, each with the reason."""
    _undo: contextlib.ExitStack = dataclasses.field(repr=False)

    def remove(self) -> None:
        """Puts back what was there. A second time does nothing."""
        self._undo.close()

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()


def patch_rotary(model: nn.Module) -> Patch:
    """Puts exact rotary embeddings and biases into a model of transformers.

    The tables of its rotary embeddings then have errors of at most 2e-7 at every
    position. The tables of transformers are off by up to 0.007 at position 131,072 and
    0.06 at a million. The biases of T5 and Bloom are replaced, too. Weights and the
    state dict do not change.

    A module is patched if our numbers equal the numbers of a fresh module of its class
    at short positions. [`eqx_posemb.interop.huggingface.load`][] reads its
    configuration. Any other module is listed in `left` with the reason.

    !!! Example

        ```python
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from eqx_posemb.interop.torch import patch_rotary

        sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2)
        config = LlamaConfig(vocab_size=50, num_hidden_layers=1, **sizes)
        model, tokens = LlamaForCausalLM(config), torch.arange(10)[None]
        before = model(tokens).logits
        with patch_rotary(model):
            torch.testing.assert_close(model(tokens).logits, before)
        ```

    **Returns:** a [`eqx_posemb.interop.torch.Patch`][], which restores the model.

    **Raises:** a `ValueError` if the model is already patched, or if none of its
    modules can be replaced.
    """
    modules = dict(model.named_modules())
    if any(isinstance(module, ExactTables) for module in modules.values()):
        raise ValueError(
            "`model` must be as transformers made it, but it is patched already. Call "
            "`remove` of the handle first."
        )
    undo, patched, left = contextlib.ExitStack(), [], {}
    for name, module in modules.items():
        if "Rotary" in type(module).__name__:
            patch = _patch_rotation
        elif hasattr(module, "relative_attention_bias"):
            patch = _patch_t5
        elif hasattr(module, "build_alibi_tensor"):
            patch = _patch_alibi
        else:
            continue
        try:
            with torch.no_grad():
                patch(undo, model, name, module)
            patched.append(name)
        # One unknown module must not prevent the replacement of the others.
        except (ValueError, TypeError, AttributeError) as error:
            left[name] = str(error)
    if not patched:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise ValueError(
            "`model` must have a rotary embedding, or T5's or Bloom's bias, that can "
            f"be replaced, but got {type(model).__name__} with {reasons or 'none'}."
        )
    return Patch(tuple(patched), left, undo)


# transformers repeats the angle of each pair in one of two orders, or has a column for
# each pair.
_LAYOUTS = (twice, duplicate_interleave, torch.clone)


class ExactTables(nn.Module):
    """Replaces the tables of transformers for one kind of layer: [batch, seq, channels]
    at positions [batch, seq], or [3, batch, seq] for M-RoPE."""

    def __init__(self, kind: str | None, rotary: Rotary, layout: Any, coordinates: int):
        super().__init__()
        self.rotary = TorchRotary(rotary, "torch")
        self.kind, self.layout, self.coordinates = kind, layout, coordinates

    @torch.no_grad()
    def forward(
        self, theirs: Any, x: Tensor, position_ids: Tensor, layer_type: Any = None
    ) -> Any:
        if layer_type != self.kind:
            return theirs
        positions = position_ids
        if self.coordinates:
            # Text has one number for all coordinates.
            positions = positions.expand(self.coordinates, -1, -1).movedim(0, -1)
        length = None if self.rotary.exact else position_ids.max() + 1
        tables = self.rotary.tables(positions, length=length)
        # Some classes of transformers have float32 tables for inputs of every dtype.
        return tuple(self.layout(table).to(theirs[0].dtype) for table in tables)


def _patch_rotation(undo, model, name, module):
    given = list(inspect.signature(type(module).forward).parameters)[1:]
    # A `forward` with other arguments belongs to a class that is not known here.
    if given not in (["x", "position_ids"], ["x", "position_ids", "layer_type"]):
        raise ValueError(f"its `forward` takes {', '.join(given)}")
    with torch.device("cpu"):
        # A module in use may have been cast to half precision, so a fresh module is
        # compared.
        fresh = type(module)(module.config)
    kinds = [None]
    if "layer_type" in given:
        kinds = [kind for kind, rope in fresh.rope_type.items() if rope is not None]
    buffers = (buffer.device for buffer in module.buffers())
    device = next(buffers, torch.device("cpu"))
    for tables in [_equal(fresh, module.config, kind) for kind in kinds]:
        # Submodules move with the model.
        name = f"exact_{tables.kind}"
        module.add_module(name, tables.to(device))
        undo.callback(delattr, module, name)
        hook = functools.partial(_exact, name)
        undo.callback(module.register_forward_hook(hook, with_kwargs=True).remove)


def _exact(name, module, args, kwargs, theirs):
    """A hook, which finds the tables in the module or in a replica of it."""
    return getattr(module, name)(theirs, *args, **kwargs)


def _equal(fresh, config, kind):
    """Tables of this library that equal the tables of transformers, at short
    positions."""
    for rotary in _candidates(config, kind):
        for coordinates, positions in _examples(rotary):
            given = (torch.zeros(1), positions, *([] if kind is None else [kind]))
            try:
                theirs = fresh(*given)
            except (IndexError, RuntimeError):
                continue
            for layout in _LAYOUTS:
                tables = ExactTables(kind, rotary, layout, coordinates)
                if all(map(_same, tables(theirs, *given), theirs)):
                    return tables
    raise ValueError(
        "its tables differ from its configuration, or have an unknown layout"
    )


def _same(ours, theirs):
    """Whether both have the same numbers, in one order of sums or another."""
    close = functools.partial(torch.allclose, rtol=1e-5, atol=1e-5)
    return ours.shape == theirs.shape and close(ours, theirs.float())


def _examples(rotary: Rotary) -> Iterator[tuple[int, Tensor]]:
    """Short positions, where float32 is right to 1e-6, after the number of coordinates
    that precede the batch: [coordinates, batch, seq] for text, and [patches,
    coordinates] for images."""
    positions = torch.arange(8)
    if rotary.axes is None:
        yield 0, positions[None]
        return
    # Coordinates differ, so that equal tables prove equal channels for each coordinate.
    count = rotary.axes.coordinates
    each = torch.arange(1, count + 1)[:, None] * positions
    yield count, each[:, None]
    yield 0, each.T


def _candidates(config: Any, kind: str | None) -> Iterator[Rotary]:
    kinds = [kind] if kind else dict.fromkeys(huggingface.layer_types(config))
    # The embedding as configured comes first, and then the embedding as transformers
    # computes it.
    for quirks in False, True:
        for each in kinds:
            loaded = huggingface.load(config, layer_type=each, quirks=quirks).rotary
            parts = loaded.parts if isinstance(loaded, Chain) else (loaded,)
            # The attention of transformers applies the temperature of a chain.
            for part in parts:
                if isinstance(part, Rotary) and part.decay is None:
                    yield part


def _patch_t5(undo, model, name, module):
    stack = "decoder" if module.is_decoder else "encoder"
    bias: Any = huggingface.load(model.config, layer_type=stack).bias
    buckets = Buckets(bias.weight.shape[0], bias.max_distance, bias.bidirectional)
    ours = functools.partial(_bucket, buckets)
    _replace(undo, module, "_relative_position_bucket", ours, "compute_bias", 9, 7)


def _bucket(buckets: Buckets, delta: Tensor, *_: Any, **__: Any) -> Tensor:
    """Takes the settings of T5 as well, which the buckets already have."""
    return buckets.to(delta.device)(delta)


def _patch_alibi(undo, model, name, module):
    bias: Any = huggingface.load(model.config).bias
    slopes = np.asarray(bias.slopes, np.float32).tolist()
    ours, method = functools.partial(_alibi, slopes=slopes), "build_alibi_tensor"
    # The example has padding before its tokens, where counts of positions could differ.
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    example = mask, module.num_heads, torch.float32
    _replace(undo, module, method, ours, method, *example)
    # Without a mask Bloom computes its bias inline, so a hook adds a mask.
    hook = module.register_forward_pre_hook(_with_mask, with_kwargs=True)
    undo.callback(hook.remove)


def _alibi(mask: Tensor, heads: int, dtype: torch.dtype, *, slopes: Any) -> Tensor:
    """Slopes times key positions, as in Bloom, which equals ALiBi after the softmax."""
    positions = ((mask.cumsum(dim=-1) - 1) * mask)[:, None, None]
    slopes = torch.tensor(slopes, device=mask.device)[:, None, None]
    return (slopes * positions).flatten(0, 1).to(dtype)


def _with_mask(module, args, kwargs):
    if kwargs.get("attention_mask") is not None or len(args) > 2:
        return args, kwargs
    tokens = args[0] if args else kwargs.get("input_ids")
    tokens = kwargs["inputs_embeds"] if tokens is None else tokens
    batch, seq = tokens.shape[:2]
    # transformers 5.24 renamed the argument of the cache.
    named = kwargs.get("cache", kwargs.get("past_key_values"))
    cache = args[1] if len(args) > 1 else named
    keys = seq if cache is None else cache.get_mask_sizes(seq, 0)[0]
    mask = torch.ones(batch, keys, dtype=torch.int64, device=tokens.device)
    return args, {**kwargs, "attention_mask": mask}


def _replace(undo, module, name, ours, bias, *example):
    """Puts a method of ours into the module if the `bias` method of the module stays
    the same."""
    if name in vars(module):
        raise ValueError("it is patched already, until `remove` of the handle")
    trial = copy.copy(module)
    setattr(trial, name, ours)
    given, kept = (getattr(each, bias)(*example) for each in (trial, module))
    if not hasattr(module, name) or not _same(given, kept):
        raise ValueError("its bias differs from its configuration")
    setattr(module, name, ours)
    # The attribute of the instance hides the method of its class until it is deleted.
    undo.callback(delattr, module, name)
