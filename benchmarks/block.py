"""What an embedding costs a transformer's block: time and memory of the whole of it.

    python -m benchmarks.block

A pre-norm block of Equinox's layers, with causal attention by `attend`, float32; its
forward pass, and that with gradients of everything in the same jit. The same block is
called with each embedding and with none, and without one by dense attention as well, in
turn; a figure is the median over rounds of the ratio in the same round.
"""

import argparse
import functools
import statistics
from collections.abc import Callable
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

import eqx_posemb as pe
from benchmarks.report import machine, markdown, over, seconds, write


DIM, HEADS = 512, 8
EMBEDDINGS = "rope", "alibi", "t5", "kerple", "transformer_xl"
NONE, PLAIN = "none", "none, dense"
Implementation = Literal["auto", "dense"]


class Block(eqx.Module):
    norms: tuple[eqx.nn.LayerNorm, eqx.nn.LayerNorm]
    projections: tuple[eqx.nn.Linear, eqx.nn.Linear, eqx.nn.Linear]
    output: eqx.nn.Linear
    up: eqx.nn.Linear
    down: eqx.nn.Linear

    def __init__(self, key):
        keys = jr.split(key, 6)
        linear = lambda a, b, key: eqx.nn.Linear(a, b, use_bias=False, key=key)
        q, k, v, self.output = (linear(DIM, DIM, key) for key in keys[:4])
        self.projections = (q, k, v)
        self.norms = (eqx.nn.LayerNorm(DIM), eqx.nn.LayerNorm(DIM))
        self.up = linear(DIM, 4 * DIM, keys[4])
        self.down = linear(4 * DIM, DIM, keys[5])

    def __call__(
        self, attend: Callable[..., Array], x: Float[Array, "seq dim"]
    ) -> Float[Array, "seq dim"]:
        normed = jax.vmap(self.norms[0])(x)
        q, k, v = (
            jax.vmap(linear)(normed).reshape(len(x), HEADS, -1).swapaxes(0, 1)
            for linear in self.projections
        )
        out = attend(q, k, v, causal=True)
        x = x + jax.vmap(self.output)(out.swapaxes(0, 1).reshape(len(x), -1))
        mlp = lambda y: self.down(jax.nn.gelu(self.up(self.norms[1](y))))
        return x + jax.vmap(mlp)(x)


def compiled(name, length, backward):
    """A call that waits for its result, and the MiB of temporaries that it takes."""
    implementation: Implementation = "dense" if name == PLAIN else "auto"
    embedding = pe.PositionalEmbedding()
    if name in EMBEDDINGS:
        embedding = pe.make(
            name,
            heads=HEADS,
            head_dim=DIM // HEADS,
            dim=DIM,
            length=length,
            key=jr.key(0),
        )
    x, p = jr.normal(jr.key(1), (length, DIM)), jnp.arange(length)
    arrays, static = eqx.partition((Block(jr.key(2)), embedding), eqx.is_array)

    def forward(arrays, x, p):
        block, embedding = eqx.combine(arrays, static)
        attend = functools.partial(
            embedding.at(p).attend, implementation=implementation
        )
        return block(attend, x)

    def both(arrays, x, p):
        out, pull = jax.vjp(lambda arrays, x: forward(arrays, x, p), arrays, x)
        return out, pull(out)

    program = jax.jit(both if backward else forward).lower(arrays, x, p).compile()
    memory = program.memory_analysis()
    size = None if memory is None else memory.temp_size_in_bytes / 2**20
    return lambda: jax.block_until_ready(program(arrays, x, p)), size


def rows(length, backward, rounds):
    names = (PLAIN, NONE, *EMBEDDINGS)
    made = {name: compiled(name, length, backward) for name in names}
    times = seconds({name: call for name, (call, _) in made.items()}, rounds)

    for name in names:
        yield {
            "embedding": name,
            "length": length,
            "pass": "both" if backward else "forward",
            "over none": over(times, name, NONE),
            "over none, dense": over(times, name, PLAIN),
            "seconds": statistics.median(times[name]),
            "MiB": made[name][1],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = f"{machine()}; dim {DIM}, heads {HEADS}, float32, causal"
    print(about)
    printed = []
    for backward in (False, True):
        for row in rows(options.length, backward, options.rounds):
            printed.append(row)
            print(markdown(row, first=len(printed) == 1), flush=True)
    write(options.json, about, printed)


if __name__ == "__main__":
    main()
