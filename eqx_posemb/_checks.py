"""Rules that many settings share, checked when a module is built."""

import math


def check_positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"`{name}` must be positive and finite, but got {value}.")


def check_at_least(name: str, value: float, bound: float) -> None:
    if not (value >= bound and math.isfinite(value)):
        raise ValueError(
            f"`{name}` must be at least {bound} and finite, but got {value}."
        )


def check_even(name: str, value: int, why: str) -> None:
    if value < 2 or value % 2:
        raise ValueError(f"`{name}` must be even and positive, {why}, but got {value}.")


def check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        known = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"`{name}` must be one of {known}, but got {value!r}.")
