"""The sections of M-RoPE: how many pairs each coordinate of a position turns."""


def sections_of(rope, row, quirks) -> tuple[int, ...]:
    """The sections in the rope settings of a layer; none if the settings have none."""
    found = [
        rope.integers(key)
        for key in ("mrope_section", "xdrope_section")
        if rope.has(key)
    ]
    if len(set(found)) > 1:
        raise ValueError(
            "`mrope_section` and `xdrope_section` must agree where both are given, but "
            f"got {found[0]} and {found[1]}."
        )
    interleaved = row.get("axes") == "interleaved"
    if rope.has("mrope_interleaved") and not quirks:
        told = rope.flag("mrope_interleaved", interleaved)
        if told != interleaved:
            raise ValueError(
                f"`mrope_interleaved` must be {str(interleaved).lower()} for this "
                f"model type, but got {str(told).lower()}."
            )
    return found[0] if found else ()
