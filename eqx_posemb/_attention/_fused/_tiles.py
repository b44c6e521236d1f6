"""The tiles of a kernel: which tiles are computed, and the logits of a tile."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from ._strip import expand, expand_all, fold, plus_tile, ROWS, starts


LANES = 128
LOG2_E = 1.4426950408889634
_LARGEST = float(jnp.finfo(jnp.float32).max)
# Masked logits are below the start of the running maximum. A fully masked query then
# has weights of zero, and no infinity appears.
MASKED, START = -0.95 * _LARGEST, -0.9 * _LARGEST
# The dimensions of products: over channels, and over tokens.
OF_FEATURES = (((1,), (1,)), ((), ()))
OF_TOKENS = (((1,), (0,)), ((), ()))
# The memory of a core that a kernel may use.
_MEMORY = 64 * 2**20


class Given(NamedTuple):
    """The inputs of a kernel."""

    offset: Int[Array, "1"]
    """The position of the first key minus the position of the first query."""
    q: Float[Array, "heads q dim"]
    """Queries padded to whole blocks, as keys and values are."""
    k: Float[Array, "kv_heads k dim"]
    v: Float[Array, "kv_heads k dim_v"]
    ids: list[Int[Array, "1 tokens"]]
    """The segments of queries and of keys, if there are any."""
    strip: list[Float[Array, "heads 1 places"]]
    """The bias of each distance, in base 2, or nothing."""


@dataclass(frozen=True)
class Tiles:
    """The tiling of attention, which is static."""

    scale: float
    soft_cap: float | None
    ahead: int | None
    """The largest distance of an unmasked key ahead of its query."""
    behind: int | None
    q_count: int
    k_count: int
    q: int
    """The queries of a tile."""
    k: int
    bias: bool
    """Whether there is a strip."""
    segments: bool
    keep: bool
    """Whether the expanded strip of a head stays in the memory of the core."""
    interpret: bool

    @property
    def rows(self) -> int:
        return -(-self.q_count // self.q)

    @property
    def columns(self) -> int:
        return -(-self.k_count // self.k)

    @property
    def kept(self) -> bool:
        return self.bias and self.keep

    @property
    def places(self) -> int:
        """The places of a strip: it has one for each distance of the padded tokens."""
        return self.rows * self.q + self.columns * self.k

    # Which tiles are computed

    def needed_key(self, i, j, offset):
        """The column, or the nearest column with an unmasked key.

        The pipeline copies no block whose index has not changed. Fully masked tiles
        therefore read nothing.
        """
        first, last = 0, self.columns - 1
        if self.ahead is not None:
            end = self.ahead - offset[0] + (i + 1) * self.q - 1
            last = jnp.minimum(jax.lax.div(jnp.maximum(end, 0), self.k), last)
        if self.behind is not None:
            start = i * self.q - self.behind - offset[0]
            first = jax.lax.div(jnp.maximum(start, 0), self.k)
        return jnp.minimum(jnp.maximum(j, first), last)

    def needed_query(self, i, j, offset):
        """The row, or the nearest row with a query that attends to the column."""
        first, last = 0, self.rows - 1
        if self.behind is not None:
            end = self.behind + offset[0] + (j + 1) * self.k - 1
            last = jnp.minimum(jax.lax.div(jnp.maximum(end, 0), self.q), last)
        if self.ahead is not None:
            start = j * self.k - self.ahead + offset[0]
            first = jax.lax.div(jnp.maximum(start, 0), self.q)
        return jnp.minimum(jnp.maximum(i, first), last)

    def each(self, i, j, offset, tile: Callable[[bool], None]) -> None:
        """Calls `tile(masked)` if a key of the tile is unmasked."""
        nearest = j * self.k - i * self.q + offset[0]
        lowest, highest = nearest - (self.q - 1), nearest + (self.k - 1)
        # Conditions for some pairs, and for every pair, to be unmasked.
        some, every = [], []
        if self.ahead is not None:
            some.append(lowest <= self.ahead)
            every.append(highest <= self.ahead)
        if self.behind is not None:
            some.append(highest >= -self.behind)
            every.append(lowest >= -self.behind)
        if self.k_count % self.k:
            every.append((j + 1) * self.k <= self.k_count)
        # Whether ids mask a pair is known only once they are compared.
        if self.segments:
            return _when(some, lambda: tile(True))
        # Most tiles need no mask, whose iotas and selects would take vector operations.
        _when([*some, *every], lambda: tile(False))
        if every:
            both = every[0]
            for condition in every[1:]:
                both &= condition
            _when([*some, ~both], lambda: tile(True))

    # The logits of a tile

    def logits(
        self, a, b, window, i, j, offset, ids, masked, transposed=False
    ) -> tuple[Float[Array, "a b"], Float[Array, "a b"] | None]:
        """Logits in base 2, queries by keys or keys by queries, and the slope of a soft
        cap."""
        # The exponential of the hardware has base 2, so one factor serves both scales.
        logits = product(a, b, OF_FEATURES) * (self.scale * LOG2_E)
        if self.bias:
            logits = plus_tile(logits, self._bias(window, i, j, logits.shape[1]))
        slope = None
        if self.soft_cap is not None:
            cap = self.soft_cap * LOG2_E
            bounded = jnp.tanh(logits / cap)
            logits, slope = cap * bounded, 1 - bounded * bounded
        if masked:
            seen = self._seen(logits.shape, i, j, offset, ids, transposed)
            logits = jnp.where(seen, logits, MASKED)
        return logits, slope

    def _bias(self, window, i, j, size):
        if self.kept:
            first = self.first_place(i, j)
            return lambda start: window[1][:, pl.ds(first + start, size)]
        # A strip that is not kept is expanded for each tile.
        expanded = expand(window[0][...])
        return lambda start: expanded[:, start : start + size]

    def _seen(self, shape, i, j, offset, ids, transposed):
        of_q, of_k = (1, 0) if transposed else (0, 1)
        iota = partial(jax.lax.broadcasted_iota, jnp.int32, shape)
        conditions = []
        nearest = j * self.k - i * self.q + offset[0]
        if self.ahead is not None:
            conditions.append(iota(of_k) - iota(of_q) <= self.ahead - nearest)
        if self.behind is not None:
            conditions.append(iota(of_k) - iota(of_q) >= -self.behind - nearest)
        if self.k_count % self.k:
            conditions.append(iota(of_k) < self.k_count - j * self.k)
        if self.segments:
            # Ids are rows of lanes. The ids along the first axis become a column.
            down, along = reversed(ids) if transposed else ids
            wide = over_lanes(as_column(down[...]), shape[1])
            conditions.append(wide == along[...])
        seen = conditions[0]
        for condition in conditions[1:]:
            seen &= condition
        return seen

    # The strip

    def first_place(self, i, j, transposed=False):
        """The place in the strip where the window of a tile begins, a multiple of the
        lanes. Transposed, the strip is read backwards: place `x` is at `q + k - x`."""
        a, a_size, count, b, b_size = i, self.q, self.rows * self.q, j, self.k
        if transposed:
            a, a_size, count, b, b_size = j, self.k, self.columns * self.k, i, self.q
        # The last factor shows the compiler that the place is a multiple of the lanes.
        lanes = lambda size: size // LANES
        return (b * lanes(b_size) - (a + 1) * lanes(a_size) + lanes(count)) * LANES

    def window(self, tile, transposed=False) -> list[pl.BlockSpec]:
        """The block of the strip that a tile reads, if there is a strip."""

        def index(*grid):
            h, i, j = tile(*grid)
            place = 0 if self.keep else self.first_place(i, j, transposed)
            return h, 0, place

        if not self.bias:
            return []
        if self.keep:
            return [pl.BlockSpec((None, 1, self.places), index)]
        # Windows of neighboring tiles overlap, so they are indexed by element.
        size = self.q + self.k
        shape = pl.Squeezed(), pl.Element(1), pl.Element(size)
        return [pl.BlockSpec(shape, index)]

    def expanded(self) -> Any:
        """Memory for an expanded strip, or for an expanded window."""
        places = self.places if self.keep else self.q + self.k
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
        if not self.keep:
            scratch[...] = jnp.zeros_like(scratch)
        for g, start in enumerate(starts(self.q)):
            here = pl.ds((first if self.keep else 0) + start, self.k)
            scratch[:, here] += by_logits[ROWS * g : ROWS * (g + 1)]
        if not self.keep:
            d_strip[:, pl.ds(first, self.q + self.k)] += fold(scratch[...])

    def call(self, name, kernel, order, in_specs, out_specs, out_shape, scratch):
        """A kernel over a grid. `order` has its axes, each with a size and whether
        steps along it are independent."""
        # Two cores of a chip may share the independent steps.
        semantics: list[Any] = [
            "parallel" if free else "arbitrary" for _, free in order
        ]
        return pl.pallas_call(
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


def product(a, b, dimensions):
    return jax.lax.dot_general(a, b, dimensions, preferred_element_type=jnp.float32)


def as_column(row):
    """A row `[1, n]` as a column, the same in all lanes."""
    return jnp.transpose(jnp.broadcast_to(row, (LANES, row.shape[1])))


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
    every = conditions[0]
    for condition in conditions[1:]:
        every &= condition
    pl.when(every)(function)
