"""Attention of every variant as it is compiled for TPUs: memory, cycles and loops.

    python -m benchmarks.attention_tpu --embeddings t5 rope --lengths 1024 8192

The compiler of libtpu runs on any machine, and nothing here runs on a TPU. `MiB` are
the temporaries of the compiled program. `Mcycles` is the compiler's estimate, with each
operation of a loop as often as the loop runs. The estimate has a floor of about 2,000
cycles for an operation, and knows nothing of fused kernels, which
`attention_kernels.py` counts. `loops` are the trips of all loops of the text; a
question mark is a loop over tiles.
"""

import argparse
from importlib.metadata import version
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import eqx_posemb as pe
from benchmarks.compiled import compiled, cycles, loops, TOPOLOGIES
from benchmarks.report import markdown, write
from eqx_posemb._attention import Inputs, Logits, rules as rules_of, Tokens
from eqx_posemb._attention._choose import block_size_for
from eqx_posemb._attention._plan import plan
from eqx_posemb._registry import resolved, VARIANTS


ROWS = {row.name: row for row in VARIANTS}
IMPLEMENTATIONS = "dense", "blockwise"
PASSES = "forward", "both"


def attention(
    name: str,
    implementation: Any,
    *,
    heads: int,
    length: int,
    head_dim: int,
    dtype=jnp.bfloat16,
    backward: bool = True,
    consecutive: bool = True,
):
    """A function and the shapes of its arguments, for a row of the registry.

    Tokens have consecutive positions and causal attention, or are the cells of a grid.
    States are hidden states. With `backward` the function returns all gradients as
    well. Positions that are not stated to be `consecutive` are an argument.
    """
    sizes = dict(heads=heads, head_dim=head_dim, dim=heads * head_dim, length=length)
    axes = resolved(ROWS[name].axes, sizes)
    embedding = pe.make(name, key=jr.key(0), **sizes)
    arrays, static = eqx.partition(embedding, eqx.is_array)

    def attend(arrays, q, k, v, states, p):
        embedding = eqx.combine(arrays, static)
        if consecutive and axes == 1:
            p = pe.positions.consecutive(length)
        return embedding.attend(
            q,
            k,
            v,
            p,
            p,
            causal=axes == 1,
            implementation=implementation,
            **states,
        )

    def both(arrays, q, k, v, states, p, d_out):
        def of(arrays, q, k, v, states):
            return attend(arrays, q, k, v, states, p)

        out, pull = jax.vjp(of, arrays, q, k, v, states)
        return out, pull(d_out)

    token = jax.ShapeDtypeStruct((heads, length, head_dim), dtype)
    hidden = jax.ShapeDtypeStruct((length, heads * head_dim), dtype)
    states = dict.fromkeys(embedding.reads, hidden)
    shape = (length,) if axes == 1 else (length, axes)
    p = jax.ShapeDtypeStruct(shape, jnp.int32)
    arguments = arrays, token, token, token, states, p
    return (both, (*arguments, token)) if backward else (attend, arguments)


def tiles(name: str, *, heads: int, length: int, head_dim: int) -> tuple[float, ...]:
    """The groups of tiles, and in each group the mean numbers of tiles without and with
    masked keys."""
    sizes = dict(heads=heads, head_dim=head_dim, dim=heads * head_dim, length=length)
    embedding, size = (
        pe.make(name, key=jr.key(0), **sizes),
        block_size_for(heads, length, length),
    )
    axes, p = resolved(ROWS[name].axes, sizes), jnp.arange(length)
    count = -(-length // size) * size
    p = jnp.minimum(jnp.arange(count), length - 1)
    if axes > 1:
        p = jnp.stack([p // 32] * (axes - 1) + [p % 32], axis=-1)
    no = dict.fromkeys("mask window q_segments k_segments q_order k_order".split())
    rules = rules_of(p, p, heads=heads, causal=axes == 1, **no)
    bias, score = embedding.bias, embedding.score
    logits = Logits(bias, score, None, 1.0, None)
    tokens = Tokens(None, p, None, None)
    x = jnp.zeros((heads, length, 1))
    inputs = Inputs(logits, x, x, x, tokens, tokens, rules)
    found = plan(inputs, size, length, length)
    groups = int(found.groups)
    starts, masked = found.starts[: groups + 1], found.masked[:groups]
    whole = int(jnp.sum(masked - starts[:-1])) / groups
    return groups, whole, int(starts[-1]) / groups - whole


def row(tpu: str, name: str, implementation: str, backward: bool, dtype, **sizes):
    """A row of the table."""
    function, arguments = attention(
        name, implementation, dtype=dtype, backward=backward, **sizes
    )
    names = dict(tpu=tpu, embedding=name, length=sizes["length"])
    names |= {"pass": PASSES[backward], "implementation": implementation}
    try:
        program = compiled(tpu, function, *arguments)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return names | {"MiB": None, "Mcycles": None, "loops": "does not fit"}
    text, trips = program.as_text(), tiles(name, **sizes)
    every = ", ".join("?" if n is None else str(n) for n in loops(text))
    memory = program.memory_analysis().temp_size_in_bytes / 2**20
    return names | {"MiB": memory, "Mcycles": cycles(text, trips) / 1e6, "loops": every}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--lengths", nargs="+", type=int, default=(1024,))
    parser.add_argument("--tpus", nargs="+", default=("v5e",), choices=TOPOLOGIES)
    parser.add_argument(
        "--implementations", nargs="+", default=IMPLEMENTATIONS, choices=IMPLEMENTATIONS
    )
    parser.add_argument("--passes", nargs="+", default=PASSES, choices=PASSES)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dim", type=int, default=64, help="channels of a head")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--json", help="a file to write the figures to")
    options = parser.parse_args()
    about = (
        f"libtpu {version('libtpu')}, jax {jax.__version__}; heads {options.heads}, "
        f"dim {options.dim}, {options.dtype}"
    )
    print(about)
    rows = []
    for tpu in options.tpus:
        for name in options.embeddings:
            for length in options.lengths:
                sizes = dict(heads=options.heads, length=length, head_dim=options.dim)
                for implementation in options.implementations:
                    for one in options.passes:
                        how = implementation, one == "both", jnp.dtype(options.dtype)
                        rows.append(row(tpu, name, *how, **sizes))
                        print(markdown(rows[-1], first=len(rows) == 1), flush=True)
                        # The figures so far, as all of them take hours.
                        write(options.json, about, rows)


if __name__ == "__main__":
    main()
