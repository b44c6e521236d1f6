"""What rotary embeddings cost on a TPU, by the compiler's own count of bytes.

    python -m benchmarks.tpu

Needs the extra `bench-tpu` and no TPU: programs are compiled ahead of time, and do not
run. A rotation mainly reads and writes, so the accessed bytes of its program measure
the distance to the optimum.

The unit is an elementwise pass over the same arrays, or two passes with a backward
pass. Between the projections and the product of queries and keys, the figure is the
traffic that the rotation adds.
"""

import os


# Before JAX is imported: the TPU's compiler is to look for no TPU.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["TPU_SKIP_MDS_QUERY"] = "1"
os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"

import argparse
from functools import cache
from importlib.metadata import version
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.experimental import topologies

import eqx_posemb as pe
from benchmarks.report import markdown, write


CHIPS = "v5e", "v6e"
DTYPES = jnp.float32, jnp.bfloat16
LAYOUTS = "halves", "adjacent"
# Equinox has the heads in the middle, most others first.
ORDERS = "[heads, seq, dim]", "[seq, heads, dim]"
DIM = 128


def concatenating(rotation):
    """Two halves put together, as most code has it, for comparison."""

    def turn(x):
        a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
        cos, sin = rotation.cos, rotation.sin
        turned = [a * cos - b * sin, b * cos + a * sin]
        return jnp.concatenate(turned, axis=-1).astype(x.dtype)

    return turn


CONTENDERS = {
    "ours": lambda rotation: rotation.queries,
    "concatenation": concatenating,
    "Equinox": lambda rotation: eqx.nn.RotaryPositionalEmbedding(DIM),
}


def rotate(
    x, p, order, layout: Literal["halves", "adjacent"] = "halves", contender="ours"
):
    """Over heads by `jax.vmap`, from positions to the result."""
    turn = CONTENDERS[contender](pe.rope(DIM, pairing=layout)(p))
    axis = ORDERS.index(order)
    return jax.vmap(turn, in_axes=axis, out_axes=axis)(x)


def with_gradient(f):
    """What `f` is, and what it gives back: `f` is of some arrays and of positions."""

    def both(arrays, p, cotangents):
        out, pull = jax.vjp(lambda *arrays: f(*arrays, p), *arrays)
        return out, pull(cotangents)

    return both


def bytes_accessed(f, arguments, device) -> float:
    place = jax.sharding.SingleDeviceSharding(device)
    traced = jax.jit(f, in_shardings=place, out_shardings=place).trace(*arguments)
    program = traced.lower(lowering_platforms=("tpu",)).compile()
    costs = program.cost_analysis()
    return 0.0 if costs is None else costs["bytes accessed"]


def tokens(order, seq, heads, dtype) -> jax.ShapeDtypeStruct:
    shape = (heads, seq, DIM) if order == ORDERS[0] else (seq, heads, DIM)
    return jax.ShapeDtypeStruct(shape, dtype)


def positions(seq) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((seq,), jnp.int32)


@cache
def pass_over(x, device) -> float:
    # Of one array: of what has two results the compiler counts the bytes twice.
    return bytes_accessed(lambda x: x * 1.5, (x,), device)


def alone(device, dtype, order, layout, contender, seq=4096, heads=32) -> list[float]:
    """Forward, over an elementwise pass, and with backward, over two."""
    x, p = tokens(order, seq, heads, dtype), positions(seq)
    turn = lambda x, p: rotate(x, p, order, layout, contender)
    floor = pass_over(x, device)
    forward = bytes_accessed(turn, (x, p), device)
    both = bytes_accessed(with_gradient(turn), ((x,), p, x), device)
    return [forward / floor, both / (2 * floor)]


@cache
def of_block(device, dtype, order, contender, seq, heads, dim) -> tuple[float, float]:
    """Two projections and a product, with a rotation between them if there is a
    contender: forward, and with backward."""
    p = positions(seq)
    x = jax.ShapeDtypeStruct((seq, dim), dtype)
    w = jax.ShapeDtypeStruct((dim, heads, DIM), dtype)
    gradient = jax.ShapeDtypeStruct((heads, seq, seq), dtype)
    axes = "hsd" if order == ORDERS[0] else "shd"
    of_q, of_k = axes.replace("s", "q"), axes.replace("s", "k")

    def turn(x, p):
        return x if contender is None else rotate(x, p, order, contender=contender)

    def logits(x, w_q, w_k, p):
        q, k = (turn(jnp.einsum(f"sm,mhd->{axes}", x, w), p) for w in (w_q, w_k))
        return jnp.einsum(f"{of_q},{of_k}->hqk", q, k)

    return (
        bytes_accessed(logits, (x, w, w, p), device),
        bytes_accessed(with_gradient(logits), ((x, w, w), p, gradient), device),
    )


def used(device, dtype, order, contender, seq=2048, heads=16, dim=2048) -> list[float]:
    """What it adds to two projections and a product: forward, over a pass over queries
    and keys each, and with backward, over two."""
    without = of_block(device, dtype, order, None, seq, heads, dim)
    rotated = of_block(device, dtype, order, contender, seq, heads, dim)
    floor = 2 * pass_over(tokens(order, seq, heads, dtype), device)
    added = [a - b for a, b in zip(rotated, without, strict=True)]
    return [added[0] / floor, added[1] / (2 * floor)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chips", nargs="+", choices=CHIPS, default=CHIPS)
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = f"libtpu {version('libtpu')}, jax {jax.__version__}; bytes accessed"
    print(about)
    rows = []

    def add(**row):
        rows.append(row)
        print(markdown(row, first=len(rows) == 1), flush=True)

    for chip in options.chips:
        device = topologies.get_topology_desc(f"{chip}:2x2", "tpu").devices[0]
        for dtype in DTYPES:
            for order in ORDERS:
                names = dict(chip=chip, dtype=jnp.dtype(dtype).name, order=order)
                for layout in LAYOUTS:
                    forward, both = alone(device, dtype, order, layout, "ours")
                    what = f"ours, {layout}"
                    add(**names, what=what, forward=forward, both=both)
                for contender in ("concatenation", "Equinox"):
                    forward, both = alone(device, dtype, order, "halves", contender)
                    add(**names, what=contender, forward=forward, both=both)
                for contender in ("ours", "concatenation"):
                    forward, both = used(device, dtype, order, contender)
                    what = f"{contender}, as it is used"
                    add(**names, what=what, forward=forward, both=both)
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
