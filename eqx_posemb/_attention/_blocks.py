"""Blocks of queries and of keys, and loops over the tiles that they form."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._given import Consecutive
from .._spread import ByDistance
from ._band import Band, into_band
from ._inputs import each_array, Inputs
from ._logits import Prepared
from ._plan import plan


class Blocks(Inputs):
    """The inputs of attention, padded to whole blocks of queries and of keys, or of one
    tile."""

    band: Band | None
    """A score by distance, which replaces the score of the logits."""
    # XLA slices arrays at dynamic starts but by static sizes.
    size: int = eqx.field(static=True)
    # The counts before the padding tell at trace time whether tiles need a mask for the
    # padding.
    q_count: int = eqx.field(static=True)
    k_count: int = eqx.field(static=True)

    def prepared(self) -> Prepared:
        """The terms of the logits that read positions and no content."""
        return self.logits.prepared(self.q_tokens, self.k_tokens)

    def finished(
        self,
        products: Float[Array, "heads q k"],
        prepared: Prepared,
    ) -> Float[Array, "heads q k"]:
        """The logits of the tile, from the products of its queries and keys."""
        tokens = self.q_tokens, self.k_tokens
        return self.logits.finished(products, prepared, *tokens, self.band)

    def at(self, i: Int[Array, ""], j: Int[Array, ""]) -> "Blocks":
        """The tile of query block `i` and key block `j`."""
        tile = self.each(partial(_slice, self.size, i), partial(_slice, self.size, j))
        band = self.band and self.band.at(self.size, i, j)
        return dataclasses.replace(tile, band=band)

    def plus(self, i: Int[Array, ""], j: Int[Array, ""], tile: "Blocks") -> "Blocks":
        """The whole with `tile` added to the tile of blocks `i` and `j`."""
        of_q, of_k = partial(_add, self.size, i), partial(_add, self.size, j)
        # The sum stays in the dtype of the whole, since the carry of a loop must not
        # change its dtype.
        plus = lambda x, y: x + y.astype(x.dtype)
        logits = jax.tree.map(plus, self.logits, tile.logits)
        band = self.band
        if band is not None and tile.band is not None:
            band = band.plus(self.size, i, j, tile.band)
        whole = self.each(of_q, of_k, tile)
        return dataclasses.replace(whole, logits=logits, band=band)

    def seen(self, i: Int[Array, ""], j: Int[Array, ""]) -> Bool[Array, "..."]:
        """The mask of a tile, `[1 or heads, q, k]`: True where a query attends."""
        tile = self.at(i, j)
        seen = tile.rules.seen(tile.q_tokens.compared, tile.k_tokens.compared)
        seen = seen if seen.ndim == 3 else seen[None]
        # The last block repeats its last token, which no other rule masks.
        within = jnp.arange(self.size, dtype=jnp.int32)
        if self.q_count % self.size:
            seen &= (i * self.size + within < self.q_count)[None, :, None]
        if self.k_count % self.size:
            seen &= (j * self.size + within < self.k_count)[None, None]
        return seen

    def sweep(
        self,
        group: Callable[[Int[Array, ""], Int[Array, ""], Callable, PyTree], PyTree],
        carry: PyTree,
    ) -> PyTree:
        """Visits all tiles that are not fully masked, in groups that share prepared
        arrays.

        **Arguments:**

        - `group`: a function of the row and column of the first tile of a group, a
            function `over(tile, carry)`, and the carry. It returns the next carry.
            `over` visits the tiles of the group by `carry = tile(row, column, masked,
            carry)`, where `masked` states whether some keys of the tile may be masked.
        - `carry`: the first carry.

        **Returns:** the last carry.
        """
        tiles = plan(self, self.size, self.q_count, self.k_count)
        # A second loop for masked tiles spares the others the evaluation of the mask.
        padded = self.q_count % self.size or self.k_count % self.size
        masks = bool(padded) or self.rules.there

        def of_group(g, carry):
            first, end = tiles.starts[g], tiles.starts[g + 1]
            split = tiles.masked[g] if masks else end

            def over(tile, carry):
                at = lambda masked: (
                    lambda t, carry: tile(
                        tiles.rows[t], tiles.columns[t], masked, carry
                    )
                )
                # Unmasked tiles lead each group, so one index separates both loops.
                carry = jax.lax.fori_loop(first, split, at(False), carry)
                if masks:
                    carry = jax.lax.fori_loop(split, end, at(True), carry)
                return carry

            return group(tiles.rows[first], tiles.columns[first], over, carry)

        # Masks and positions are data, so the number of groups is known at run time
        # only.
        return jax.lax.fori_loop(0, tiles.groups, of_group, carry)

    def zeros(self, *shape: int) -> Float[Array, "..."]:
        """Zeros that vary over the same mesh axes as the inputs, to sum into."""
        return jnp.zeros_like(self.v, shape=shape)


def into_blocks(
    inputs: Inputs, size: int, by_distance: ByDistance | None = None
) -> Blocks:
    """Pads all arrays to whole blocks, and casts them to the dtype of the computation.

    `by_distance` replaces the score of the logits where positions are consecutive.
    """
    q_count, k_count = inputs.q.shape[1], inputs.k.shape[1]
    dtype, band = inputs.dtype, None
    if by_distance is not None:
        # The score has read content and states. Loops would carry them with gradients.
        unread = lambda tokens: dataclasses.replace(tokens, content=None, state=None)
        inputs = dataclasses.replace(
            inputs,
            logits=dataclasses.replace(inputs.logits, score=None),
            q_tokens=unread(inputs.q_tokens),
            k_tokens=unread(inputs.k_tokens),
        )
    # The rounding error of a bfloat16 sum grows with the number of keys, so the whole
    # computation is in at least float32.
    fill = partial(filled, size)
    inputs = inputs.astype(dtype).each(fill, fill)
    if by_distance is not None:
        # The band skips masked distances. Another order masks by no distance.
        ordered = inputs.q_tokens.order is None
        shown = inputs.rules if ordered else inputs.rules.unordered
        sizes = inputs.q.shape[1], inputs.k.shape[1], size
        band = into_band(by_distance, shown, *sizes)
        band = jax.tree.map(lambda x: x.astype(dtype), band)
    more = dict(band=band, size=size, q_count=q_count, k_count=k_count)
    fields: dict[str, Any] = vars(inputs) | more
    blocks = Blocks(**fields)
    # Under `shard_map`, parameters are equal on all devices and tokens are not, but the
    # carry of a loop must vary over the same axes. Adding a zero that varies over the
    # mesh has this effect, and its gradient sums over devices.
    arrays, rest = eqx.partition(blocks, eqx.is_array)
    zeros = [jnp.zeros_like(x, shape=(), dtype=bool) for x in jax.tree.leaves(arrays)]
    zero = jnp.stack(zeros).any()
    return eqx.combine(jax.tree.map(lambda x: x + zero.astype(x.dtype), arrays), rest)


def block(size: int, i: Int[Array, ""], tree: Any) -> Any:
    """Block `i` of every array."""
    return each_array(partial(_slice, size, i), tree)


def put(size: int, i: Int[Array, ""], tree: Any, part: Any) -> Any:
    """The pytree with block `i` of every array replaced."""
    return each_array(partial(_put, size, i), tree, part)


def add(size: int, i: Int[Array, ""], tree: Any, part: Any) -> Any:
    """The pytree with `part` added to block `i` of every array."""
    return each_array(partial(_add, size, i), tree, part)


def _put(size, i, axis, x, part) -> Any:
    return jax.lax.dynamic_update_slice_in_dim(x, part, i * size, axis)


def _add(size, i, axis, x, part) -> Any:
    # Consecutive positions are integers, so they have no gradient to write.
    if isinstance(x, Consecutive):
        return x
    here = _slice(size, i, axis, x)
    return _put(size, i, axis, x, here + part.astype(x.dtype))


def _slice(size, i, axis, x) -> Any:
    # A part of consecutive positions stays `Consecutive`, so relative biases keep their
    # fast form in a tile.
    if isinstance(x, Consecutive):
        return x.part(i * size, size)
    return jax.lax.dynamic_slice_in_dim(x, i * size, size, axis)


def filled(size, axis, x) -> Any:
    """The array with its last entry repeated to fill the last block."""
    count = x.length if isinstance(x, Consecutive) else x.shape[axis]
    # `jax.export` proves in this form that a padded symbolic size divides into blocks.
    missing = -(-count // size) * size - count
    if isinstance(missing, int) and not missing:
        return x
    if isinstance(x, Consecutive):
        # Further consecutive positions might exceed a table, and raise.
        x, axis = jnp.asarray(x), 0
    widths = [(0, missing if i == axis % x.ndim else 0) for i in range(x.ndim)]
    # Repeated positions stay within a table and within the extremes of their block.
    # Zeros might be outside of both.
    return jnp.pad(x, widths, mode="edge")
