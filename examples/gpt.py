"""A GPT with any positional embedding, chosen by name, trained on real text.

The text is Python's own documentation, which is on every machine that has Python, a
token for each byte. Prints the loss on text that was held out.

    pip install -e . optax
    python examples/gpt.py rope
    python examples/gpt.py alibi  # or any that `eqx-posemb list` shows
"""

import argparse
from collections.abc import Callable
from pydoc_data.topics import topics

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, Int

import eqx_posemb as pe


WIDTH, HEADS, DEPTH, LENGTH, BATCH = 64, 4, 2, 64, 16
Cache = tuple[Float[Array, "heads cache dim"], Float[Array, "heads cache dim"]]


class Block(eqx.Module):
    norms: tuple[eqx.nn.RMSNorm, eqx.nn.RMSNorm]
    qkv: eqx.nn.Linear
    output: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key):
        keys = jr.split(key, 4)
        linear = lambda a, b, key: eqx.nn.Linear(a, b, use_bias=False, key=key)
        self.norms = (eqx.nn.RMSNorm(WIDTH), eqx.nn.RMSNorm(WIDTH))
        self.qkv = linear(WIDTH, 3 * WIDTH, keys[0])
        self.output = linear(WIDTH, WIDTH, keys[1])
        self.up = linear(WIDTH, 4 * WIDTH, keys[2])
        self.down = linear(4 * WIDTH, WIDTH, keys[3])

    def __call__(self, x, position, positions, cache=None, start=0, **rules):
        """`cache`: keys and values of before, with room at `start` for these."""
        normed = jax.vmap(self.norms[0])(x)
        # A few embeddings read hidden states beside queries and keys.
        rules |= {state: normed for state in position.reads}
        qkv = jax.vmap(self.qkv)(normed)
        q, k, v = qkv.reshape(len(x), 3, HEADS, -1).transpose(1, 2, 0, 3)
        k_positions = positions
        if cache is not None:
            put = lambda old, new: jax.lax.dynamic_update_slice(old, new, (0, start, 0))
            k, v = cache = put(cache[0], k), put(cache[1], v)
            # Causal attention does not see the slots that are still to be written.
            k_positions = jnp.arange(k.shape[1])
        out = position.attend(q, k, v, positions, k_positions, causal=True, **rules)
        x = x + jax.vmap(self.output)(out.transpose(1, 0, 2).reshape(len(x), -1))
        mlp = lambda y: self.down(jax.nn.gelu(self.up(self.norms[1](y))))
        return x + jax.vmap(mlp)(x), cache


class GPT(eqx.Module):
    tokens: Float[Array, "256 width"]
    position: pe.PositionalEmbedding
    blocks: tuple[Block, ...]
    norm: eqx.nn.RMSNorm
    head: eqx.nn.Linear

    def __init__(self, position: pe.PositionalEmbedding, *, key):
        keys = jr.split(key, DEPTH + 2)
        self.tokens = jr.normal(keys[0], (256, WIDTH))
        # The only part that depends on the order of tokens.
        self.position = position
        self.blocks = tuple(Block(key) for key in keys[2:])
        self.norm = eqx.nn.RMSNorm(WIDTH)
        self.head = eqx.nn.Linear(WIDTH, 256, use_bias=False, key=keys[1])

    def __call__(self, text, positions, caches=(None,) * DEPTH, start=0, **rules):
        """Logits of the next bytes, and the caches with these in them."""
        x, written = self.position.embed(self.tokens[text], positions), []
        for block, cache in zip(self.blocks, caches, strict=True):
            x, cache = block(x, self.position, positions, cache, start, **rules)
            written.append(cache)
        return jax.vmap(lambda y: self.head(self.norm(y)))(x), tuple(written)


def make(name: str, **settings) -> GPT:
    """A model that has the embedding of that name."""
    sizes = dict(heads=HEADS, head_dim=WIDTH // HEADS, dim=WIDTH, length=LENGTH)
    position = pe.make(name, **sizes, key=jr.key(0), **settings)
    return GPT(position, key=jr.key(1))


def bits_per_byte(model: GPT, windows: Int[Array, "batch window"]) -> Float[Array, ""]:
    positions = jnp.arange(windows.shape[1] - 1)
    logits = jax.vmap(lambda text: model(text, positions)[0])(windows[:, :-1])
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:])
    return losses.mean() / jnp.log(2.0)


def text() -> tuple[np.ndarray, np.ndarray]:
    """To train on and to evaluate on: every tenth topic is held out."""
    parts = [topic.encode() for topic in topics.values()]
    train = b"".join(part for i, part in enumerate(parts) if i % 10)
    held_out = b"".join(parts[::10])
    return np.frombuffer(train, np.uint8), np.frombuffer(held_out, np.uint8)


def windows(source: np.ndarray, count: int, length: int, seed: int) -> Array:
    starts = np.random.default_rng(seed).integers(len(source) - length, size=count)
    return jnp.asarray(source[starts[:, None] + np.arange(length + 1)].astype(int))


def train(
    model: GPT,
    steps: int,
    *,
    length: int = LENGTH,
    rate: float = 3e-3,
    loss: Callable[..., Float[Array, ""]] = bits_per_byte,
) -> GPT:
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))
    source, _ = text()

    @eqx.filter_jit
    def step(model, state, batch):
        gradients = eqx.filter_grad(loss)(model, batch)
        updates, state = optimizer.update(gradients, state)
        return eqx.apply_updates(model, updates), state

    for i in range(steps):
        model, state = step(model, state, windows(source, BATCH, length, seed=i))
    return model


def held_out(model: GPT, length: int, count: int = 64) -> float:
    """Bits per byte on text that was not trained on."""
    batch = windows(text()[1], count, length, seed=0)
    return float(eqx.filter_jit(bits_per_byte)(model, batch))


def main(name: str = "rope", steps: int = 300) -> None:
    model = make(name)
    before = held_out(model, LENGTH)
    model = train(model, steps)
    after = held_out(model, LENGTH)
    print(f"{name}: {before:.2f} bits per byte before, {after:.2f} after {steps} steps")
    assert after < before

    # All order is in the positions: shuffled with them a text stays what it is.
    read = eqx.filter_jit(lambda text, positions: model(text, positions)[0])
    some, here = windows(text()[1], 1, LENGTH - 1, seed=0)[0], jnp.arange(LENGTH)
    order = jr.permutation(jr.key(0), here)
    whole = read(some, here)[order]
    # Sums in another order: rounding of float32.
    close = 1e-4 * jnp.abs(whole).max()
    assert jnp.abs(read(some[order], order) - whole).max() < close
    assert jnp.abs(read(some[order], here) - whole).max() > close


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="?", default="rope")
    parser.add_argument("--steps", type=int, default=300)
    main(**vars(parser.parse_args()))
