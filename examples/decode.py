"""Decoding with a rolling cache, by any embedding of text.

The cache has a fixed size and holds the last tokens in any order. A new token
overwrites the oldest, and positions state the order. A step costs one pass over the
cache at every length of the text. Keys are rotated once, when they are written.

    pip install -e .
    python examples/decode.py
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

import eqx_posemb as pe


class Cache(NamedTuple):
    k: Float[Array, "kv_heads size dim"]
    v: Float[Array, "kv_heads size dim"]
    positions: Int[Array, " size"]


def empty(kv_heads: int, size: int, dim: int) -> Cache:
    """An empty cache, whose positions lie before every window."""
    zeros = jnp.zeros((kv_heads, size, dim))
    return Cache(zeros, zeros, jnp.full(size, -size))


def step(
    embedding: pe.PositionalEmbedding,
    cache: Cache,
    q: Float[Array, "heads dim"],
    k: Float[Array, "kv_heads dim"],
    v: Float[Array, "kv_heads dim"],
    position: Int[Array, ""],
) -> tuple[Cache, Float[Array, "heads dim"]]:
    """Writes a token into the cache, and attends from it to all that is there.

    A schedule that reads the length, such as dynamic NTK, rotates old keys again as the
    text grows. In this case cache keys before rotation, and let `attend` rotate them.
    """
    q, k, here = q[:, None], k[:, None], position[None]
    if isinstance(embedding.rotary, pe.abstract.AbstractRotary):
        turn = embedding.rotary(here)
        q, k = jax.vmap(turn.queries)(q), jax.vmap(turn.keys)(k)
        embedding = eqx.tree_at(lambda e: e.rotary, embedding, None)
    size = cache.positions.size
    slot = position % size
    cache = Cache(
        cache.k.at[:, slot].set(k[:, 0]),
        cache.v.at[:, slot].set(v),
        cache.positions.at[slot].set(position),
    )
    out = embedding.attend(
        q, cache.k, cache.v, here, cache.positions, causal=True, window=size
    )
    return cache, out[:, 0]


def main() -> None:
    heads, kv_heads, dim, length, size = 4, 2, 16, 40, 16
    keys = jr.split(jr.key(0), 3)
    q = jr.normal(keys[0], (heads, length, dim))
    k, v = (jr.normal(key, (kv_heads, length, dim)) for key in keys[1:])
    p = jnp.arange(length)
    for name in "rope", "alibi", "t5", "transformer_xl":
        embedding = pe.make(
            name,
            heads=heads,
            head_dim=dim,
            dim=heads * dim,
            length=length,
            key=jr.key(1),
        )

        @jax.jit
        def decode(q, k, v, embedding=embedding):
            each = *(jnp.moveaxis(x, 1, 0) for x in (q, k, v)), p
            one = lambda cache, token: step(embedding, cache, *token)
            _, out = jax.lax.scan(one, empty(kv_heads, size, dim), each)
            return jnp.moveaxis(out, 0, 1)

        @jax.jit
        def attend(q, k, v, embedding=embedding):
            return embedding.attend(q, k, v, p, p, causal=True, window=size)

        error = jnp.abs(decode(q, k, v) - attend(q, k, v)).max()
        print(f"{name}: token by token is the whole, within {error:.1e}")
        assert error < 1e-5


if __name__ == "__main__":
    main()
