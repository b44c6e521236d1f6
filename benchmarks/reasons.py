"""Why not the rotary embedding that you have: the figures of the README.

    python -m benchmarks.reasons --json benchmarks/results/reasons.json

Needs the extra `bench`. The truth is computed in integers of 128 bits.
"""

import argparse
import decimal
import importlib.metadata
from decimal import Decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import eqx_posemb as pe
from benchmarks.report import machine, write


DIM, THETA = 128, 10_000.0
REACHES = 4096, 131_072, 2**20, 2**24, 2**31
TWO_PI = 2 * Decimal("3.14159265358979323846264338327950288419716939937511")


def sample(reach: int) -> np.ndarray:
    """Positions in the upper half of those below `reach`, the last one among them."""
    drawn = np.random.default_rng(0).integers(reach // 2, reach, 500)
    return np.append(drawn, reach - 1)


def truth(positions: np.ndarray) -> np.ndarray:
    """The cosines, from turns in 128-bit fixed point."""
    with decimal.localcontext(prec=60):
        turns = [
            int(Decimal(THETA) ** (Decimal(-2 * i) / DIM) / TWO_PI * 2**128)
            for i in range(DIM // 2)
        ]
    phases = [[int(p) * t % 2**128 / 2**128 for t in turns] for p in positions]
    return np.cos(2 * np.pi * np.array(phases))


def ours(positions: np.ndarray) -> np.ndarray:
    rope = jax.jit(lambda p: pe.rope(DIM, theta=THETA)(p).cos)
    return np.asarray(rope(jnp.asarray(positions.astype(np.int32))))


def of_equinox(positions: np.ndarray) -> np.ndarray | None:
    """Equinox takes no positions: its table is built up to the last one."""
    if positions.max() > 2**20:  # 8 GiB of table, and more to compute it.
        return None
    table = eqx.nn.RotaryPositionalEmbedding.precompute_freqs_cis(
        DIM, int(positions.max()) + 1, THETA, jnp.dtype(jnp.float32)
    )
    return np.asarray(table[0])[positions]


def of_transformers(positions: np.ndarray) -> np.ndarray:
    config = LlamaConfig(
        hidden_size=DIM,
        num_attention_heads=1,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
    )
    rotary = LlamaRotaryEmbedding(config)
    cos, _ = rotary(torch.zeros(1), torch.from_numpy(positions)[None])
    return cos[0, :, : DIM // 2].numpy()


def accuracy():
    """The largest error of a cosine for positions below each number."""
    calls = dict(eqx_posemb=ours, Equinox=of_equinox, transformers=of_transformers)
    for reach in REACHES:
        positions = sample(reach)
        exact = truth(positions)
        found = {name: call(positions) for name, call in calls.items()}
        errors = {
            name: None if cos is None else float(np.abs(cos - exact).max())
            for name, cos in found.items()
        }
        yield dict(what="largest error of a cosine", positions=reach, **errors)


def two_thetas():
    """Whether embeddings with two thetas have the same output in one process."""
    x = jnp.ones((8, DIM))
    eqx.clear_caches()
    theirs = [eqx.nn.RotaryPositionalEmbedding(DIM, t)(x) for t in (1e4, 5e5)]
    mine = [pe.rope(DIM, theta=t)(jnp.arange(8)).queries(x) for t in (1e4, 5e5)]
    yield dict(
        what="two thetas have the same output",
        positions=8,
        eqx_posemb=bool((mine[0] == mine[1]).all()),
        Equinox=bool((theirs[0] == theirs[1]).all()),
    )


def program_size():
    """MiB of text before compilation."""
    x, p = jnp.ones((131_072, DIM)), jnp.arange(131_072)
    calls = dict(
        eqx_posemb=(lambda x, p: pe.rope(DIM, theta=THETA)(p).queries(x), (x, p)),
        Equinox=(eqx.nn.RotaryPositionalEmbedding(DIM, THETA), (x,)),
    )
    sizes = {
        name: len(jax.jit(call).lower(*arguments).as_text()) / 2**20
        for name, (call, arguments) in calls.items()
    }
    yield dict(what="MiB of the program's text", positions=len(p), **sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="writes a file of the rows as well")
    options = parser.parse_args()
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}"
        for name in ("equinox", "transformers")
    )
    about = f"{machine()}, {versions}; theta {THETA:.0f}, dim {DIM}, float32"
    print(about)
    rows = []
    for part in accuracy, two_thetas, program_size:
        for row in part():
            rows.append(row)
            values = {name: value for name, value in row.items() if value is not None}
            print(", ".join(f"{name} {value}" for name, value in values.items()))
    write(options.json, about, rows)


if __name__ == "__main__":
    main()
