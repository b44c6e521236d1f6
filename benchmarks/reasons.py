"""Why not the rotary embedding that you have: the figures of the README.

    python benchmarks/reasons.py

Needs the extra `bench`. The truth is computed in integers of 128 bits.
"""

import decimal
import platform
import statistics
import time
from decimal import Decimal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

import eqx_posemb as pe


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


def print_accuracy() -> None:
    print(f"\nlargest error of cos, theta={THETA:.0f}, dim={DIM}, float32")
    print(f"{'positions below':>16} {'ours':>9} {'equinox':>9} {'transformers':>13}")
    for reach in REACHES:
        positions = sample(reach)
        exact = truth(positions)
        errors = [
            "-" if found is None else f"{np.abs(found - exact).max():.1e}"
            for found in (
                ours(positions),
                of_equinox(positions),
                of_transformers(positions),
            )
        ]
        print(f"{reach:>16,} {errors[0]:>9} {errors[1]:>9} {errors[2]:>13}")


def print_two_thetas() -> None:
    x = jnp.ones((8, DIM))
    eqx.clear_caches()
    theirs = [eqx.nn.RotaryPositionalEmbedding(DIM, t)(x) for t in (1e4, 5e5)]
    mine = [pe.rope(DIM, theta=t)(jnp.arange(8)).queries(x) for t in (1e4, 5e5)]
    print("\ntwo thetas in one process give the same output")
    print(f"{'equinox':>10}: {bool((theirs[0] == theirs[1]).all())}")
    print(f"{'ours':>10}: {bool((mine[0] == mine[1]).all())}")


def print_program_size() -> None:
    print("\nthe program that rotates 131,072 positions, before compilation")
    x, p = jnp.ones((131_072, DIM)), jnp.arange(131_072)
    for name, call, arguments in (
        ("equinox", eqx.nn.RotaryPositionalEmbedding(DIM, THETA), (x,)),
        ("ours", lambda x, p: pe.rope(DIM, theta=THETA)(p).queries(x), (x, p)),
    ):
        start = time.perf_counter()
        lowered = jax.jit(call).lower(*arguments)
        size = len(lowered.as_text()) / 2**20
        lowered.compile()
        seconds = time.perf_counter() - start
        print(f"{name:>10}: {size:8.3f} MiB of text, {seconds:.2f} s to lower, compile")


def print_table_speed() -> None:
    """Both sides interleaved, the median of the ratios of all rounds."""
    rope = pe.rope(DIM, theta=THETA)
    frequencies = jnp.asarray(rope.frequencies(), jnp.float32)

    def exact(p):
        rotation = rope(p)
        return rotation.cos, rotation.sin

    def plain(p):
        angles = p.astype(jnp.float32)[:, None] * frequencies[None]
        return jnp.cos(angles), jnp.sin(angles)

    exact, plain, p = jax.jit(exact), jax.jit(plain), jnp.arange(16_384)

    def seconds(call):
        start = time.perf_counter()
        jax.block_until_ready(call(p))
        return time.perf_counter() - start

    for call in (exact, plain):
        seconds(call)
    ratio = statistics.median(seconds(plain) / seconds(exact) for _ in range(101))
    print("\ncos and sin of 16,384 positions, 64 pairs: time of jnp.cos and jnp.sin")
    print(f"over time of exact angles: {ratio:.1f}")


if __name__ == "__main__":
    print(
        f"{platform.machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}"
    )
    print_accuracy()
    print_two_thetas()
    print_program_size()
    print_table_speed()
