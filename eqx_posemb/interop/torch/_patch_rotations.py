"""Rotary embeddings of transformers with tables of ours."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn, Tensor

from ..._rotary import Chain, Rotary
from .. import huggingface
from ._rotations import TorchRotary


# What they make of the angles of the pairs: a table of all channels, or of half.
_LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "halves": lambda table: torch.cat([table, table], dim=-1),
    "adjacent": lambda table: table.repeat_interleave(2, dim=-1),
    "pairs": lambda table: table,
}


class PatchedRotation(nn.Module):
    """Stands where a rotary embedding of transformers stood, and is called as it was.

    All else that one may ask of the other, such as its `inv_freq`, the other answers.
    """

    def __init__(self, original: nn.Module, made: Mapping[Any, nn.Module]):
        super().__init__()
        # Here, so that it moves and is cast along with the model until it is put back.
        self.original = original
        self.kinds = nn.ModuleDict({_key(kind): one for kind, one in made.items()})

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("original"), name)

    def forward(
        self, x: Tensor, position_ids: Tensor, layer_type: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """The tables of cosines and of sines, [batch, seq, channels], in the dtype of
        `x`; of positions [batch, seq], or [3, batch, seq] for M-RoPE."""
        return self.kinds[_key(layer_type)](x, position_ids)


class _Tables(nn.Module):
    """The tables of one kind of layer."""

    def __init__(self, rotary: Rotary, layout: str, axis: int, keeps_dtype: bool):
        super().__init__()
        self.rotary = TorchRotary(rotary, "torch")
        self.layout = layout
        self.keeps_dtype = keeps_dtype
        # How many coordinates come first. Text has one number for all of them.
        on_grid = rotary.axes is not None and axis == 0
        self.first = rotary.axes.coordinates if on_grid else 0

    @torch.no_grad()
    def forward(self, x, position_ids):
        positions = position_ids
        if self.first:
            positions = positions.expand(self.first, -1, -1).movedim(0, -1)
        length = None if self.rotary.exact else position_ids.max() + 1
        dtype = x.dtype if self.keeps_dtype else torch.float32
        tables = self.rotary.tables(positions, length=length)
        cos, sin = (_LAYOUTS[self.layout](table).to(dtype) for table in tables)
        return cos, sin


def patch_rotation(model: nn.Module, name: str, module: Any) -> Callable[[], None]:
    """Replaces a rotary embedding of the model; gives what undoes it.

    **Raises:** a `ValueError` if it is of no kind that is known.
    """
    parent, _, last = name.rpartition(".")
    if not last:
        raise ValueError("a rotary embedding cannot be replaced in itself")
    accepted = inspect.signature(type(module).forward).parameters
    given = [parameter for parameter in accepted if parameter != "self"]
    if given not in (["x", "position_ids"], ["x", "position_ids", "layer_type"]):
        raise ValueError(f"its `forward` takes {', '.join(given)}")
    with torch.device("cpu"):
        # Theirs may be cast to half precision by now, frequencies and all.
        fresh = type(module)(module.config)
    if "layer_type" in given:
        kinds = [kind for kind, rope in fresh.rope_type.items() if rope is not None]
    else:
        kinds = [None]
    made = {kind: _equal(fresh, module.config, kind) for kind in kinds}
    holder = model.get_submodule(parent)
    buffers = (buffer.device for buffer in module.buffers())
    device = next(buffers, torch.device("cpu"))
    patched = PatchedRotation(module, made).to(device)
    setattr(holder, last, patched.train(module.training))
    return lambda: setattr(holder, last, patched.original)


def _equal(fresh, config, kind):
    """Tables of ours that are theirs, at short positions."""
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
                if _same(tables(torch.zeros(1), positions), theirs):
                    return tables
    raise ValueError(
        "its tables are not those of its configuration, or of a layout not known here"
    )


def _examples(rotary: Rotary) -> Iterator[tuple[int, Tensor]]:
    """Short positions, where float32 is right to 1e-6, with the axis of coordinates:
    [coordinates, batch, seq] for text, and [patches, coordinates] for images."""
    positions = torch.arange(8)
    if rotary.axes is None:
        yield 0, positions[None]
        return
    # Each coordinate its own, to see that it turns the same channels.
    each = torch.stack([positions * (i + 1) for i in range(rotary.axes.coordinates)])
    yield 0, each[:, None]
    yield 1, each.T


def _candidates(config: Any, kind: str | None) -> Iterator[Rotary]:
    kinds = [kind] if kind else dict.fromkeys(huggingface.layer_types(config))
    for quirks in False, True:
        for each in kinds:
            loaded = huggingface.load(config, layer_type=each, quirks=quirks).rotary
            parts = loaded.parts if isinstance(loaded, Chain) else (loaded,)
            # The temperature that a chain has besides is in the attention of theirs.
            for part in parts:
                if isinstance(part, Rotary) and part.decay is None:
                    yield part


def _same(ours, theirs):
    return all(
        a.shape == b.shape and torch.allclose(a, b.float(), rtol=0, atol=1e-5)
        for a, b in zip(ours, theirs, strict=True)
    )


def _key(kind):
    return "every layer" if kind is None else kind
