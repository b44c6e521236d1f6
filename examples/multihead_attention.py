"""Rotary embeddings inside `equinox.nn.MultiheadAttention`, by its `process_heads`.

A model with Equinox's attention layer can keep it. The hook of the layer gets queries
and keys as [seq, heads, dim], and `jax.vmap` maps a rotation over the heads. The result
equals `PositionalEmbedding.attend`, which also supports biases.

    pip install -e .
    python examples/multihead_attention.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int

import eqx_posemb as pe


SEQ, WIDTH, HEADS = 12, 32, 4


@eqx.filter_jit
def with_hook(
    attention: eqx.nn.MultiheadAttention,
    rotary: pe.Rotary,
    x: Float[Array, "seq width"],
    positions: Int[Array, " seq"],
    mask: Bool[Array, "seq seq"],
) -> Float[Array, "seq width"]:
    rotation = rotary(positions)

    def process_heads(q, k, v):
        over_heads = lambda turn: jax.vmap(turn, in_axes=1, out_axes=1)
        return over_heads(rotation.queries)(q), over_heads(rotation.keys)(k), v

    return attention(x, x, x, mask=mask, process_heads=process_heads)


@eqx.filter_jit
def with_attend(
    attention: eqx.nn.MultiheadAttention,
    embedding: pe.PositionalEmbedding,
    x: Float[Array, "seq width"],
    positions: Int[Array, " seq"],
) -> Float[Array, "seq width"]:
    def heads(projection):
        return jax.vmap(projection)(x).reshape(len(x), HEADS, -1).transpose(1, 0, 2)

    q, k, v = map(
        heads, (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    out = embedding.attend(q, k, v, positions, positions, causal=True)
    out = out.transpose(1, 0, 2).reshape(len(x), -1)
    return jax.vmap(attention.output_proj)(out)


def main() -> None:
    attention = eqx.nn.MultiheadAttention(HEADS, WIDTH, key=jr.key(0))
    x = jr.normal(jr.key(1), (SEQ, WIDTH))
    # Two texts packed into one sequence: positions begin again, and need no offset.
    positions = jnp.array([*range(7), *range(5)])
    text = jnp.array([0] * 7 + [1] * 5)
    mask = jnp.tri(SEQ, dtype=bool) & (text[:, None] == text[None, :])

    rotary = pe.rope(WIDTH // HEADS)
    packed = with_hook(attention, rotary, x, positions, mask)
    embedding = pe.PositionalEmbedding(rotary=rotary)
    alone = [with_attend(attention, embedding, y, jnp.arange(len(y)))
             for y in (x[:7], x[7:])]  # fmt: skip
    error = float(jnp.abs(packed - jnp.concatenate(alone)).max())
    print(f"the hook on packed texts, and `attend` on each: off by {error:.1e}")
    # Rounding of float32.
    assert error < 1e-6

    both = pe.PositionalEmbedding(rotary=rotary, bias=pe.ALiBi(HEADS))
    change = float(
        jnp.abs(with_attend(attention, both, x[:7], jnp.arange(7)) - alone[0]).max()
    )
    print(f"`attend` takes biases as well: ALiBi changes the output by {change:.2f}")
    assert change > 1e-3


if __name__ == "__main__":
    main()
