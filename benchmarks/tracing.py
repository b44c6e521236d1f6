"""How long tracing and lowering a transformer takes, with each kind of embedding.

    python -m benchmarks.tracing --json benchmarks/results/tracing.json

The layers are the block of `benchmarks.block`, and the embedding is placed once for all
layers, at consecutive positions. CPU seconds are for 1, 12 and 32 unrolled layers and
for 32 scanned layers, as medians over rounds that run all embeddings in turn. The last
column divides 32 unrolled layers by the same layers without position in the same round.
"""

import argparse
import functools
import gc
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import eqx_posemb as pe
from benchmarks.block import Block, DIM, HEADS
from benchmarks.report import machine, markdown, write


LENGTH, LAYERS = 64, 32
NAMES = "nope", "rope", "yarn", "t5", "transformer_xl"
KINDS = {"1": (1, False), "12": (12, False), "32": (32, False), "scanned": (32, True)}
Implementation = Literal["dense", "blockwise"]


def model(name: str, implementation: Implementation) -> Callable:
    """A function of layers, tokens and positions."""
    embedding = pe.make(
        name, heads=HEADS, head_dim=DIM // HEADS, dim=DIM, length=LENGTH, key=jr.key(0)
    )
    how = dict(implementation=implementation, block_size=32)

    def run(layers, x):
        p = pe.positions.consecutive(LENGTH)
        attend = functools.partial(embedding.at(p).attend, **how)
        if isinstance(layers, list):
            for layer in layers:
                x = layer(attend, x)
            return x
        arrays, static = eqx.partition(layers, eqx.is_array)
        step = lambda x, layer: (eqx.combine(layer, static)(attend, x), None)
        return jax.lax.scan(step, x, arrays)[0]

    return run


def seconds(run: Callable, layers: list[Block] | Block) -> float:
    """Of one core, from no caches to the text of the program."""
    jax.clear_caches()
    eqx.clear_caches()
    arguments = layers, jnp.ones((LENGTH, DIM))
    # A collection of garbage would count for the embedding that it interrupts.
    gc.collect()
    gc.disable()
    start = time.process_time()
    program: Any = eqx.filter_jit(lambda *arguments: run(*arguments))
    program.lower(*arguments)
    taken = time.process_time() - start
    gc.enable()
    return taken


def rows(implementation: Implementation, rounds: int):
    blocks = [Block(key) for key in jr.split(jr.key(1), LAYERS)]
    stacked = eqx.filter_vmap(Block)(jr.split(jr.key(1), LAYERS))
    times = {(name, kind): [] for name in NAMES for kind in KINDS}
    runs = {name: model(name, implementation) for name in NAMES}
    for _ in range(rounds):
        for (name, kind), found in times.items():
            count, scanned = KINDS[kind]
            found.append(seconds(runs[name], stacked if scanned else blocks[:count]))
    for name in NAMES:
        pairs = zip(times[name, "32"], times["nope", "32"], strict=True)
        yield {
            "embedding": name,
            "implementation": implementation,
            **{f"{kind} s": statistics.median(times[name, kind]) for kind in KINDS},
            "32 over nope": statistics.median(a / b for a, b in pairs),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = f"{machine()}; dim {DIM}, heads {HEADS}, {LENGTH} tokens, CPU seconds"
    print(about)
    printed: list[dict[str, object]] = []
    seconds(lambda layers, x: x, [])  # Imports, once.
    for implementation in "dense", "blockwise":
        for row in rows(implementation, options.rounds):
            printed.append(row)
            print(markdown(row, first=len(printed) == 1), flush=True)
    write(options.json, about, printed)


if __name__ == "__main__":
    main()
