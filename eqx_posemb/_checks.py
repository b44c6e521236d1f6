"""Rules that many settings share, checked when a module is built."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Shaped


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


def check_sequence(name: str, positions: Shaped[Array, "..."], why: str) -> None:
    if positions.ndim != 1:
        raise ValueError(
            f"`{name}` must have shape [seq], {why}, but got {positions.shape}. Use "
            "`jax.vmap` over a batch."
        )


def check_positions(name: str, positions: Shaped[Array, "..."]) -> None:
    if positions.ndim not in (1, 2):
        raise ValueError(
            f"`{name}` must have shape [seq] or [seq, axes], but got "
            f"{positions.shape}. Use `jax.vmap` over a batch."
        )


def check_grid(name: str, positions: Shaped[Array, "..."], axes: int) -> None:
    if positions.ndim != 2 or positions.shape[1] != axes:
        raise ValueError(
            f"`{name}` must have shape [seq, axes] with {axes} axes, but got shape "
            f"{positions.shape}. `eqx_posemb.grid_positions` lists those of a grid."
        )


def check_integers(name: str, positions: Shaped[Array, "..."], why: str) -> None:
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ValueError(
            f"`{name}` must be integers, {why}, but got {positions.dtype}. Use "
            "`jnp.int32`."
        )
