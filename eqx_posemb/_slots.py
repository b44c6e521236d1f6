"""Whether each slot of an embedding has a part of its own kind."""

import inspect
from typing import Any

from ._bias import AbstractBias
from ._checks import check_positive
from ._encoding import AbstractEncoding
from ._frequencies import AbstractFrequencies
from ._rotary import AbstractExtension, AbstractRotary
from ._score import AbstractScore


KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("encoding", (AbstractEncoding,)),
    ("rotary", (AbstractRotary, AbstractExtension)),
    ("bias", (AbstractBias,)),
    ("score", (AbstractScore,)),
)


def check_slots(embedding: Any) -> None:
    """Raises an error unless all slots of a `PositionalEmbedding` fit.

    Only a constructor calls it: what edits a tree may put anything there.
    """
    for slot, kinds in KINDS:
        part = getattr(embedding, slot)
        if part is not None and not isinstance(part, kinds):
            wanted = ", ".join(f"an {kind.__name__}" for kind in kinds)
            words, cure = _said(part, type(embedding))
            raise TypeError(
                f"`{slot}` must be {wanted} or None, but got {words}. {cure}"
            )
    scale = embedding.scale
    if scale is not None:
        check_positive("scale", scale)


def check_named(whole: type, unnamed: tuple[Any, ...]) -> None:
    """Raises an error if a `PositionalEmbedding` got parts without a slot's name."""
    if unnamed:
        words, cure = _said(unnamed[0], whole)
        raise TypeError(
            "A part must have the name of its slot (encoding, rotary, bias, score), "
            f"but got {words} without one. {cure}"
        )


def _said(part, whole):
    """What a part is, in a few words, and what to do with it."""
    if inspect.isroutine(part) or inspect.isclass(part):
        kind = "class" if inspect.isclass(part) else "function"
        return f"the {kind} `{part.__name__}`", f"Call it: `{part.__name__}(...)`."
    for slot, kinds in KINDS:
        if isinstance(part, kinds):
            return _kind(part), f"Give it as `{slot}=...`."
    if isinstance(part, AbstractFrequencies):
        return _kind(part), "Give it as `rotary=eqx_posemb.Rotary(...)`."
    if isinstance(part, whole):
        return _kind(part), "Give one of its slots."
    if isinstance(part, str):
        shown = repr(part if len(part) <= 40 else part[:40] + "...")
        return shown, "`eqx_posemb.make` builds an embedding by its name."
    is_array = hasattr(part, "shape")
    words = f"an array of shape {part.shape}" if is_array else _kind(part)
    return words, "Build a part, such as `eqx_posemb.rope(64)`."


def _kind(part):
    name = type(part).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
