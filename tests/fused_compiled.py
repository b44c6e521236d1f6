"""Fused kernels compiled for a TPU that is not there, run by `test_fused.py` where
`libtpu` is installed, in a process of its own."""

import sys

import jax
import jax.numpy as jnp

import eqx_posemb as pe
from benchmarks.compiled import compiled


# Heads, heads of keys, tokens, channels of keys and of values, a dtype and rules. The
# first is compiled for every TPU.
CASES = (
    (2, 2, 1024, 128, 128, jnp.bfloat16, dict()),
    (2, 1, 1000, 192, 128, jnp.bfloat16, dict(window=300, soft_cap=30.0)),
    (2, 2, 1000, 96, 96, jnp.float32, dict(segments=True, causal=False)),
    (2, 1, 1000, 64, 128, jnp.bfloat16, dict(score=True)),
)


def program(tpu, heads, kv_heads, seq, dim, dim_v, dtype, rules):
    key, rules = jax.random.key(0), dict(causal=True) | rules
    embedding = pe.PositionalEmbedding(bias=pe.T5Bias(heads, key=key))
    if rules.pop("score", False):
        score = pe.TransformerXL(heads, dim, dim, key=key)
        embedding = pe.PositionalEmbedding(score=score)
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

    tokens = (
        shape((heads, seq, dim), dtype),
        shape((kv_heads, seq, dim), dtype),
        shape((kv_heads, seq, dim_v), dtype),
        shape((seq,), jnp.int32),
    )
    return compiled(tpu, gradient, embedding, *tokens)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    for tpu in sys.argv[1:]:
        for case in CASES[: None if tpu == "v5e" else 1]:
            made = program(tpu, *case)
            count = made.as_text().count('custom_call_target="tpu_custom_call"')
            heads, seq = case[0], case[2]
            logits = 4 * heads * seq**2
            temporaries = made.memory_analysis().temp_size_in_bytes
            assert count == 3 and temporaries < logits, (count, temporaries)
            print(f"compiled for {tpu}", flush=True)


if __name__ == "__main__":
    main()
