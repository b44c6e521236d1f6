"""Expands a bias by distance inside of a kernel, without lookups.

Consecutive queries `i` and keys `j` have a bias that depends on `j - i` alone. A kernel
is given a strip, `[heads, 1, q + k]`: place `x` has the bias of `j - i = x - q`. XLA
evaluates the bias once for each distance, and differentiates it as a function of
`q + k` numbers.

A tile reads `block_q + block_k` places of the strip, its window. Row `r` of the tile is
the window, `r` places further to the right. 128 rows are expanded by rotations. Every
further 128 rows are the same numbers, 128 lanes further, and a slice that starts at
whole lanes costs nothing.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float


# The rows that are expanded, and the lanes of a register.
ROWS = 128
# The number of places that one step expands or folds.
_CHUNK = 512


def expand(window: Float[Array, "1 places"]) -> Float[Array, "128 places"]:
    """Row `s` has at `y` what the window has at `y + 128 - s`."""
    rows = pltpu.roll(window, window.shape[1] - ROWS, 1)
    # Each step doubles the number of rows.
    while rows.shape[0] < ROWS:
        rows = jnp.concatenate([rows, pltpu.roll(rows, rows.shape[0], 1)], axis=0)
    return rows


def fold(sums: Float[Array, "128 places"]) -> Float[Array, "1 places"]:
    """The transpose of `expand`: shifts row `s` back by `s - 128`, and sums rows."""
    places, rows = sums.shape[1], ROWS
    while rows > 8:
        rows //= 2
        sums = sums[:rows] + pltpu.roll(sums[rows : 2 * rows], places - rows, 1)
    # A register has eight rows, which later steps shift within.
    back = pltpu.roll(sums, ROWS, 1)
    while rows > 1:
        rows //= 2
        back = back[:rows] + pltpu.roll(back[rows : 2 * rows], places - rows, 1)
    return back


def starts(block_q: int) -> list[int]:
    """The places in the expanded window where each 128 rows of a tile begin."""
    return [block_q - ROWS * (g + 1) for g in range(block_q // ROWS)]


def plus_tile(
    logits: Float[Array, "q k"], part: Callable[[int], Float[Array, "128 k"]]
) -> Float[Array, "q k"]:
    """The logits of a tile with their bias; `part` gives the rows that begin at a
    place."""
    rows = [
        logits[ROWS * g : ROWS * (g + 1)] + part(start)
        for g, start in enumerate(starts(logits.shape[0]))
    ]
    return jnp.concatenate(rows, axis=0)


def expand_all(strip: Any, expanded: Any) -> None:
    """Expands a strip, a reference to `[1, places]`, into one to `[128, places]`."""

    def step(start, size):
        # The rotations wrap around in the last 128 places. The next chunk has them, and
        # no tile reads them after the last chunk.
        some = expand(strip[:, pl.ds(start, size + ROWS)])
        expanded[:, pl.ds(start, size)] = some[:, :size]

    _in_chunks(strip.shape[1] - ROWS, step)


def fold_all(sums: Any, strip: Any) -> None:
    """Adds the diagonals of sums, a reference to `[128, places]`, to one to
    `[1, places]`."""

    def step(start, size):
        zeros = jnp.zeros((ROWS, ROWS), jnp.float32)
        some = jnp.concatenate([sums[:, pl.ds(start, size)], zeros], axis=1)
        strip[:, pl.ds(start, size + ROWS)] += fold(some)

    _in_chunks(sums.shape[1] - ROWS, step)


def _in_chunks(places, step):
    whole, rest = divmod(places, _CHUNK)

    def of_chunk(c, carry):
        step(c * _CHUNK, _CHUNK)
        return carry

    if whole:
        jax.lax.fori_loop(0, whole, of_chunk, 0)
    if rest:
        step(whole * _CHUNK, rest)
