"""The tiles of a TPU: their logits, and the strip in the memory of a core."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float

from .._sizes import keeps
from .._tiling import (
    AbstractTiling,
    every,
    Given,
    in_32_bits,
    LOG2_E,
    OF_FEATURES,
    product,
)
from ._band import band_of
from ._strip import expand, expand_all, fold, plus_tile, ROWS, starts


LANES = 128
# The memory of a core that a kernel may use.
_MEMORY = 64 * 2**20


@dataclass(frozen=True)
class Tiles(AbstractTiling):
    """Tiles whose strip is expanded in the memory of a core."""

    keep: bool = True
    """Whether the expanded strip of a head may stay in the memory of the core."""

    @property
    def kept(self) -> bool:
        return self.bias and self.keep and keeps(self.places)

    def each(self, i, j, offset, tile: Callable[[bool], None]) -> None:
        """Calls `tile(masked)` if a key of the tile is unmasked."""
        some, whole = self.unmasked(i, j, offset)
        if self.counts[1] % self.k:
            whole.append((j + 1) * self.k <= self.counts[1])
        # Whether ids mask a pair is known only once they are compared.
        if self.segments:
            return _when(some, lambda: tile(True))
        # Most tiles need no mask, whose iotas and selects would take vector operations.
        _when([*some, *whole], lambda: tile(False))
        if whole:
            _when([*some, ~every(whole)], lambda: tile(True))

    # The logits of a tile

    def logits(
        self, given: Given, window, i, j, offset, masked, transposed=False
    ) -> tuple[Float[Array, "a b"], Float[Array, "a b"] | None]:
        """Logits in base 2, queries by keys or keys by queries, and the slope of a soft
        cap."""
        a, b = (given.k, given.q) if transposed else (given.q, given.k)
        # The exponential of the hardware has base 2, so one factor serves both scales.
        logits = product(a[...], b[...], OF_FEATURES) * (self.scale * LOG2_E)
        if self.bias:
            logits = plus_tile(logits, self._bias(window, i, j, logits.shape[1]))
        if given.band:
            shape = logits.shape[::-1] if transposed else logits.shape
            score = band_of(shape, *given.band)
            logits += jnp.transpose(score) if transposed else score
        logits, slope = self.capped(logits)
        if not masked:
            return logits, slope
        same = []
        if self.segments:
            # Ids are rows of lanes. The ids along the first axis become a column.
            down, along = reversed(given.ids) if transposed else given.ids
            wide = as_columns(down[...], logits.shape[1])
            same.append(wide == along[...])
        return self.masked(logits, i, j, offset, same, transposed), slope

    def _bias(self, window, i, j, size):
        if self.kept:
            first = self.first_place(i, j)
            return lambda start: window[1][:, pl.ds(first + start, size)]
        # A strip that is not kept is expanded for each tile.
        expanded = expand(window[0][...])
        return lambda start: expanded[:, start : start + size]

    # The strip

    def first_place(self, i, j, transposed=False):
        """The place in the strip where the window of a tile begins, a multiple of the
        lanes. Transposed, the strip is read backwards: place `x` is at `q + k - x`."""
        a, a_size, count, b, b_size = i, self.q, self.padded[0], j, self.k
        if transposed:
            a, a_size, count, b, b_size = j, self.k, self.padded[1], i, self.q
        # The last factor shows the compiler that the place is a multiple of the lanes.
        lanes = lambda size: size // LANES
        return (b * lanes(b_size) - (a + 1) * lanes(a_size) + lanes(count)) * LANES

    def expanded(self) -> Any:
        """Memory for an expanded strip, or for an expanded window."""
        places = self.places if self.kept else self.q + self.k
        return pltpu.VMEM((ROWS, places), jnp.float32)

    def start_strip(self, window, first) -> None:
        """Expands the strip of a head, where it is kept."""
        if self.kept:
            pl.when(first)(lambda: expand_all(*window))

    def add_to_strip(self, d_strip, scratch, by_logits, i, j) -> None:
        """Adds a tile to the gradient of the strip.

        128 rows share a slice, so diagonals are summed as 128 partial sums. `fold` adds
        them up: at the end for a strip that is kept, and else after each tile.
        """
        first = self.first_place(i, j)
        if not self.kept:
            scratch[...] = jnp.zeros_like(scratch)
        for g, start in enumerate(starts(self.q)):
            here = pl.ds((first if self.kept else 0) + start, self.k)
            scratch[:, here] += by_logits[ROWS * g : ROWS * (g + 1)]
        if not self.kept:
            d_strip[:, pl.ds(first, self.q + self.k)] += fold(scratch[...])

    def call(self, name, kernel, order, in_specs, out_specs, out_shape, scratch):
        """A kernel over a grid. `order` has its axes, each with a size and whether
        steps along it are independent."""
        # Two cores of a chip may share the independent steps.
        semantics: list[Any] = [
            "parallel" if free else "arbitrary" for _, free in order
        ]
        call = pl.pallas_call(
            partial(kernel, self),
            grid_spec=pltpu.PrefetchScalarGridSpec(
                num_scalar_prefetch=1,
                grid=tuple(size for size, _ in order),
                in_specs=in_specs,
                out_specs=out_specs,
                scratch_shapes=scratch,
            ),
            out_shape=out_shape,
            name=name,
            interpret=self.interpret,
            compiler_params=pltpu.CompilerParams(
                dimension_semantics=tuple(semantics), vmem_limit_bytes=_MEMORY
            ),
        )
        return in_32_bits(call)


def as_columns(row, count):
    """A row `[1, n]` as columns `[n, count]`, which are all the same."""
    column = jnp.transpose(jnp.broadcast_to(row, (LANES, row.shape[1])))
    return over_lanes(column, count)


def over_lanes(column, count):
    """Repeats a column that is the same in all lanes to `count` lanes."""
    if count <= LANES:
        return column[:, :count]
    if count % LANES:
        return jnp.broadcast_to(column[:, :1], (column.shape[0], count))
    return jnp.concatenate([column] * (count // LANES), axis=1)


def _when(conditions, function):
    if not conditions:
        return function()
    pl.when(every(conditions))(function)
