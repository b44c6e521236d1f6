"""How many channels of a head rotate."""

from typing import Any

from .._configuration import Settings


def share_of(
    kind: str,
    rope: Settings,
    settings: Settings,
    row: dict[str, Any],
    quirks: bool,
    head: int,
) -> float:
    """The share of the channels of a head that rotate."""
    legacy = row.get("legacy", {}).get("partial_rotary_factor")
    key = legacy or "partial_rotary_factor"
    name, width = row.get("rotary"), head
    reads = kind != "default" or bool(row.get("partial"))
    if name is not None and settings.get(name) is not None:
        width, reads = settings.width(name), kind == "proportional"
    default = row.get("partial_rotary_factor", 1.0) if reads else 1.0
    most = 4.0 if default > 1 else 1.0
    found = []
    if rope.has("partial_rotary_factor"):
        share = rope.number("partial_rotary_factor", above=0)
        if reads:
            found.append(share)
        # A key without effect is an error, unless it states the width that rotates.
        elif not quirks and not rotates_as_much(share, head, width, settings):
            raise ValueError(
                f"`rope_parameters.partial_rotary_factor` must not be there, as "
                f"{width} of {head} channels rotate in this model type whatever it "
                f"is, but got {share}."
            )
    if reads and settings.has(key):
        found.append(settings.number(key, above=0))
    dim = row.get("rotary_dim")
    if dim and not (quirks and dim == "unread") and settings.get("rotary_dim"):
        found.append(settings.integer("rotary_dim", most=head) / head)
    if len(set(found)) > 1 and not quirks:
        raise ValueError(
            f"`partial_rotary_factor` must be the same wherever it is given, but got "
            f"{' and '.join(map(str, found))}."
        )
    partial = found[0] if found else default
    if partial > most:
        raise ValueError(
            f"`partial_rotary_factor` must be at most {most}, but got {partial}."
        )
    return partial


def rotates_as_much(share: float, head: int, width: int, settings: Settings) -> bool:
    """Whether that share of a head is the number of channels that rotate anyway."""
    heads = {head, settings.get("head_dim")}
    return any(isinstance(dim, int) and int(dim * share) == width for dim in heads)


def width_of(rope, head: int, settings: Settings, row: dict[str, Any]) -> int:
    """How many channels of a head rotate."""
    key = row.get("rotary")
    if key is not None and settings.get(key) is not None:
        width = settings.width(key)
        if width > head:
            raise ValueError(f"`{key}` must be at most {head}, but got {width}.")
        if width % 2:
            raise ValueError(f"`{key}` must be even, but got {width}.")
        return width
    # A proportional schedule rotates whole heads, and its slow pairs have a frequency
    # of zero.
    width = head if rope.kind == "proportional" else int(head * rope.partial)
    if rope.kind == "proportional" and head % 2:
        raise ValueError(f"`head_dim` must be even, but got {head}.")
    if width < 2:
        raise ValueError(
            "`partial_rotary_factor` must leave at least 2 channels to rotate, but got "
            f"{rope.partial} of a head of {head}."
        )
    return width
