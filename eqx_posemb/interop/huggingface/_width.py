"""How many channels of a head rotate."""

from .._configuration import agreed, require, Settings


def share_of(kind: str, rope: Settings, settings: Settings, head: int) -> float:
    """The share of the channels of a head that rotate."""
    row, quirks, own = settings.row, settings.quirks, "partial_rotary_factor"
    name, width = row.get("rotary"), head
    reads = kind != "default" or bool(row.get("partial"))
    if name is not None and settings.get(name) is not None:
        width, reads = settings.width(name), kind == "proportional"
    default = row.get(own, 1.0) if reads else 1.0
    most = 4.0 if default > 1 else 1.0
    found = rope.told(rope.number, own, above=0)
    if found and not reads:
        # A key without effect is an error, unless it states the width that rotates.
        found = {}
        fine = quirks or rotates_as_much(rope.number(own), head, width, settings)
        rule = (
            f"not be there, as {width} of {head} channels rotate in this model type "
            "whatever it is"
        )
        rope.require(fine, own, rule, rope.get(own))
    if reads:
        beside = row.get("legacy", {}).get(own) or own
        found |= settings.told(settings.number, beside, above=0)
    dim = row.get("rotary_dim")
    if dim and not (quirks and dim == "unread") and settings.get("rotary_dim"):
        found["rotary_dim"] = settings.integer("rotary_dim", most=head) / head
    partial = agreed(found, not quirks) or default
    require(partial <= most, own, f"be at most {most}", partial)
    return partial


def rotates_as_much(share: float, head: int, width: int, settings: Settings) -> bool:
    """Whether that share of a head is the number of channels that rotate anyway."""
    heads = {head, settings.get("head_dim")}
    return any(isinstance(dim, int) and int(dim * share) == width for dim in heads)


def width_of(rope, head: int, settings: Settings) -> int:
    """How many channels of a head rotate."""
    key = settings.row.get("rotary")
    if key is not None and settings.get(key) is not None:
        width = settings.width(key)
        require(width <= head, key, f"be at most {head}", width)
        require(width % 2 == 0, key, "be even", width)
        return width
    if rope.kind == "proportional":
        # It rotates whole heads, and its slow pairs have a frequency of zero.
        require(head % 2 == 0, "head_dim", "be even", head)
        width = head
    else:
        width = int(head * rope.partial)
    rule = f"leave at least 2 of {head} channels to rotate"
    require(width >= 2, "partial_rotary_factor", rule, rope.partial)
    return width
