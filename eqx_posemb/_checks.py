"""Checks of settings that many constructors share."""

import inspect
import math
import numbers
from collections.abc import Iterable
from typing import Any


def as_number(value: Any) -> Any:
    """A number as a float. Other values are returned unchanged, and a check refuses
    them."""
    return float(value) if _is_number(value) else value


def as_tuple(value: Any) -> Any:
    """Values of any iterable as a tuple. Other values are returned unchanged, and a
    check refuses them."""
    return tuple(value) if isinstance(value, Iterable) else value


def check_positive(name: str, value: float) -> None:
    if not (_is_number(value) and value > 0 and math.isfinite(value)):
        raise ValueError(
            f"`{name}` must be positive and finite, but got {described(value)}."
        )


def check_finite(name: str, value: float) -> None:
    if not (_is_number(value) and math.isfinite(value)):
        raise ValueError(
            f"`{name}` must be a finite number, but got {described(value)}."
        )


def check_at_least(name: str, value: float, bound: float) -> None:
    if not (_is_number(value) and value >= bound and math.isfinite(value)):
        raise ValueError(
            f"`{name}` must be at least {bound} and finite, but got {described(value)}."
        )


def check_between(
    name: str, value: float, low: float, high: float, what: str = ""
) -> None:
    """Checks both bounds. `what` may say what the upper bound is."""
    if not (_is_number(value) and low <= value <= high):
        end = f"{high}, {what}" if what else f"{high}"
        raise ValueError(
            f"`{name}` must be between {low} and {end}, but got {described(value)}."
        )


def check_count(name: str, value: int, bound: int) -> None:
    check_at_least(name, value, bound)
    if not is_integer(value):
        raise ValueError(f"`{name}` must be an integer, but got {value}.")


def check_shape(
    name: str,
    value: Iterable[int],
    *,
    bound: int = 1,
    axes: int | None = None,
    rule: str = "have one positive size for each axis of the grid",
) -> tuple[int, ...]:
    """The sizes of a grid or a window as a tuple, whose number `axes` may state."""
    try:
        sizes = tuple(value)
    except TypeError:
        sizes = ()
    count = len(sizes) if axes is None else axes
    whole = all(is_integer(size) and size >= bound for size in sizes)
    if not sizes or len(sizes) != count or not whole:
        shown = sizes if isinstance(value, tuple | list) else described(value)
        raise ValueError(f"`{name}` must {rule}, but got {shown}.")
    return sizes


def check_key(key: Any) -> None:
    # Keys of `jax.random.PRNGKey` are arrays of unsigned integers.
    if str(getattr(key, "dtype", None)).startswith(("key<", "uint32")):
        return
    rule = "a key, such as `jax.random.key(0)`"
    if isinstance(key, numbers.Integral):
        rule = f"`jax.random.key({key})`"
    raise ValueError(f"`key` must be {rule}, but got {described(key)}.")


def check_even(name: str, value: int, why: str) -> None:
    if not is_integer(value) or value < 2 or value % 2:
        raise ValueError(
            f"`{name}` must be even and positive, {why}, but got {described(value)}."
        )


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if not (isinstance(value, str) and value in choices):
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(
            f"`{name}` must be one of {known}, but got {described(value)}."
        )


def check_kind(name: str, value: object, kind: type, cure: str) -> None:
    if not isinstance(value, kind):
        if inspect.isroutine(value) or inspect.isclass(value):
            cure = f"Call it: `{value.__name__}(...)`."
        raise ValueError(
            f"`{name}` must be {_with_article(kind)}, but got {described(value)}. "
            f"{cure}"
        )


def is_integer(value: Any) -> bool:
    # A boolean is an integer in Python, and a mistake as a size.
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value):
    # Scalars of NumPy and of JAX are numbers as well.
    return isinstance(value, numbers.Real) or getattr(value, "ndim", None) == 0


def described(value: Any) -> str:
    """A short description of a value, for error messages."""
    if value is None:
        return "None"
    if inspect.isroutine(value) or inspect.isclass(value):
        kind = "class" if inspect.isclass(value) else "function"
        return f"the {kind} `{value.__name__}`"
    if getattr(value, "ndim", 0):
        return f"an array of shape {value.shape}"
    if isinstance(value, int | float | str | tuple):
        shown = repr(value)
        # A long value would hide the rule of a message.
        return shown if len(shown) <= 42 else f"{shown[:41]}...{shown[-1]}"
    return _with_article(type(value))


def _with_article(kind):
    name = kind.__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
