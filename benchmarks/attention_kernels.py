"""Cycles of fused attention on TPUs that are not there: ours beside splash attention.

    python -m benchmarks.attention_kernels --json FILE

The compiler of libtpu schedules bundles of instructions, and a core issues one bundle
in a cycle. The listing of a kernel is cut at its branches. Each part counts as often as
its branch is taken: for every step of the grid, for tiles that are seen in part or as a
whole, and for each row of tiles. Nothing is run. Waiting for memory is not counted, and
differences of 5 % mean nothing.

A program with tiles of 1,024 compiles for about a minute.
"""

import argparse
import glob
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple

import jax

from benchmarks.compiled import compiled, SETTINGS
from benchmarks.report import markdown, write


MODULE = "benchmarks.attention_kernels"
# Tiles of 1,024 do not fit into a core of v4.
CHIPS = "v5e", "v5p", "v6e", "tpu7x"
HEADS, LENGTH, DIM, TILE = 8, 8192, 128, 1024
WHATS = {
    "splash": "splash attention, which takes no bias",
    "none": "ours, no bias",
    "t5": "ours, T5 with a trained table",
    "score": "ours, Transformer-XL's score",
}
# What expanding and folding take for a chunk of 512 places: the bundles of their loops.
EXPAND, FOLD = 212, 229


def program(tpu: str, what: str) -> None:
    """Compiles forward and backward, and prints MiB of temporaries."""
    import equinox as eqx
    import jax.numpy as jnp

    import eqx_posemb as pe

    token = jax.ShapeDtypeStruct((HEADS, LENGTH, DIM), jnp.bfloat16)
    key = jax.random.key(0)
    embedding = pe.PositionalEmbedding(
        bias=pe.T5Bias(HEADS, key=key) if what == "t5" else None,
        score=pe.TransformerXL(HEADS, DIM, 1024, key=key) if what == "score" else None,
    )
    arrays, static = eqx.partition(embedding, eqx.is_array)

    def ours(arrays, q, k, v):
        p = pe.positions.consecutive(LENGTH)
        how = dict(causal=True, implementation="pallas")
        return eqx.combine(arrays, static).attend(q, k, v, p, p, **how)

    def splash(arrays, q, k, v):
        from jax.experimental.pallas.ops.tpu import splash_attention

        names = "q kv kv_compute q_dkv kv_dkv kv_dkv_compute q_dq kv_dq"
        sizes: Any = {f"block_{name}": TILE for name in names.split()}
        sizes = splash_attention.BlockSizes(**sizes)
        mask = splash_attention.CausalMask((LENGTH, LENGTH))
        attend = splash_attention.make_splash_mha_single_device(
            splash_attention.MultiHeadMask([mask] * HEADS), block_sizes=sizes
        )
        return attend(q * DIM**-0.5, k, v)

    def both(arrays, q, k, v, d_out):
        attend = splash if what == "splash" else ours
        out, pull = jax.vjp(attend, arrays, q, k, v)
        return out, pull(d_out)

    memory = compiled(tpu, both, arrays, *[token] * 4).memory_analysis()
    print(round(memory.temp_size_in_bytes / 2**20))


class Part(NamedTuple):
    """Bundles between two branches."""

    bundles: int
    mark: str
    branch: str
    """The predicate of the branch at its end, if there is one."""


def parts(folder: str, kernel: str) -> list[Part]:
    """A kernel as libtpu lists it, cut where branches are and where they lead."""
    listings = sorted(glob.glob(f"{folder}/*{kernel}*-final_bundles.txt"))
    listings = [name for name in listings if "schedule-analysis" not in name]
    where = re.compile(r"^\s*(?:0x)?([0-9a-f]+)\s+([A-Z]{2})?:")
    marks: dict[int, str] = {}
    branches: dict[int, str] = {}
    count = address = 0
    with open(listings[-1]) as file:
        for line in file:
            if match := where.match(line):
                address = int(match[1], 16)
                count = max(count, address + 1)
                if match[2]:
                    marks[address] = match[2]
            if branch := re.search(r"sbr\.rel (\([^)]*\) )?target = \$region", line):
                # Four more bundles are issued before a branch is taken.
                branches[address + 5] = (branch[1] or "always").strip()
    cuts = sorted(x for x in {0, count, *marks, *branches} if x <= count)
    return [
        Part(end - start, marks.get(start, ""), branches.get(end, ""))
        for start, end in itertools.pairwise(cuts)
    ]


def split(listing: list[Part]) -> tuple[int, list[int]]:
    """The bundles of every step of the grid, and of each part that is entered at
    times."""
    every, current, inside, looping = 0, 0, False, False
    entered = []
    for part in listing:
        if inside and part.mark == "PF":
            entered.append(current)
            inside, current = False, 0
        looping |= part.mark == "LB" and not inside
        conditional = part.branch.startswith("(%")
        if inside and part.branch and (conditional or part.mark != "LB"):
            # Left early, before what is entered at times.
            every, current = every + current + part.bundles, 0
        elif inside:
            current += part.bundles
        elif looping:
            every += part.bundles
        inside |= conditional
    return every, entered


def cycles(folder: str, kernel: str) -> float:
    """Millions, for all heads."""
    rows = LENGTH // TILE
    whole, chunks = rows * (rows - 1) // 2, (2 * LENGTH - 128) // 512 - 1
    every, entered = split(parts(folder, kernel))
    if "splash" in kernel:
        times = [rows, whole + rows, rows]
    elif "keys" in kernel:
        times = [rows, whole, rows]
        if len(entered) == 4:
            # On some TPUs a wait for the strip, which counts for every step.
            times = [rows, rows * rows, whole, rows]
    else:
        times = [rows, whole, rows, rows]
        if len(entered) == 5:
            # A kept strip is expanded first; vectors have a gradient that starts later.
            times = [1, *times] if "forward" in kernel else [rows, 1, *times[1:]]
        if len(entered) == 6:
            # On some TPUs every step waits for the vectors.
            times = [rows * rows, rows, 1, *times[1:]]
        if len(entered) == 7:
            times = [1, rows, 1, whole, rows, rows, 1]
    steps = sum(n * bundles for n, bundles in zip(times, entered, strict=True))
    # A strip that is kept is expanded by a loop, and its gradient folded by another.
    folds = len(entered) == 7
    expands = folds or (len(entered) == 5 and "forward" in kernel)
    loops = chunks * (EXPAND * expands + FOLD * folds)
    return HEADS * (rows * rows * every + steps + loops) / 1e6


KERNELS = {
    "splash": ("splash_mha_fwd", "splash_mha_dq", "splash_mha_dkv"),
    "ours": ("attention_forward", "backward_queries", "backward_keys"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tpus", nargs="+", choices=CHIPS, default=CHIPS)
    parser.add_argument("--json", help="writes a file of the rows as well")
    parser.add_argument("--compile", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.compile:
        return program(*options.compile)
    rows: list[dict[str, object]] = []
    for tpu in options.tpus:
        for what, words in WHATS.items():
            with tempfile.TemporaryDirectory() as folder:
                flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
                command = [sys.executable, "-m", MODULE, "--compile", tpu, what]
                more = dict(JAX_PLATFORMS="cpu", LIBTPU_INIT_ARGS=flags)
                memory = subprocess.run(
                    command,
                    env=os.environ | SETTINGS | more,
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                ).stdout.strip()
                kernels = KERNELS["splash" if what == "splash" else "ours"]
                found = [cycles(folder, kernel) for kernel in kernels]
            parts = zip(("forward", "by queries", "by keys"), found, strict=True)
            row = {"tpu": tpu, "kernel": words, **dict(parts), "all": sum(found)}
            row |= {"MiB": int(memory)}
            print(markdown(row, not rows), flush=True)
            rows.append(row)
    # Nothing is run, so the machine is without effect.
    versions = f"libtpu {importlib.metadata.version('libtpu')}, jax {jax.__version__}"
    about = f"{versions}; heads {HEADS}, length {LENGTH:,}, dim {DIM}, bfloat16, causal"
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
