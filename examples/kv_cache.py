"""Decoding with a KV cache: the same model, called on the positions that are new.

Trains the GPT of `gpt.py` for a few steps, and continues a text byte by byte with a
key-value cache. The logits equal the logits of the whole text without a cache.

    pip install -e . optax
    python examples/kv_cache.py
"""

import equinox as eqx
import jax.numpy as jnp
from gpt import DEPTH, HEADS, LENGTH, make, train, WIDTH


PROMPT = b"The following sections describe"


def main(name: str = "rope", steps: int = 300) -> None:
    model = train(make(name), steps)
    zeros = jnp.zeros((HEADS, LENGTH, WIDTH // HEADS))
    caches = ((zeros, zeros),) * DEPTH

    @eqx.filter_jit
    def decode(model, text, caches, start):
        # No `offset` anywhere: a new token has the position that it has.
        positions = start + jnp.arange(len(text))
        # A schedule that depends on the length must see one for all calls.
        logits, caches = model(text, positions, caches, start, length=LENGTH)
        return logits[-1], caches

    text = list(PROMPT)
    logits, caches = decode(model, jnp.array(text), caches, jnp.array(0))
    found = [logits]
    while len(text) < LENGTH:
        text.append(int(jnp.argmax(logits)))
        start = jnp.array(len(text) - 1)
        logits, caches = decode(model, jnp.array(text[-1:]), caches, start)
        found.append(logits)
    print(bytes(text).decode(errors="replace"))

    whole, _ = eqx.filter_jit(model)(jnp.array(text), jnp.arange(LENGTH), length=LENGTH)
    error = float(jnp.abs(whole[len(PROMPT) - 1 :] - jnp.array(found)).max())
    size = float(jnp.abs(whole).max())
    print(f"logits up to {size:.1f}, with the cache off by at most {error:.1e}")
    # Rounding of float32 through two layers.
    assert error < 1e-5 * max(size, 1)


if __name__ == "__main__":
    main()
