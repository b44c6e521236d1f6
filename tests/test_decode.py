"""A step of decoding reads its cache once, whatever the embedding, and no more."""

import runpy
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import eqx_posemb as pe


EXAMPLE = runpy.run_path(str(Path(__file__).parent.parent / "examples/decode.py"))
HEADS, DIM = 8, 64


def costs(name, size):
    """Of the compiled step, next to those of reading the cache once: bytes, operations
    next to a product with each of its numbers, and temporary bytes."""
    embedding = pe.make(
        name, heads=HEADS, head_dim=DIM, dim=HEADS * DIM, length=64, key=jr.key(0)
    )
    arrays, static = eqx.partition(embedding, eqx.is_array)
    step = lambda arrays, *x: EXAMPLE["step"](eqx.combine(arrays, static), *x)
    cache = jax.eval_shape(lambda: EXAMPLE["empty"](HEADS, size, DIM))
    token = jax.ShapeDtypeStruct((HEADS, DIM), jnp.float32)
    position = jax.ShapeDtypeStruct((), jnp.int32)
    # The cache is written into, and not copied.
    lowered = jax.jit(step, donate_argnums=1).lower(
        arrays, cache, token, token, token, position
    )
    compiled = lowered.compile()
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    assert cost is not None and memory is not None
    numbers = cache.k.size + cache.v.size
    return (
        cost["bytes accessed"] / (4 * numbers),
        cost["flops"] / (2 * numbers),
        memory.temp_size_in_bytes / (4 * numbers),
    )


@pytest.mark.parametrize(
    "name, bounds",
    [
        ("rope", (1.1, 1.1, 0.03)),
        ("alibi", (1.1, 1.1, 0.03)),
        # Whether its bias is -inf takes two passes more over the logits, of one number
        # for each head and key, next to 2 * 64 numbers of the cache: 1.6 % each.
        ("t5", (1.12, 1.1, 0.032)),
        # The features of each distance, `dim` of them, which all heads weight.
        ("transformer_xl", (3.0, 17, 0.6)),
    ],
)
def test_a_step_reads_the_cache_once(name, bounds):
    short, long = costs(name, 1024), costs(name, 4096)
    for cost, of_long, bound in zip(short, long, bounds, strict=True):
        assert cost <= bound, (short, bounds)
        assert of_long <= 1.02 * cost, (short, long)
