"""Rotary embeddings and T5's bias on a CPU: times over the time of reading and writing.

    python -m benchmarks.rotary

Needs the extra `bench`; rotary-embedding-torch and x-transformers have a column where
they are installed. The floor is a jitted elementwise pass over the same arrays, unless
a row says otherwise. All of a row are called in turn, and a figure is the median over
rounds of the ratio to the floor in the same round. Positions are given, and angles
computed inside.
"""

import argparse
import time
from typing import Literal

import jax
import jax.numpy as jnp
import jax.random as jr

import eqx_posemb as pe
from benchmarks import rotary_peers as peers
from benchmarks.report import (
    compiled,
    keep_memory,
    machine,
    markdown,
    ratios,
    write,
)


DIM = 128
SHAPES = (1, 32, 4096, DIM), (4, 16, 512, DIM)  # [batch, heads, seq, dim]
DTYPES = "float32", "bfloat16"
COLUMNS = "ours", "Equinox", *peers.HALVES, *peers.ADJACENT


def drawn(shape, dtype):
    return jr.normal(jr.key(0), shape, jnp.float32).astype(dtype)


def turning(layout: Literal["halves", "adjacent"], order: str):
    """Of `[seq, dim]`, by `jax.vmap` over heads and batch."""
    rope = pe.rope(DIM, pairing=layout)
    axis = 0 if order == "heads, seq" else 1

    def turn(q, k, p):
        over_heads = lambda f: jax.vmap(f, in_axes=axis, out_axes=axis)
        rotation = rope(p)
        return tuple(
            jax.vmap(over_heads(f))(x)
            for f, x in ((rotation.queries, q), (rotation.keys, k))
        )

    return turn


def with_gradient(turn):
    def both(q, k, p, *gs):
        out, pull = jax.vjp(lambda q, k: turn(q, k, p), q, k)
        return out, pull(gs)

    return both


def rotation_rows(rounds: int):
    goals = {
        ("halves", False): (1.25, 1.5),
        ("adjacent", False): (1.6, 2.0),
        ("halves", True): (2.6, 4.0),
        ("adjacent", True): (None, None),
    }
    for (layout, backward), goal in goals.items():
        for dtype, wanted in zip(DTYPES, goal, strict=True):
            for shape in SHAPES:
                for order in "heads, seq", "seq, heads":
                    calls = rotation_calls(layout, backward, dtype, shape, order)
                    yield dict(
                        what=f"{layout}, forward" + " and backward" * backward,
                        dtype=dtype,
                        arrays=f"{list(shape)} {order}",
                        goal=wanted,
                        **ratios(calls, "floor", rounds),
                    )


def rotation_calls(layout, backward, dtype, shape, order):
    """Others are given their own order, heads first, beside ours in either."""
    x = drawn(shape, dtype)
    p = jnp.arange(shape[2])
    first = order == "heads, seq"
    ours = x if first else jnp.swapaxes(x, 1, 2).copy()
    turn = turning(layout, order)
    calls = {"floor": compiled(lambda q, k: (q * 1.5, k * 1.5), ours, ours + 1)}
    if backward:
        calls["ours"] = compiled(with_gradient(turn), ours, ours + 1, p, ours + 2, ours)
    else:
        calls["ours"] = compiled(turn, ours, ours + 1, p)
    if first:
        if layout == "halves":
            calls["Equinox"] = peers.equinox_call(x, backward)
        others = peers.HALVES if layout == "halves" else peers.ADJACENT
        calls |= peers.torch_calls(others, shape, dtype, backward)
    return calls


def table_rows(rounds: int):
    rope, p = pe.rope(DIM), jnp.arange(16_384)
    frequencies = jnp.asarray(rope.frequencies(), jnp.float32)

    def exact(p):
        # One array, as a rotation holds them: what reads them has no need of two.
        rotation = rope(p)
        return jnp.stack([rotation.cos, rotation.sin])

    def plain(p):
        angles = p.astype(jnp.float32)[:, None] * frequencies[None]
        return jnp.cos(angles), jnp.sin(angles)

    def writing(p):
        row = p.astype(jnp.float32)[:, None]
        return row + frequencies[None], row - frequencies[None]

    calls = dict(floor=compiled(writing, p), ours=compiled(exact, p))
    calls["jnp.cos, jnp.sin"] = compiled(plain, p)
    found = ratios(calls, "floor", rounds)
    row = dict(dtype="float32", arrays="[16384, 64] twice")
    yield row | dict(what="tables, over writing them", goal=1.6, **found)
    slower = found["jnp.cos, jnp.sin"] / found["ours"]
    yield row | dict(what="jnp.cos, jnp.sin over ours", goal="≥ 5", ours=slower)


def decoding_rows(rounds: int):
    """A token of each of 64 sequences, at positions of its own."""
    rope = pe.rope(DIM)

    def step(q, p):
        return jax.vmap(lambda q, p: jax.vmap(rope(p[None]).queries)(q))(q, p)

    p = jr.randint(jr.key(1), (64,), 0, 100_000)
    for dtype, goal in zip(DTYPES, (2.0, None), strict=True):
        shape = 64, 32, 1, DIM
        q = drawn(shape, dtype)
        calls = dict(floor=compiled(lambda q: q * 1.5, q), ours=compiled(step, q, p))
        yield dict(
            what="decoding",
            dtype=dtype,
            arrays=str(list(shape)),
            goal=goal,
            **ratios(calls, "floor", 10 * rounds),
        )


def t5_rows(rounds: int):
    n, heads = 2048, 8
    bias, p = pe.T5Bias(heads, key=jr.key(0)), jnp.arange(n)
    g = drawn((heads, n, n), "float32")

    def gather(weight):
        return weight[bias.buckets(p[None] - p[:, None])].transpose(2, 0, 1)

    row = dict(dtype="float32", arrays=str([heads, n, n]))
    calls = dict(
        floor=compiled(
            lambda w: jnp.broadcast_to(w[0, :, None, None], g.shape) + 1, bias.weight
        ),
        ours=compiled(lambda bias: bias(p, p), bias),
    )
    calls["transformers' way in JAX"] = compiled(gather, bias.weight)
    found = ratios(calls, "floor", rounds)
    yield row | dict(what="T5 bias, over writing it", goal=1.1, **found)

    def gradient(bias, g):
        return jax.vjp(lambda bias: bias(p, p), bias)[1](g)

    def plain(weight, g):
        return jax.vjp(gather, weight)[1](g)

    calls = dict(
        floor=compiled(lambda g: jnp.sum(g, axis=(1, 2)), g),
        ours=compiled(gradient, bias, g),
    )
    calls["transformers' way in JAX"] = compiled(plain, bias.weight, g)
    found = ratios(calls, "floor", rounds)
    yield row | dict(what="its gradient, over reading it", goal=1.5, **found)
    memory = jax.jit(gradient).lower(bias, g).compile().memory_analysis()
    assert memory is not None
    size = memory.temp_size_in_bytes / 2**20
    yield row | dict(what="its temporaries, MiB", goal="no n²", ours=size)


def compilation_rows(rounds: int):
    """Lowering and compiling many positions over few, and the text of the program."""
    rope = pe.rope(DIM)
    times, sizes = {128: [], 131_072: []}, {}
    for _ in range(min(rounds, 7)):
        for seq in times:
            jax.clear_caches()
            turn = jax.jit(lambda x, p: rope(p).queries(x))
            x = jax.ShapeDtypeStruct((seq, DIM), jnp.float32)
            p = jax.ShapeDtypeStruct((seq,), jnp.int32)
            start = time.perf_counter()
            lowered = turn.lower(x, p)
            lowered.compile()
            times[seq].append(time.perf_counter() - start)
            sizes[seq] = len(lowered.as_text())
    few, many = times
    row = dict(dtype="float32", arrays=f"[{many}, {DIM}]")
    slower = min(times[many]) / min(times[few])
    yield row | dict(what="compiling, over 128 positions", goal=1.3, ours=slower)
    longer = sizes[many] / sizes[few]
    yield row | dict(what="its program's text, likewise", goal="1", ours=longer)


PARTS = {
    "rotation": rotation_rows,
    "tables": table_rows,
    "decoding": decoding_rows,
    "t5": t5_rows,
    "compilation": compilation_rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    keep_memory()
    about = machine()
    print(about)
    rows = []
    for part in options.parts:
        for row in PARTS[part](options.rounds):
            named = ("what", "dtype", "arrays", "goal", *COLUMNS)
            other = {k: v for k, v in row.items() if k not in (*named, "floor")}
            shown = {name: row.get(name) for name in named}
            shown["other"] = ", ".join(f"{k} {v:.2f}" for k, v in other.items()) or None
            rows.append(row)
            print(markdown(shown, first=len(rows) == 1), flush=True)
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
