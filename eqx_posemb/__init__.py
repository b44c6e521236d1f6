"""Every positional embedding a transformer can have, for JAX and Equinox."""

import sys
from importlib import import_module
from typing import Any, TYPE_CHECKING


if TYPE_CHECKING:
    from . import (
        abstract as abstract,
        axes as axes,
        frequencies as frequencies,
        functional as functional,
        interop as interop,
        plot as plot,
        positions as positions,
        rotations as rotations,
    )
    from ._public import *  # noqa: F403


__version__ = "0.1.0"

_NAMESPACES = "abstract", "axes", "frequencies", "positions", "rotations"
_MODULES = *_NAMESPACES, "functional", "interop", "plot"


# The names are imported when the first of them is needed: the command line starts
# without JAX.
def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    # Names are imported lazily, so a star import would find none without this list.
    if name == "__all__":
        return [*_names(), *_NAMESPACES]
    if not name.startswith("_"):
        # Later accesses find the names without this function.
        globals().update(_names())
        if name in globals():
            return globals()[name]
        from ._moved import moved

        if (found := moved(name, _NAMESPACES)) is not None:
            return found
    # With the module, Python suggests a similar name.
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message, name=name, obj=sys.modules[__name__])


def __dir__() -> list[str]:
    own = [name for name in globals() if name.startswith("_")]
    return sorted({*own, *_names(), *_MODULES})


def _names() -> dict[str, Any]:
    names = vars(import_module(f"{__name__}._public"))
    return {name: value for name, value in names.items() if not name.startswith("_")}
