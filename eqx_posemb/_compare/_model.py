"""A small decoder, whose order of tokens comes from its embedding alone."""

import dataclasses
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, DTypeLike, Float, Int, PRNGKeyArray

from .._bias._forgetting import ForgetGate, Forgetting
from .._bundle import PositionalEmbedding
from .._given import Positions
from .._placed import Placed
from .._rotary._wall import Wall
from ._settings import Settings


class Weights(eqx.Module):
    """All weights but the embedding. The arrays of blocks are stacked for a scan.

    A block is attention and a feed-forward network, each after a norm and around a
    bypass.
    """

    tokens: Float[Array, "vocabulary dim"]
    attention_norm: Float[Array, "depth dim"]
    attention: Float[Array, "depth dim three_dim"]
    mix: Float[Array, "depth dim dim"]
    network_norm: Float[Array, "depth dim"]
    widen: Float[Array, "depth dim wide"]
    narrow: Float[Array, "depth wide dim"]
    norm: Float[Array, " dim"]
    readout: Float[Array, "dim vocabulary"]
    gate: ForgetGate | None
    """The gate of each block, for an embedding whose positions are made of tokens."""


class Decoder(eqx.Module):
    """A language model with any positional embedding.

    Tokens are encoded once, at the input, and all blocks share the embedding and its
    parameters, as in T5. All other parts are permutation equivariant, since the causal
    mask compares positions. `forward` computes the logits.
    """

    embedding: PositionalEmbedding
    weights: Weights


class At(NamedTuple):
    """An embedding at all positions of a text: what a model needs of it."""

    encoding: Float[Array, "seq dim"]
    placed: Placed


def decoder(
    embedding: PositionalEmbedding,
    settings: Settings,
    vocabulary: int,
    key: PRNGKeyArray,
) -> Decoder:
    """The model before training. The same key gives the same weights around any
    embedding."""
    dim, depth = settings.dim, settings.depth
    # Weights are drawn in a fixed order, so all embeddings start from the same weights.
    keys = iter(jr.split(key, 7))

    def weights(*shape, size=1.0):
        return size * shape[-2] ** -0.5 * jr.normal(next(keys), shape)

    usual = (dim // settings.heads) ** -0.5
    # An embedding with a scale of its own (T5: 1) leaves the usual scale to the
    # weights, so that its first logits have the size of all other embeddings.
    own = usual if embedding.scale is None else embedding.scale
    # The sum of all branches is as large as the token itself, at any depth.
    small = (2 * depth) ** -0.5
    query = weights(depth, dim, dim, size=usual / own)
    gate_keys = jr.split(jr.fold_in(key, 7), depth)
    return Decoder(
        embedding,
        Weights(
            # Tokens have unit size, since sinusoids of size 0.7 are added to them.
            tokens=jr.normal(next(keys), (vocabulary, dim)),
            attention_norm=jnp.ones((depth, dim)),
            attention=jnp.concatenate([query, weights(depth, dim, 2 * dim)], axis=-1),
            mix=weights(depth, dim, dim, size=small),
            network_norm=jnp.ones((depth, dim)),
            widen=weights(depth, dim, 4 * dim),
            narrow=weights(depth, 4 * dim, dim, size=small),
            norm=jnp.ones(dim),
            readout=weights(dim, vocabulary),
            gate=eqx.filter_vmap(lambda key: _gate(embedding, dim, key))(gate_keys),
        ),
    )


def _gate(embedding, dim, key):
    """The gate that an embedding needs, as its authors start it; or `None`."""
    bias, rotary = embedding.bias, embedding.rotary
    if isinstance(bias, Forgetting):
        return ForgetGate(dim, bias.heads * (2 if bias.bidirectional else 1), key=key)
    if isinstance(rotary, Wall):
        return ForgetGate(dim, rotary.heads * rotary.head_dim, start_bias=8.0, key=key)
    return None


def at(
    embedding: PositionalEmbedding, positions: Int[Positions, " seq"], dim: int
) -> At:
    """The embedding at the positions of all tokens, of `dim` channels each."""
    length = positions.shape[0]
    return At(
        # Embedding zeros gives the encoding alone, or zeros without an encoding.
        embedding.embed(jnp.zeros((length, dim)), positions),
        embedding.at(positions, length=length),
    )


def forward(
    weights: Weights,
    there: At,
    tokens: Int[Array, "batch seq"],
    heads: int,
    dtype: DTypeLike = jnp.float32,
    unroll: int = 1,
) -> Float[Array, "batch seq vocabulary"]:
    """The logits of the token that follows each token, in float32.

    **Arguments:**

    - `weights`: the weights.
    - `there`: the embedding at the positions of the tokens.
    - `tokens`: the tokens of each text.
    - `heads`: the number of heads.
    - `dtype`: what to compute in.
    - `unroll`: how many blocks are compiled. More run faster, and compile longer.
    """
    encoding = there.encoding.astype(dtype)
    # The optimizer keeps weights in float32, and each step rounds a copy.
    weights = jax.tree.map(lambda x: x.astype(dtype), weights)
    x = weights.tokens[tokens] + encoding[None]
    # Texts are concatenated. On a CPU the gradient of a product over two axes takes
    # twice as long as over one axis.
    x = x.reshape(-1, x.shape[-1])
    shape = *tokens.shape, heads, x.shape[-1] // heads
    blocks = (
        weights.attention_norm,
        weights.attention,
        weights.mix,
        weights.network_norm,
        weights.widen,
        weights.narrow,
        weights.gate,
    )
    x, _ = jax.lax.scan(
        lambda x, block: (_block(x, block, there.placed, shape), None),
        x,
        blocks,
        unroll=min(unroll, len(weights.mix)),
    )
    logits = _normed(x, weights.norm) @ weights.readout
    return logits.astype(jnp.float32).reshape(*tokens.shape, -1)


def _block(x, block, placed, shape):
    attention_norm, attention, mix, network_norm, widen, narrow, gate = block
    normed = _normed(x, attention_norm)
    q, k, v = (
        part.reshape(shape).swapaxes(1, 2)
        for part in jnp.split(normed @ attention, 3, axis=-1)
    )

    def attend(q, k, v, state):
        here, rules = placed, {name: state for name in placed.reads}
        if gate is not None:
            order, p = placed.q_positions, gate(state)
            here = dataclasses.replace(placed, q_positions=p, k_positions=p)
            rules |= dict(q_order=order, k_order=order)
        return here.attend(q, k, v, causal=True, **rules)

    seen = jax.vmap(attend)(q, k, v, normed.reshape(*shape[:2], -1))
    x = x + seen.swapaxes(1, 2).reshape(x.shape) @ mix
    return x + jax.nn.gelu(_normed(x, network_norm) @ widen) @ narrow


def _normed(x, weight):
    # A mean of squares in bfloat16 would lose most of its digits.
    exact = x.astype(jnp.float32)
    size = jax.lax.rsqrt(jnp.mean(exact**2, axis=-1, keepdims=True) + 1e-5)
    return (exact * size).astype(x.dtype) * weight[None]


class Score(NamedTuple):
    """Sums over some texts."""

    bits: Float[Array, ""]
    answers: Float[Array, ""]
    right: Float[Array, ""]
    """How many answers are the likeliest token."""
    complete: Float[Array, ""]
    """How many texts have only right answers."""


def score(
    logits: Float[Array, "batch seq vocabulary"], answers: Int[Array, "batch seq"]
) -> Score:
    """How well logits predict the answers, where -1 stands for no answer."""
    there = answers >= 0
    # The index -1 stands for no answer, and would read the last token.
    hit = jnp.take_along_axis(logits, jnp.maximum(answers, 0)[..., None], axis=-1)
    bits = (jax.nn.logsumexp(logits, axis=-1) - hit[..., 0]) / math.log(2)
    right = there & (jnp.argmax(logits, axis=-1) == answers)
    complete = jnp.any(there, axis=-1) & jnp.all(right | ~there, axis=-1)
    total = lambda x: jnp.sum(x, dtype=jnp.float32)
    return Score(
        total(jnp.where(there, bits, 0.0)), total(there), total(right), total(complete)
    )
