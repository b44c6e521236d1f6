"""Fused kernels compiled for a TPU that is not there, run by `test_fused.py` where
`libtpu` is installed, in a process of its own."""

import os
import sys

import jax
import jax.numpy as jnp
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import eqx_posemb as pe


TOPOLOGIES = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "tpu7x": "tpu7x:2x2x1",
}
# So that libtpu asks no one about the machine that it is not on.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# Heads, heads of keys, tokens, channels of keys and of values, a dtype and rules. The
# first is compiled for every TPU.
CASES = (
    (2, 2, 1024, 128, 128, jnp.bfloat16, dict()),
    (2, 1, 1000, 192, 128, jnp.bfloat16, dict(window=300, soft_cap=30.0)),
    (2, 2, 1000, 96, 96, jnp.float32, dict(segments=True, causal=False)),
)


def compiled(device, heads, kv_heads, seq, dim, dim_v, dtype, rules):
    embedding = pe.PositionalEmbedding(bias=pe.T5Bias(heads, key=jax.random.key(0)))
    rules = dict(causal=True) | rules
    segments = rules.pop("segments", False)
    shape = jax.ShapeDtypeStruct

    def gradient(embedding, q, k, v, ids):
        p = pe.positions.consecutive(seq)
        more = dict(q_segments=ids, k_segments=ids) if segments else {}

        def loss(embedding, q, k, v):
            out = embedding.attend(
                q, k, v, p, p, implementation="pallas", block_size=256, **rules, **more
            )
            return jnp.sum(out.astype(jnp.float32) ** 2)

        return jax.grad(loss, (0, 1, 2, 3))(embedding, q, k, v)

    place = SingleDeviceSharding(device)
    call = jax.jit(gradient, in_shardings=place, out_shardings=place)
    tokens = (
        shape((heads, seq, dim), dtype),
        shape((kv_heads, seq, dim), dtype),
        shape((kv_heads, seq, dim_v), dtype),
        shape((seq,), jnp.int32),
    )
    traced = call.trace(embedding, *tokens)
    return traced.lower(lowering_platforms=("tpu",)).compile()


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(SETTINGS)
    for tpu in sys.argv[1:]:
        device = topologies.get_topology_desc(TOPOLOGIES[tpu], "tpu").devices[0]
        for case in CASES[: None if tpu == "v5e" else 1]:
            program = compiled(device, *case)
            count = program.as_text().count('custom_call_target="tpu_custom_call"')
            heads, seq = case[0], case[2]
            logits = 4 * heads * seq**2
            temporaries = program.memory_analysis().temp_size_in_bytes
            assert count == 3 and temporaries < logits, (count, temporaries)
            print(f"compiled for {tpu}", flush=True)


if __name__ == "__main__":
    main()
