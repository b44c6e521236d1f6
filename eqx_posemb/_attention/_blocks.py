"""Attention cut into blocks of queries and of keys, and loops over their tiles."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from .._phase import computing_dtype
from ._logits import Logits, Tokens
from ._plan import plan
from ._visible import Rules


class Tile(eqx.Module):
    """All that a tile of attention is computed from; or blocks of it, along a first
    axis of every array but those of `logits`.

    Keys and values have tokens last. So matrix products, the transposed ones of the
    backward pass too, read the large matrix of weights in the order that it is in.
    """

    logits: Logits
    q: Float[Array, "*rows heads size dim"]
    k: Float[Array, "*columns kv_heads dim size"]
    v: Float[Array, "*columns v_heads dim_v size"]
    q_tokens: Tokens
    k_tokens: Tokens

    def biases(self) -> Float[Array, "heads q k"] | None:
        """What the bias adds to the logits."""
        return self.logits.biases(self.q_tokens, self.k_tokens)

    def finished(
        self,
        products: Float[Array, "heads q k"],
        biases: Float[Array, "heads q k"] | None,
    ) -> Float[Array, "heads q k"]:
        """The logits, given products of queries and keys, and biases."""
        return self.logits.finished(products, biases, self.q_tokens, self.k_tokens)

    def at(self, i: Int[Array, ""], j: Int[Array, ""]) -> "Tile":
        """Of blocks, a tile."""
        return Tile(
            self.logits,
            block(self.q, i),
            block(self.k, j),
            block(self.v, j),
            block(self.q_tokens, i),
            block(self.k_tokens, j),
        )

    def plus(self, i: Int[Array, ""], j: Int[Array, ""], tile: "Tile") -> "Tile":
        """Of blocks, with something added to a tile."""
        return Tile(
            jax.tree.map(lambda x, y: x + y.astype(x.dtype), self.logits, tile.logits),
            add(self.q, i, tile.q),
            add(self.k, j, tile.k),
            add(self.v, j, tile.v),
            add(self.q_tokens, i, tile.q_tokens),
            add(self.k_tokens, j, tile.k_tokens),
        )


class Blocks(eqx.Module):
    """Attention cut into blocks of queries and of keys."""

    whole: Tile
    rules: Rules
    q_count: int = eqx.field(static=True)
    k_count: int = eqx.field(static=True)
    relative: bool = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of tokens in a block."""
        return self.whole.v.shape[-1]

    def seen(self, i: Int[Array, ""], j: Int[Array, ""]) -> Bool[Array, "..."]:
        """Which keys of a tile its queries see, for all heads or for each."""
        rules = self.rules
        tile = Rules(
            block(block(rules.mask, i), j),
            block(rules.q_segments, i),
            block(rules.k_segments, j),
            rules.causal,
            rules.reach,
        )
        q_positions = block(self.whole.q_tokens.positions, i)
        seen = tile.seen(q_positions, block(self.whole.k_tokens.positions, j))
        seen = seen if seen.ndim == 3 else seen[None]
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
        """Goes over all tiles of which something is seen, in groups that have the same
        bias.

        **Arguments:**

        - `group`: what to do for a group, given the row and column of its first tile;
            a function `over(tile, carry)`, which goes over its tiles by
            `carry = tile(row, column, masked, carry)`, where `masked` is whether there
            may be keys in it that are not seen; and the carry. Returns the next one.
        - `carry`: the first one.

        **Returns:** the last one.
        """
        tiles = plan(
            self.whole.q_tokens.positions,
            self.whole.k_tokens.positions,
            self.rules,
            q_count=self.q_count,
            k_count=self.k_count,
            relative=self.relative,
        )
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
                carry = jax.lax.fori_loop(first, split, at(False), carry)
                if masks:
                    carry = jax.lax.fori_loop(split, end, at(True), carry)
                return carry

            return group(tiles.rows[first], tiles.columns[first], over, carry)

        return jax.lax.fori_loop(0, tiles.groups, of_group, carry)

    def zeros(self, *shape: int) -> Float[Array, "..."]:
        """Zeros to sum into, which vary over the same mesh axes as everything here."""
        return jnp.zeros_like(self.whole.v, shape=shape)


def into_blocks(
    logits: Logits,
    q: Float[Array, "heads q dim"],
    k: Float[Array, "kv_heads k dim"],
    q_tokens: Tokens,
    k_tokens: Tokens,
    v: Float[Array, "v_heads k dim_v"],
    rules: Rules,
    *,
    size: int,
    relative: bool,
) -> Blocks:
    """Cuts all arrays that have an axis of tokens, and casts to what is computed in.

    `relative` says that the bias depends on distances alone, so that tiles of the same
    distances share it.
    """
    dtype = jnp.promote_types(computing_dtype(q.dtype), computing_dtype(v.dtype))

    def tokens(x):
        content = None if x.content is None else cut(x.content, size, 1)
        state = jax.tree.map(lambda leaf: cut(leaf, size), x.state)
        return Tokens(content, cut(x.positions, size), state)

    q, k, v = (cut(x.astype(dtype), size, 1) for x in (q, k, v))
    mask = rules.mask
    if mask is not None:
        by_row = cut(mask, size, mask.ndim - 2)
        mask = jnp.moveaxis(cut(by_row, size, mask.ndim), 0, 1)
    q_segments, k_segments = rules.q_segments, rules.k_segments
    if q_segments is not None and k_segments is not None:
        q_segments, k_segments = cut(q_segments, size), cut(k_segments, size)
    blocks = Blocks(
        Tile(
            logits,
            q,
            jnp.swapaxes(k, -1, -2),
            jnp.swapaxes(v, -1, -2),
            tokens(q_tokens),
            tokens(k_tokens),
        ),
        Rules(mask, q_segments, k_segments, rules.causal, rules.reach),
        q_tokens.positions.shape[0],
        k_tokens.positions.shape[0],
        relative,
    )
    # Under `shard_map`, parameters are the same on all devices and tokens are not, and
    # loops want arrays of one kind. A zero that varies over the mesh as anything here
    # does makes them so; the gradient of that sums over devices.
    zero = _zero_of(blocks)
    return _each_array(lambda x: x + zero.astype(x.dtype), blocks)


def cut(x: Array, size: int, axis: int = 0) -> Array:
    """Cuts an axis into blocks, which become the first axis; repeats the last entry to
    fill the last block."""
    missing = -x.shape[axis] % size
    if missing:
        widths = [(0, missing if i == axis else 0) for i in range(x.ndim)]
        x = jnp.pad(x, widths, mode="edge")
    parts = x.reshape(*x.shape[:axis], -1, size, *x.shape[axis + 1 :])
    return jnp.moveaxis(parts, axis, 0)


def block(tree: Any, i: Int[Array, ""]) -> Any:
    """Block `i` of every array of a pytree."""
    take = lambda x: jax.lax.dynamic_index_in_dim(x, i, keepdims=False)
    return _each_array(take, tree)


def put(tree: Any, i: Int[Array, ""], part: Any) -> Any:
    """The pytree with block `i` of every array replaced."""
    put = lambda x, y: jax.lax.dynamic_update_index_in_dim(x, y, i, 0)
    return jax.tree.map(put, tree, part)


def add(tree: Any, i: Int[Array, ""], part: Any) -> Any:
    """The pytree with something added to block `i` of every array."""
    plus = lambda x, y: block(x, i) + y.astype(x.dtype)
    return put(tree, i, jax.tree.map(plus, tree, part))


def _each_array(function, tree):
    return jax.tree.map(lambda x: function(x) if eqx.is_array(x) else x, tree)


def _zero_of(tree):
    arrays = [leaf for leaf in jax.tree.leaves(tree) if eqx.is_array(leaf)]
    return jnp.stack([jnp.zeros_like(x, shape=(), dtype=bool) for x in arrays]).any()
