"""The blocks of arrays that a step of a grid reads and writes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
from jax.experimental import pallas as pl

from .._tiling import Given
from ._tiles import Tiles


@dataclass(frozen=True)
class Blocks:
    """The blocks of the tile that a step of a grid computes."""

    tiles: Tiles
    at: Callable
    """The head of queries, the head of keys, the row and the column of a step."""

    def queries(self, x) -> Any:
        """The block of an array `[heads, q, features]`."""
        shape = None, self.tiles.q, x.shape[-1]
        return self._of(shape, lambda h, of_k, i, j: (h, i, 0))

    def keys(self, x) -> Any:
        """The block of an array `[kv_heads, k, features]`."""
        shape = None, self.tiles.k, x.shape[-1]
        return self._of(shape, lambda h, of_k, i, j: (of_k, j, 0))

    @property
    def numbers(self) -> Any:
        """The block of an array `[heads, 1, q]`."""
        return self._of((None, 1, self.tiles.q), lambda h, of_k, i, j: (h, 0, i))

    def head(self, x) -> Any:
        """The block of an array with all entries of a head of queries."""
        return self._of((None, *x.shape[1:]), lambda h, of_k, i, j: (h, 0, 0))

    def seeds(self, d_out) -> Any:
        """The blocks of the cotangents and of the numbers that they come with."""
        return self.queries(d_out), self.numbers, self.numbers

    def given(self, given: Given, transposed=False) -> Given:
        """The blocks of the inputs. Transposed, the strip is read backwards."""
        tiles, (q, k, v, ids, strip, band) = self.tiles, given
        of_ids = [
            self._of((1, tiles.q), lambda h, of_k, i, j: (0, i)),
            self._of((1, tiles.k), lambda h, of_k, i, j: (0, j)),
        ]
        # Windows of neighboring tiles overlap, so they are indexed by element.
        squeezed, window = pl.Squeezed(), pl.Element(tiles.q + tiles.k)
        place = lambda i, j: 0 if tiles.kept else tiles.first_place(i, j, transposed)
        of_strip = self._of(
            (None, 1, tiles.places)
            if tiles.kept
            else (squeezed, pl.Element(1), window),
            lambda h, of_k, i, j: (h, 0, place(i, j)),
        )
        of_band = []
        if band:
            x, vectors, _ = band
            # Heads may share the vectors.
            of_vectors = lambda h: h if vectors.shape[0] > 1 else 0
            of_band = [
                self.queries(x),
                self._of(
                    (squeezed, window, pl.Element(x.shape[-1])),
                    lambda h, of_k, i, j: (of_vectors(h), tiles.first_place(i, j), 0),
                ),
                self._of((None, 1, tiles.k), lambda h, of_k, i, j: (h, 0, j)),
            ]
        tokens = self.queries(q), self.keys(k), self.keys(v)
        return Given(*tokens, of_ids[: len(ids)], [of_strip] * len(strip), of_band)

    def _of(self, shape, index) -> Any:
        return pl.BlockSpec(shape, lambda *grid: index(*self.at(*grid)))


def by_rows(tiles: Tiles, given: Given) -> Blocks:
    """The blocks of a grid of heads, rows and columns."""
    group = given.q.shape[0] // given.k.shape[0]

    def at(h, i, j, offset):
        return h, jax.lax.div(h, group), i, tiles.needed_key(i, j, offset)

    return Blocks(tiles, at)
