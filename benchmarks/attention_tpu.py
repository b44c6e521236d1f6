"""Attention by blocks as it is compiled for TPUs: temporary memory, without a TPU.

The compiler of libtpu runs on any machine. What it says of a program is what the
program takes when it runs; of time it says nothing. Beside
`attend(implementation="blockwise")` is the dense form, which holds all logits.
"""

import argparse
import os

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

import eqx_posemb as pe


HEADS, HEAD_DIM = 8, 64
EMBEDDINGS = ("alibi", "t5", "rope")
# Of each generation, the smallest part that the compiler knows.
TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v6e": "v6e:2x2"}
# So that libtpu asks no one about the machine that it is not on.
SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def temporaries(name, length, dtype, implementation, backward, device) -> int:
    """MiB of the compiled program."""
    embedding = pe.make(
        name,
        heads=HEADS,
        head_dim=HEAD_DIM,
        dim=HEADS * HEAD_DIM,
        length=length,
        key=jr.key(0),
    )
    arrays, static = eqx.partition(embedding, eqx.is_array)

    def attend(arrays, q, k, v, p):
        embedding = eqx.combine(arrays, static)
        return embedding.attend(
            q, k, v, p, p, causal=True, implementation=implementation
        )

    def gradient(arrays, q, k, v, p):
        def loss(arrays, q, k, v):
            return jnp.sum(attend(arrays, q, k, v, p).astype(jnp.float32) ** 2)

        return jax.grad(loss, argnums=(0, 1, 2, 3))(arrays, q, k, v)

    token = jax.ShapeDtypeStruct((HEADS, length, HEAD_DIM), dtype)
    inputs = (arrays, token, token, token, jax.ShapeDtypeStruct((length,), jnp.int32))
    call = jax.jit(
        gradient if backward else attend, in_shardings=SingleDeviceSharding(device)
    )
    lowered = call.trace(*inputs).lower(lowering_platforms=("tpu",))
    memory = lowered.compile().memory_analysis()
    assert memory is not None
    return round(memory.temp_size_in_bytes / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--embeddings", nargs="+", default=EMBEDDINGS)
    parser.add_argument("--lengths", nargs="+", type=int, default=(8192,))
    parser.add_argument("--tpus", nargs="+", default=("v5e",), choices=TOPOLOGIES)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    os.environ.update(SETTINGS)
    print(f"jax {jax.__version__}; heads {HEADS}, dim {HEAD_DIM}, {options.dtype}")
    print("causal; MiB of temporaries, compiled ahead of time")
    print("| TPU | embedding | length | pass | blockwise | dense |")
    print("|---|---|---:|---|---:|---:|")
    for tpu in options.tpus:
        device = topologies.get_topology_desc(TOPOLOGIES[tpu], "tpu").devices[0]
        for name in options.embeddings:
            for length in options.lengths:
                for backward in (False, True):
                    sizes = []
                    for implementation in "blockwise", "dense":
                        try:
                            size = temporaries(
                                name,
                                length,
                                jnp.dtype(options.dtype),
                                implementation,
                                backward,
                                device,
                            )
                            sizes.append(f"{size:,}")
                        except jax.errors.JaxRuntimeError as error:
                            if "RESOURCE_EXHAUSTED" not in str(error):
                                raise
                            sizes.append("does not fit")
                    which = "both" if backward else "forward"
                    print(
                        f"| {tpu} | {name} | {length:,} | {which} | "
                        f"{' | '.join(sizes)} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
