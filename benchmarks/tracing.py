"""How long tracing and lowering a model takes, with each kind of embedding.

`python benchmarks/tracing.py`: seconds for 1, 12 and 32 unrolled layers and for 32
scanned layers, the median of five. "attend" places the embedding in each layer, and
"placed" once for all. The first row has no embedding and attention written by hand.
"""

import statistics
import time
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array

import eqx_posemb as pe


HEADS, LENGTH, HEAD_DIM, ROUNDS = 8, 64, 64, 5
NAMES = ("nope", "rope", "yarn", "t5", "transformer_xl")
X = jnp.ones((HEADS, LENGTH, HEAD_DIM))
P = jnp.arange(LENGTH)


def by_hand(x: Array, p: Array) -> Array:
    logits = jnp.einsum("hqd,hkd->hqk", x, x) / HEAD_DIM**0.5
    weights = jax.nn.softmax(jnp.where(p[:, None] >= p, logits, -jnp.inf), axis=-1)
    return jnp.einsum("hqk,hkd->hqd", weights, x)


def unrolled(make: Callable, layers: int) -> Callable:
    def model(x, p):
        layer = make(p)
        for _ in range(layers):
            x = x + layer(x)
        return x

    return model


def scanned(make: Callable, layers: int) -> Callable:
    def model(x, p):
        layer = make(p)
        return jax.lax.scan(lambda x, _: (x + layer(x), None), x, length=layers)[0]

    return model


def seconds(model: Callable) -> float:
    times = []
    for _ in range(ROUNDS):
        jax.clear_caches()
        eqx.clear_caches()
        start = time.perf_counter()
        jax.jit(lambda x, p: model(x, p)).lower(X, P)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def rows():
    yield "no embedding, by hand", lambda p: lambda x: by_hand(x, p)
    for name in NAMES:
        embedding = pe.make(
            name,
            heads=HEADS,
            head_dim=HEAD_DIM,
            dim=HEADS * HEAD_DIM,
            length=LENGTH,
            key=jr.key(0),
        )
        for implementation in "dense", "blockwise":
            options = dict(causal=True, implementation=implementation, block_size=32)

            def attend(p, embedding=embedding, options=options):
                return lambda x: embedding.attend(x, x, x, p, p, **options)

            def placed(p, embedding=embedding, options=options):
                placed = embedding.at(p)
                return lambda x: placed.attend(x, x, x, **options)

            yield f"{name}, {implementation}, attend", attend
            yield f"{name}, {implementation}, placed", placed


def main() -> None:
    jax.jit(lambda x, p: by_hand(x, p)).lower(X, P)  # Imports, once.
    print("| | 1 | 12 | 32 | 32, scanned |\n|---|---:|---:|---:|---:|")
    for name, make in rows():
        times = [seconds(unrolled(make, layers)) for layers in (1, 12, 32)]
        times.append(seconds(scanned(make, 32)))
        print(f"| {name} |", " | ".join(f"{t:.2f}" for t in times), "|", flush=True)


if __name__ == "__main__":
    main()
