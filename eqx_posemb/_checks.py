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


def require(
    fine: Any, name: str, rule: str, value: Any = None, cure: str = "", words: str = ""
) -> None:
    """Raises an error with the argument, its rule, the value and the cure, unless all
    is fine. `words` may stand for the value."""
    if not fine:
        told = words or described(value)
        raise ValueError(f"`{name}` must {rule}, but got {told}. {cure}".rstrip())


def check_positive(name: str, value: float) -> None:
    fine = _is_number(value) and value > 0 and math.isfinite(value)
    require(fine, name, "be positive and finite", value)


def check_finite(name: str, value: float) -> None:
    fine = _is_number(value) and math.isfinite(value)
    require(fine, name, "be a finite number", value)


def check_at_least(name: str, value: float, bound: float) -> None:
    fine = _is_number(value) and value >= bound and math.isfinite(value)
    require(fine, name, f"be at least {bound} and finite", value)


def check_between(
    name: str, value: float, low: float, high: float, what: str = ""
) -> None:
    """Checks both bounds. `what` may say what the upper bound is."""
    fine = _is_number(value) and low <= value <= high
    end = f"{high}, {what}" if what else f"{high}"
    require(fine, name, f"be between {low} and {end}", value)


def check_count(name: str, value: int, bound: int) -> None:
    check_at_least(name, value, bound)
    require(is_integer(value), name, "be an integer", value)


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
    whole = all(is_integer(size) and size >= bound for size in sizes)
    fine = sizes and whole and len(sizes) == (axes or len(sizes))
    require(fine, name, rule, sizes if isinstance(value, list) else value)
    return sizes


def check_key(key: Any) -> None:
    # Keys of `jax.random.PRNGKey` are arrays of unsigned integers.
    if str(getattr(key, "dtype", None)).startswith(("key<", "uint32")):
        return
    rule = "a key, such as `jax.random.key(0)`"
    if isinstance(key, numbers.Integral):
        rule = f"`jax.random.key({key})`"
    require(False, "key", f"be {rule}", key)


def check_even(name: str, value: int, why: str) -> None:
    fine = is_integer(value) and value >= 2 and value % 2 == 0
    require(fine, name, f"be even and positive, {why}", value)


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    fine = isinstance(value, str) and value in choices
    require(fine, name, f"be one of {', '.join(map(repr, choices))}", value)


def check_kind(name: str, value: object, kind: type, cure: str) -> None:
    if inspect.isroutine(value) or inspect.isclass(value):
        cure = f"Call it: `{value.__name__}(...)`."
    require(isinstance(value, kind), name, f"be {_with_article(kind)}", value, cure)


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
    # NumPy's scalars are numbers, too, and `repr` would show their type.
    if isinstance(value, numbers.Real | str | tuple):
        shown = repr(value) if isinstance(value, str | tuple) else str(value)
        # A long value would hide the rule of a message.
        return shown if len(shown) <= 42 else f"{shown[:41]}...{shown[-1]}"
    if getattr(value, "ndim", 0):
        return f"an array of shape {value.shape}"
    return _with_article(type(value))


def _with_article(kind):
    name = kind.__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
