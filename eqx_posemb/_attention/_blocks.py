"""Blocks of queries and of keys, and loops over the tiles that they form."""

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
from ._inputs import Inputs
from ._logits import Logits, Prepared, Tokens
from ._plan import plan
from ._visible import Rules


class Tile(eqx.Module):
    """The inputs of one attention tile, or of the whole attention padded to a multiple
    of the block size."""

    logits: Logits
    q: Float[Array, "heads q dim"]
    k: Float[Array, "kv_heads k dim"]
    v: Float[Array, "v_heads k dim_v"]
    q_tokens: Tokens
    k_tokens: Tokens
    band: Band | None
    """A score by distance, which replaces the score of the logits."""
    # XLA slices arrays at dynamic starts but by static sizes.
    size: int = eqx.field(static=True)

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

    def at(self, i: Int[Array, ""], j: Int[Array, ""]) -> "Tile":
        """The tile of query block `i` and key block `j`."""
        of_q, of_k = partial(block, self.size, i), partial(block, self.size, j)
        q, k, v = of_q(self.q), of_k(self.k), of_k(self.v)
        q_tokens, k_tokens = of_q(self.q_tokens), of_k(self.k_tokens)
        band = None if self.band is None else self.band.at(self.size, i, j)
        return Tile(self.logits, q, k, v, q_tokens, k_tokens, band, self.size)

    def plus(self, i: Int[Array, ""], j: Int[Array, ""], tile: "Tile") -> "Tile":
        """The whole with `tile` added to the tile of blocks `i` and `j`."""
        # The sum stays in the dtype of the whole, since the carry of a loop must not
        # change its dtype.
        logits = jax.tree.map(
            lambda x, y: x + y.astype(x.dtype), self.logits, tile.logits
        )
        to_q, to_k = partial(add, self.size, i), partial(add, self.size, j)
        band = None
        if self.band is not None and tile.band is not None:
            band = self.band.plus(self.size, i, j, tile.band)
        return Tile(
            logits,
            to_q(self.q, tile.q),
            to_k(self.k, tile.k),
            to_k(self.v, tile.v),
            to_q(self.q_tokens, tile.q_tokens),
            to_k(self.k_tokens, tile.k_tokens),
            band,
            self.size,
        )


class Blocks(eqx.Module):
    """Attention in blocks of queries and of keys."""

    whole: Tile
    # Masks are padded as the tokens are, and each tile slices its own part.
    rules: Rules
    # The counts before the padding tell at trace time whether tiles need a mask for the
    # padding.
    q_count: int = eqx.field(static=True)
    k_count: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of tokens in a block."""
        return self.whole.size

    def seen(self, i: Int[Array, ""], j: Int[Array, ""]) -> Bool[Array, "..."]:
        """The mask of a tile, `[1 or heads, q, k]`: True where a query attends."""
        rules = self.rules
        of_q, of_k = partial(_slice, self.size, i), partial(_slice, self.size, j)
        mask, q_segments, k_segments = rules.mask, rules.q_segments, rules.k_segments
        tile = Rules(
            None if mask is None else of_k(-1, of_q(-2, mask)),
            None if q_segments is None else of_q(0, q_segments),
            None if k_segments is None else of_k(0, k_segments),
            rules.causal,
            rules.reach,
        )
        here = self.whole.at(i, j)
        seen = tile.seen(here.q_tokens.compared, here.k_tokens.compared)
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
        tiles = plan(
            self.whole.q_tokens,
            self.whole.k_tokens,
            self.rules,
            size=self.size,
            q_count=self.q_count,
            k_count=self.k_count,
            logits=self.whole.logits,
        )
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
        return jnp.zeros_like(self.whole.v, shape=shape)


def into_blocks(
    inputs: Inputs, size: int, by_distance: ByDistance | None = None
) -> Blocks:
    """Pads all arrays to whole blocks, and casts them to the dtype of the computation.

    `by_distance` replaces the score of the logits where positions are consecutive.
    """
    logits, q, k, v, rules = inputs.logits, inputs.q, inputs.k, inputs.v, inputs.rules
    q_tokens, k_tokens = inputs.q_tokens, inputs.k_tokens
    dtype = inputs.dtype
    counts = q.shape[1], k.shape[1]
    if by_distance is not None:
        # The score has read content and states. Loops would carry them with gradients.
        q_tokens, k_tokens = (
            Tokens(None, tokens.positions, None, tokens.order)
            for tokens in (q_tokens, k_tokens)
        )
    # The rounding error of a bfloat16 sum grows with the number of keys, so the whole
    # computation is in at least float32.
    q, k, v, q_tokens, k_tokens = (
        each_array(partial(filled, size), x)
        for x in (q.astype(dtype), k.astype(dtype), v.astype(dtype), q_tokens, k_tokens)
    )
    mask, q_segments, k_segments = rules.mask, rules.q_segments, rules.k_segments
    if mask is not None:
        mask = filled(size, -1, filled(size, -2, mask))
    if q_segments is not None and k_segments is not None:
        q_segments, k_segments = (filled(size, 0, x) for x in (q_segments, k_segments))
    band = None
    if by_distance is not None:
        logits = eqx.tree_at(lambda logits: logits.score, logits, None)
        # The band skips masked distances. Another order masks by no distance.
        shown = rules if q_tokens.order is None else rules.unordered
        band = into_band(by_distance, shown, q.shape[1], k.shape[1], size)
        band = jax.tree.map(lambda x: x.astype(dtype), band)
    blocks = Blocks(
        Tile(logits, q, k, v, q_tokens, k_tokens, band, size),
        Rules(mask, q_segments, k_segments, rules.causal, rules.reach),
        *counts,
    )
    # Under `shard_map`, parameters are equal on all devices and tokens are not, but the
    # carry of a loop must vary over the same axes. Adding a zero that varies over the
    # mesh has this effect, and its gradient sums over devices.
    arrays, rest = eqx.partition(blocks, eqx.is_array)
    zeros = [jnp.zeros_like(x, shape=(), dtype=bool) for x in jax.tree.leaves(arrays)]
    zero = jnp.stack(zeros).any()
    return eqx.combine(jax.tree.map(lambda x: x + zero.astype(x.dtype), arrays), rest)


def each_array(function: Callable[..., Array], tree: Any, *others: Any) -> Any:
    """Maps `function(axis, x, *y)` over the arrays of pytrees of equal structure.

    `axis` is the axis of tokens: 1 for arrays with heads, and 0 for positions, states
    and orders. Consecutive positions count as one array.
    """
    axes = jax.tree.map(lambda _: 1, tree)
    if isinstance(tree, Tokens):
        where = lambda tokens: (tokens.positions, tokens.state, tokens.order)
        first = jax.tree.map(lambda _: 0, where(tree))
        # An absent state is None, and counts as a leaf here so that `tree_at` can
        # address it.
        axes = eqx.tree_at(where, axes, first, is_leaf=lambda x: x is None)
    is_array = lambda x: isinstance(x, Consecutive)
    return jax.tree.map(function, axes, tree, *others, is_leaf=is_array)


def block(size: int, i: Int[Array, ""], tree: Any) -> Any:
    """Block `i` of every array."""
    return each_array(partial(_slice, size, i), tree)


def put(size: int, i: Int[Array, ""], tree: Any, part: Any) -> Any:
    """The pytree with block `i` of every array replaced."""

    def put(axis, x, y) -> Any:
        # Consecutive positions are integers, so they have no gradient to write.
        if isinstance(x, Consecutive):
            return x
        return jax.lax.dynamic_update_slice_in_dim(x, y, i * size, axis)

    return each_array(put, tree, part)


def add(size: int, i: Int[Array, ""], tree: Any, part: Any) -> Any:
    """The pytree with `part` added to block `i` of every array."""
    plus = lambda x, y: x + y.astype(x.dtype)
    return put(size, i, tree, jax.tree.map(plus, block(size, i, tree), part))


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
