"""A small decoder, whose order of tokens comes from its embedding alone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._bundle import PositionalEmbedding


class Block(eqx.Module):
    """Attention and a feed-forward network, each after a norm and around a bypass."""

    attention_norm: eqx.nn.RMSNorm
    query: eqx.nn.Linear
    key: eqx.nn.Linear
    value: eqx.nn.Linear
    mix: eqx.nn.Linear
    network_norm: eqx.nn.RMSNorm
    widen: eqx.nn.Linear
    narrow: eqx.nn.Linear
    heads: int = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        logit_scale: float,
        depth: int,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a token.
        - `heads`: The number of heads.
        - `logit_scale`: What the embedding multiplies products of queries and keys by.
        - `depth`: The number of blocks in the model.
        - `key`: A `jax.random` key.
        """
        keys = jr.split(key, 6)
        usual = (dim // heads) ** -0.5
        # An embedding with a scale of its own (T5: 1) leaves the usual one to the
        # weights. Without it here its first logits would be larger than everyone
        # else's, and the comparison one of initial values.
        self.query = _linear(dim, dim, usual / logit_scale, keys[0])
        self.key = _linear(dim, dim, 1.0, keys[1])
        self.value = _linear(dim, dim, 1.0, keys[2])
        # The sum of all branches is as large as the token itself, at any depth.
        small = (2 * depth) ** -0.5
        self.mix = _linear(dim, dim, small, keys[3])
        self.widen = _linear(dim, 4 * dim, 1.0, keys[4])
        self.narrow = _linear(4 * dim, dim, small, keys[5])
        self.attention_norm = eqx.nn.RMSNorm(dim, use_bias=False)
        self.network_norm = eqx.nn.RMSNorm(dim, use_bias=False)
        self.heads = heads

    def __call__(
        self,
        x: Float[Array, "seq dim"],
        positions: Int[Array, " seq"],
        embedding: PositionalEmbedding,
    ) -> Float[Array, "seq dim"]:
        normed = jax.vmap(self.attention_norm)(x)
        q, k, v = (
            _split(jax.vmap(linear)(normed), self.heads)
            for linear in (self.query, self.key, self.value)
        )
        seen = embedding.attend(
            q,
            k,
            v,
            positions,
            positions,
            causal=True,
            q_state=normed if "q_state" in embedding.reads else None,
            k_state=normed if "k_state" in embedding.reads else None,
        )
        x = x + jax.vmap(self.mix)(_merge(seen))
        hidden = jax.nn.gelu(jax.vmap(self.widen)(jax.vmap(self.network_norm)(x)))
        return x + jax.vmap(self.narrow)(hidden)


class Decoder(eqx.Module):
    """A byte-level language model with any positional embedding.

    Tokens are encoded once, at the input, and all blocks share the embedding and its
    parameters, as in T5. The embedding is one object, which can be exchanged after
    training. All other parts are permutation equivariant, since the causal mask
    compares positions.
    """

    tokens: Float[Array, "bytes dim"]
    embedding: PositionalEmbedding
    blocks: Block
    norm: eqx.nn.RMSNorm
    readout: eqx.nn.Linear

    def __init__(
        self,
        embedding: PositionalEmbedding,
        *,
        dim: int,
        heads: int,
        depth: int,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `embedding`: The only part that reads positions.
        - `dim`: The number of channels of a token.
        - `heads`: The number of heads.
        - `depth`: The number of blocks.
        - `key`: A `jax.random` key. The same key gives the same weights whatever the
            embedding.
        """
        tokens_key, blocks_key, readout_key = jr.split(key, 3)
        usual = (dim // heads) ** -0.5
        scale = usual if embedding.scale is None else embedding.scale
        # Unit size: what sinusoids, of size 0.7, were meant to be added to.
        self.tokens = jr.normal(tokens_key, (256, dim))
        self.embedding = embedding
        # Stacked for a scan: one block to compile, and not `depth` of them.
        self.blocks = eqx.filter_vmap(
            lambda key: Block(dim, heads, logit_scale=scale, depth=depth, key=key)
        )(jr.split(blocks_key, depth))
        self.norm = eqx.nn.RMSNorm(dim, use_bias=False)
        self.readout = _linear(dim, 256, 1.0, readout_key)

    def __call__(
        self, text: Int[Array, " seq"], positions: Int[Array, " seq"]
    ) -> Float[Array, "seq bytes"]:
        """**Arguments:**

        - `text`: bytes, from 0 to 255.
        - `positions`: where they are.

        **Returns:**

        The logits of the byte that follows each.
        """
        x = self.embedding.embed(self.tokens[text], positions)
        arrays, static = eqx.partition(self.blocks, eqx.is_array)

        def step(x, block):
            return eqx.combine(block, static)(x, positions, self.embedding), None

        x, _ = jax.lax.scan(step, x, arrays)
        return jax.vmap(self.readout)(jax.vmap(self.norm)(x))


def bits_per_byte(
    model: Decoder, windows: Int[Array, "batch window"]
) -> Float[Array, ""]:
    """The mean cost of all bytes of each window but the first, given those before."""
    positions = jnp.arange(windows.shape[1] - 1)
    logits = jax.vmap(model, in_axes=(0, None))(windows[:, :-1], positions)
    logs = jax.nn.log_softmax(logits)
    hits = jnp.take_along_axis(logs, windows[:, 1:, None], axis=-1)
    return -jnp.mean(hits) / jnp.log(2.0)


def _linear(inputs, outputs, size, key):
    weight = size * inputs**-0.5 * jr.normal(key, (outputs, inputs))
    linear = eqx.nn.Linear(inputs, outputs, use_bias=False, key=key)
    return eqx.tree_at(lambda linear: linear.weight, linear, weight)


def _split(x, heads):
    return x.reshape(x.shape[0], heads, -1).swapaxes(0, 1)


def _merge(x):
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
