"""Every positional embedding a transformer can have, for JAX and Equinox."""

from importlib import import_module
from typing import Any, TYPE_CHECKING


if TYPE_CHECKING:
    from ._public import *  # noqa: F403


__version__ = "0.1.0"


# The names are imported when the first of them is needed: the command line starts
# without JAX.
def __getattr__(name: str) -> Any:
    if not name.startswith("_"):
        public = vars(import_module(f"{__name__}._public"))
        globals().update({k: v for k, v in public.items() if not k.startswith("_")})
        if name in globals():
            return globals()[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *vars(import_module(f"{__name__}._public"))})
