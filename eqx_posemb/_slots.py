"""Checks that each slot of an embedding has a part of its kind."""

import inspect
from typing import Any

from ._bias import AbstractBias
from ._checks import check_positive, described
from ._encoding import AbstractEncoding
from ._frequencies import AbstractFrequencies
from ._rotary import AbstractProducts, AbstractRotary
from ._score import AbstractScore


KINDS: tuple[tuple[str, tuple[type, ...]], ...] = (
    ("encoding", (AbstractEncoding,)),
    ("rotary", (AbstractRotary, AbstractProducts)),
    ("bias", (AbstractBias,)),
    ("score", (AbstractScore,)),
)


def check_slots(embedding: Any) -> None:
    """Raises an error unless all slots of a `PositionalEmbedding` fit.

    Only the constructor calls it, since functions that edit pytrees put other values
    into slots.
    """
    for slot, kinds in KINDS:
        part = getattr(embedding, slot)
        # A part in a wrong slot would fail later, inside of a trace.
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


def refuse_call(self, *x):
    raise TypeError(
        "An embedding has a method for each place, but got a call with "
        f"{len(x)} argument(s). Write `embedding.embed(x, positions)` for tokens, and "
        "`embedding.attend(q, k, v, positions, positions)` in each layer."
    )


def refuse_attribute(self, name):
    cure = ""
    if name in ("queries", "keys"):
        cure = f" Place it first: `embedding.at(positions).{name}(x)`."
    raise AttributeError(f"`{type(self).__name__}` has no attribute `{name}`.{cure}")


def _said(part, whole):
    """The kind of a part in a few words, and the cure."""
    words = described(part)
    # A user may have given `rope` in place of `rope(64)`.
    if inspect.isroutine(part) or inspect.isclass(part):
        return words, f"Call it: `{part.__name__}(...)`."
    for slot, kinds in KINDS:
        if isinstance(part, kinds):
            return words, f"Give it as `{slot}=...`."
    if isinstance(part, AbstractFrequencies):
        return words, "Give it as `rotary=eqx_posemb.Rotary(...)`."
    if isinstance(part, whole):
        return words, "Give one of its slots."
    if isinstance(part, str):
        return words, "`eqx_posemb.make` builds an embedding by its name."
    return words, "Build a part, such as `eqx_posemb.rope(64)`."
