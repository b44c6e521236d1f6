"""Puts the rotary embeddings of this library into models of transformers, and restores
the originals."""

import copy
import dataclasses
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn, Tensor

from ..._rotary import Chain, Rotary
from .. import huggingface
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
    """The names of the modules that are ours now."""
    left: dict[str, str]
    """The names of unchanged modules, each with the reason."""
    _undo: list[Callable[[], Any]] = dataclasses.field(repr=False)

    def remove(self) -> None:
        """Puts back what was there. A second time does nothing."""
        while self._undo:
            self._undo.pop()()

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

    A module is replaced if the new module has the numbers of a fresh module of its
    class at short positions. [`eqx_posemb.interop.huggingface.load`][] reads its
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
    if any(isinstance(module, PatchedRotation) for module in modules.values()):
        raise ValueError(
            "`model` must be as transformers made it, but it is patched already. Call "
            "`remove` of the handle first."
        )
    undo, left = {}, {}
    for name, module in modules.items():
        if (patch := _patch_of(module)) is None:
            continue
        try:
            with torch.no_grad():
                undo[name] = patch(model, name, module)
        # One unknown module must not prevent the replacement of the others.
        except (ValueError, TypeError, AttributeError) as error:
            left[name] = str(error)
    if not undo:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise ValueError(
            "`model` must have a rotary embedding, or T5's or Bloom's bias, that can "
            f"be replaced, but got {type(model).__name__} with {reasons or 'none'}."
        )
    return Patch(tuple(undo), left, list(undo.values()))


def _patch_of(module):
    """What replaces the module, and gives what undoes it."""
    if "Rotary" in type(module).__name__:
        return _patch_rotation
    if hasattr(module, "relative_attention_bias"):
        return _patch_t5
    return _patch_alibi if hasattr(module, "build_alibi_tensor") else None


# transformers repeats the angle of each pair in one of two orders, or has a column for
# each pair.
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "halves": lambda table: torch.cat([table, table], dim=-1),
    "adjacent": lambda table: table.repeat_interleave(2, dim=-1),
    "pairs": lambda table: table,
}


class PatchedRotation(nn.Module):
    """Replaces a rotary embedding of transformers, and has its other attributes."""

    def __init__(self, original: nn.Module, made: Mapping[Any, nn.Module]):
        super().__init__()
        # As a submodule, the original moves and is cast with the model until it is
        # restored.
        self.original = original
        self.kinds = nn.ModuleDict({str(kind): one for kind, one in made.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("original"), name)

    def forward(
        self, x: Tensor, position_ids: Tensor, layer_type: str | None = None
    ) -> tuple[Tensor, Tensor]:
        return self.kinds[str(layer_type)](x, position_ids)


class _Tables(nn.Module):
    """The tables of one kind of layer, [batch, seq, channels], of positions [batch,
    seq], or [3, batch, seq] for M-RoPE."""

    def __init__(self, rotary: Rotary, layout: str, axis: int, keeps_dtype: bool):
        super().__init__()
        self.rotary = TorchRotary(rotary, "torch")
        self.layout, self.keeps_dtype = layout, keeps_dtype
        # M-RoPE has its coordinates in the first axis, and text has one number for all
        # coordinates.
        self.first = 0 if rotary.axes is None or axis else rotary.axes.coordinates

    @torch.no_grad()
    def forward(self, x, position_ids):
        positions = position_ids
        if self.first:
            positions = positions.expand(self.first, -1, -1).movedim(0, -1)
        length = None if self.rotary.exact else position_ids.max() + 1
        # Some classes of transformers return float32 tables for inputs of every dtype.
        dtype = x.dtype if self.keeps_dtype else torch.float32
        tables = self.rotary.tables(positions, length=length)
        cos, sin = (_LAYOUTS[self.layout](table).to(dtype) for table in tables)
        return cos, sin


def _patch_rotation(model: nn.Module, name: str, module: Any) -> Callable[[], None]:
    parent, _, last = name.rpartition(".")
    if not last:
        raise ValueError("a rotary embedding cannot be replaced in itself")
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
    made = {kind: _equal(fresh, module.config, kind) for kind in kinds}
    holder = model.get_submodule(parent)
    buffers = (buffer.device for buffer in module.buffers())
    patched = PatchedRotation(module, made).to(next(buffers, torch.device("cpu")))
    setattr(holder, last, patched.train(module.training))
    return lambda: setattr(holder, last, patched.original)


def _equal(fresh, config, kind):
    """Tables of this library that equal the tables of transformers, at short
    positions."""
    arguments = () if kind is None else (kind,)
    for rotary in _candidates(config, kind):
        for axis, positions in _examples(rotary):
            try:
                theirs = fresh(torch.zeros(1), positions, *arguments)
                half = fresh(torch.zeros(1, dtype=torch.float16), positions, *arguments)
            except (IndexError, RuntimeError):
                continue
            for layout in _LAYOUTS:
                keeps = half[0].dtype == torch.float16
                tables = _Tables(rotary, layout, axis, keeps)
                ours = tables(torch.zeros(1), positions)
                if all(map(_same, ours, theirs)):
                    return tables
    raise ValueError(
        "its tables differ from its configuration, or have an unknown layout"
    )


def _same(ours, theirs):
    """Whether both have the same numbers, in one order of sums or another."""
    close = functools.partial(torch.allclose, rtol=1e-5, atol=1e-5)
    return ours.shape == theirs.shape and close(ours, theirs.float())


def _examples(rotary: Rotary) -> Iterator[tuple[int, Tensor]]:
    """Short positions, where float32 is right to 1e-6, with the axis of coordinates:
    [coordinates, batch, seq] for text, and [patches, coordinates] for images."""
    positions = torch.arange(8)
    if rotary.axes is None:
        yield 0, positions[None]
        return
    # Coordinates differ, so that equal tables prove equal channels for each coordinate.
    each = torch.stack([positions * (i + 1) for i in range(rotary.axes.coordinates)])
    yield 0, each[:, None]
    yield 1, each.T


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


def _patch_t5(model: Any, name: str, module: Any) -> Callable[[], None]:
    stack = "decoder" if module.is_decoder else "encoder"
    bias: Any = huggingface.load(model.config, layer_type=stack).bias
    buckets = Buckets(bias.weight.shape[0], bias.max_distance, bias.bidirectional)
    ours = functools.partial(_bucket, buckets)
    bias = operator.methodcaller("compute_bias", 9, 7)
    return _replaced(module, "_relative_position_bucket", ours, bias)


def _bucket(buckets: Buckets, delta: Tensor, *_: Any, **__: Any) -> Tensor:
    """Takes the settings of T5 as well, which the buckets already have."""
    return buckets.to(delta.device)(delta)


def _patch_alibi(model: Any, name: str, module: Any) -> Callable[[], None]:
    ours = _ALiBi(huggingface.load(model.config).bias)
    # The example has padding before its tokens, where counts of positions could differ.
    mask = torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]])
    example = mask, module.num_heads, torch.float32
    bias = operator.methodcaller("build_alibi_tensor", *example)
    undo = _replaced(module, "build_alibi_tensor", ours, bias)
    # Without a mask Bloom computes its bias inline, so a hook adds a mask.
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
        # Bloom multiplies slopes by key positions, which equals ALiBi after the
        # softmax.
        positions = ((mask.cumsum(dim=-1) - 1) * mask)[:, None, None]
        slopes = torch.tensor(self.slopes, device=mask.device)[:, None, None]
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


def _replaced(module, name, ours, bias):
    """Puts a method of ours into the module if the bias of the module stays the same;
    gives what undoes it."""
    if name in vars(module):
        raise ValueError("it is patched already, until `remove` of the handle")
    trial = copy.copy(module)
    setattr(trial, name, ours)
    if not hasattr(module, name) or not _same(bias(trial), bias(module)):
        raise ValueError("its bias differs from its configuration")
    setattr(module, name, ours)
    # The attribute of the instance hides the method of its class until it is deleted.
    return lambda: delattr(module, name)
