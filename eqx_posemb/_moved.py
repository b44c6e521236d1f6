"""Names that were at the top. They go with the release after the next."""

import pkgutil
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any


_RENAMED = {
    "beit_from_state_dict": "BEiTBias.from_state_dict",
    "centred_positions": "positions.centered_positions",
    "deberta_from_state_dict": "interop.huggingface.deberta_from_state_dict",
    "enformer_from_state_dict": "Enformer.from_state_dict",
    "learned_from_state_dict": "Learned.from_state_dict",
    "learned_grid_from_state_dict": "LearnedGrid.from_state_dict",
    "levit_from_state_dict": "LeViTBias.from_state_dict",
    "normalised_positions": "positions.normalized_positions",
    "sam_from_state_dict": "Decomposed.from_state_dict",
    "shaw_from_state_dict": "Shaw.from_state_dict",
    "shaw_values": "functional.shaw_values",
    "swin_from_state_dict": "SwinBias.from_state_dict",
    "swinv2_from_state_dict": "LogCPB.from_state_dict",
    "t5_from_state_dict": "T5Bias.from_state_dict",
    "transformer_xl_from_state_dict": "TransformerXL.from_state_dict",
    "tupe_from_state_dict": "TUPE.from_state_dict",
}


def moved(name: str, namespaces: Sequence[str]) -> Any:
    """The value of an old name, with a warning that names the new one; else `None`."""
    package, _, _ = __name__.partition(".")
    places = {space: import_module(f"{package}.{space}") for space in namespaces}
    found = [
        f"{space}.{name}" for space, place in places.items() if name in vars(place)
    ]
    if name in _RENAMED:
        found = [_RENAMED[name]]
    if not found:
        return None
    warnings.warn(
        f"`{package}.{name}` is now `{package}.{found[0]}`. The old name goes with the "
        "release after the next.",
        DeprecationWarning,
        # The warning points to the caller, behind this function and `__getattr__`.
        stacklevel=3,
    )
    return pkgutil.resolve_name(f"{package}.{found[0]}")
