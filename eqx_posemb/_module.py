"""The base classes of all modules, and their short representation.

Equinox and jaxtyping print by `wadler_lindig`, and install it.
"""

import dataclasses
import inspect
from typing import Any, ClassVar, Literal

import equinox as eqx
import wadler_lindig as wl

from ._checks import check_key


# The divisors of LongRoPE would otherwise print dozens of numbers.
_FEW = 8
_FIRST = 3


class Module(eqx.Module):
    """An Equinox module with a short representation. It omits defaults, and elides long
    sequences of numbers."""

    def __new__(cls, *args: Any, **settings: Any):
        # Every class that draws its parameters has the setting `key`.
        if "key" in settings:
            check_key(settings["key"])
        return super().__new__(cls)

    def __pdoc__(self, **kwargs: Any) -> wl.AbstractDoc:
        """The class name with the settings that differ from their defaults."""
        settings = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.repr and hasattr(self, field.name)
        }
        parameters = inspect.signature(type(self)).parameters
        return wl.bracketed(
            begin=wl.TextDoc(f"{type(self).__qualname__}("),
            docs=[
                wl.TextDoc(f"{name}=") + _value(value, **kwargs)
                for name, value in settings.items()
                if name not in parameters or not _is(value, parameters[name].default)
            ],
            sep=wl.comma,
            end=wl.TextDoc(")"),
            indent=kwargs["indent"],
        )


class Part(Module):
    """A module that fills a slot of a [`eqx_posemb.PositionalEmbedding`][]."""

    traits: ClassVar[
        tuple[Literal["absolute", "between", "bounded", "causal"], ...]
    ] = ()
    """`"absolute"` if logits depend on more than differences of positions, `"between"`
    if they depend on the keys between the two tokens, `"bounded"` if positions beyond
    an end raise an error, and `"causal"` if the part needs causal attention."""

    reads: ClassVar[tuple[str, ...]] = ()
    """The names among `q_state` and `k_state` that the part reads."""


def _is(value, default) -> bool:
    """Whether a setting has its default. An array has none."""
    plain = default is None or isinstance(default, bool | int | float | str | tuple)
    # True equals 1 in Python, so the types are compared as well.
    return plain and isinstance(value, type(default)) and value == default


def _value(value, **kwargs) -> wl.AbstractDoc:
    is_long = isinstance(value, tuple) and len(value) > _FEW
    if not is_long or not all(isinstance(entry, int | float) for entry in value):
        return wl.pdoc(value, **kwargs)
    first = ", ".join(map(repr, value[:_FIRST]))
    return wl.TextDoc(f"({first}, ... {len(value) - _FIRST} more)")
