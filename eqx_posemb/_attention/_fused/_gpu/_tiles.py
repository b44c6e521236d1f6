"""The tiles of a GPU."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plgpu

from .._tiling import (
    AbstractTiling,
    in_32_bits,
    LOG2_E,
    OF_FEATURES,
    product as product_of,
)


# Triton multiplies float32 in TF32 by default, with 10 bits of the mantissa.
product = partial(product_of, precision=jax.lax.Precision.HIGHEST)
# The blocks of keys in the memory of a core: one is copied while one is in use.
_STAGES = 2


@dataclass(frozen=True)
class Tiles(AbstractTiling):
    """Tiles of programs that each loop over a row, a column, or a diagonal of tiles."""

    def logits(self, q, k, given, h, i, j, offset, transposed=False):
        """Logits in base 2, queries by keys or keys by queries, and the slope of a soft
        cap."""
        ids = given.ids
        a, b = (k, q) if transposed else (q, k)
        logits = product(a, b, OF_FEATURES) * (self.scale * LOG2_E)
        for x in given.strip:
            logits += x[h, 0, self._places(i, j, transposed)]
        logits, slope = self.capped(logits)
        same = []
        if ids:
            q_ids, k_ids = ids[0][0, self.row(i)], ids[1][0, self.column(j)]
            down, along = (k_ids, q_ids) if transposed else (q_ids, k_ids)
            same.append(down[:, None] == along[None])
        return self.masked(logits, i, j, offset, same, transposed), slope

    def _places(self, i, j, transposed):
        """The place in the strip of each pair of a tile."""
        rows = i * self.q + jnp.arange(self.q)
        columns = j * self.k + jnp.arange(self.k) + self.padded[0]
        if transposed:
            return columns[:, None] - rows[None]
        return columns[None] - rows[:, None]

    def row(self, i):
        return pl.ds(i * self.q, self.q)

    def column(self, j):
        return pl.ds(j * self.k, self.k)

    def over_keys(self, i, offset, tile, start):
        """Calls `carry = tile(j, carry)` for each needed column of a row."""
        first, last = (self.needed_key(i, j, offset) for j in (0, self.columns - 1))
        return jax.lax.fori_loop(first, last + 1, tile, start)

    def over_queries(self, j, offset, tile, start):
        first, last = (self.needed_query(i, j, offset) for i in (0, self.rows - 1))
        return jax.lax.fori_loop(first, last + 1, tile, start)

    def call(self, name, kernel, grid, results, warps, *arguments):
        """A kernel over a grid. Its references are to whole arrays, since each program
        reads its own blocks of them."""
        call = pl.pallas_call(
            partial(kernel, self),
            grid=grid,
            out_shape=results,
            name=name,
            interpret=self.interpret,
            compiler_params=plgpu.CompilerParams(num_warps=warps, num_stages=_STAGES),
        )
        return in_32_bits(call)(*arguments)
