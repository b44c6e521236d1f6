"""Fused kernels of sharded arrays, run by `test_fused.py` on four devices in a process
of its own."""

import math
import re
import warnings

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import eqx_posemb as pe
from tests.helpers import normal
from tests.test_fused import assert_same
from tests.test_fused_choice import kernels


HEADS, SEQ, DIM = 8, 1024, 8
# JAX 0.12 asks for the kind of a GPU, which no mesh of CPUs names.
A_GPU_NEEDS_NO_NAME = jax.__version_info__ < (0, 11)
EMBEDDING = pe.PositionalEmbedding(bias=pe.T5Bias(HEADS, key=jax.random.key(0)))


def attend(embedding, x, implementation, keys=None):
    p = pe.positions.consecutive(SEQ)
    one = lambda x, k: embedding.attend(
        x, k, k, p, p, causal=True, implementation=implementation
    )
    return jax.vmap(one)(x, x if keys is None else keys)


def main() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    x = normal((4, HEADS, SEQ, DIM))

    def gradient(implementation, shard):
        def of(embedding, x):
            call = lambda embedding, x: attend(embedding, x, implementation)
            if shard:
                specs = P(), P("data")
                call = jax.shard_map(
                    call, mesh=mesh, in_specs=specs, out_specs=P("data")
                )
            return jnp.sum(call(embedding, x) ** 2)

        return jax.value_and_grad(of, (0, 1))

    found = jax.jit(gradient("pallas", True))(EMBEDDING, x)
    expected = jax.jit(gradient("blockwise", False))(EMBEDDING, x)
    assert_same(found, expected, bound=1e-4)
    print("shards are as the whole")
    assert kernels(gradient("auto", True), "tpu", EMBEDDING, x) == 3
    if A_GPU_NEEDS_NO_NAME:
        assert kernels(gradient("pallas", True), "cuda", EMBEDDING, x) == 4
    print("shards have kernels")
    of_ring(mesh)
    of_explicit_axes()
    sharded = jax.device_put(x, NamedSharding(mesh, P("data")))
    assert kernels(gradient("auto", False), "tpu", EMBEDDING, sharded) == 0
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for platform in "tpu", "cuda":
            assert kernels(gradient("pallas", False), platform, EMBEDDING, sharded) == 0
    assert "jax.shard_map" in str(said[0].message)
    print("what the compiler shards has none")


def of_explicit_axes() -> None:
    """Batch and heads sharded over the default axes of a mesh: every device has the
    kernels of its part, and exchanges nothing but what belongs to parameters."""
    mesh = jax.make_mesh((2, 2), ("data", "heads"))
    x = normal((2, HEADS, SEQ, DIM))

    def gradient(implementation):
        of = lambda embedding, x: jnp.sum(attend(embedding, x, implementation) ** 2)
        return jax.value_and_grad(of, (0, 1))

    expected = jax.jit(gradient("blockwise"))(EMBEDDING, x)
    with jax.set_mesh(mesh):
        sharded = jax.device_put(x, NamedSharding(mesh, P("data", "heads")))
        program = jax.jit(gradient("pallas")).lower(EMBEDDING, sharded).compile()
        assert_same(program(EMBEDDING, sharded), expected, bound=1e-4)
        sizes = re.findall(r"f32\[([\d,]*)\]\S* all-\w+\(", program.as_text())
        counts = [math.prod(map(int, filter(None, x.split(",")))) for x in sizes]
        assert counts and max(counts) <= EMBEDDING.bias.weight.size, counts
        assert kernels(gradient("auto"), "tpu", EMBEDDING, sharded) == 3
        # An array from outside of the mesh is whole on every device.
        assert kernels(gradient("auto"), "tpu", EMBEDDING, x) == 3
        # Devices may share a head of keys.
        shared = jax.device_put(x[:, :1], NamedSharding(mesh, P("data")))
        of = lambda *x: jnp.sum(attend(EMBEDDING, x[0], "auto", x[1]) ** 2)
        assert kernels(jax.grad(of, (0, 1)), "tpu", sharded, shared) == 3
        # Attention to keys of other devices has no kernel of one device.
        in_sequence = jax.device_put(x, NamedSharding(mesh, P("data", None, "heads")))
        assert kernels(gradient("auto"), "tpu", EMBEDDING, in_sequence) == 0
    print("Explicit axes have kernels")


def of_ring(mesh) -> None:
    """The sequence sharded, with a kernel for each shard of keys that comes by."""
    tokens = normal((3, HEADS, SEQ, DIM))

    def gradient(implementation, axis_name, dtype=jnp.float32):
        def attend(learned, q, k, v, ids):
            embedding, sinks = learned
            count = q.shape[1]
            first = 0 if axis_name is None else jax.lax.axis_index(axis_name) * count
            p = pe.positions.consecutive(count, first)
            rules = dict(causal=True, window=300, q_segments=ids, k_segments=ids)
            return embedding.attend(
                *(x.astype(dtype) for x in (q, k, v)),
                p,
                p,
                implementation=implementation,
                axis_name=axis_name,
                sinks=sinks,
                **rules,
            )

        def of(learned, *tokens):
            call, ids = attend, jnp.arange(SEQ, dtype=jnp.int32) // 700
            if axis_name is not None:
                of_tokens = P(None, axis_name)
                call = jax.shard_map(
                    attend,
                    mesh=mesh,
                    in_specs=(P(), *[of_tokens] * 3, P(axis_name)),
                    out_specs=of_tokens,
                )
            return jnp.sum(call(learned, *tokens, ids).astype(jnp.float32) ** 2)

        return jax.value_and_grad(of, (0, 1, 2, 3))

    learned = EMBEDDING, normal((HEADS,))
    expected = jax.jit(gradient("blockwise", None))(learned, *tokens)
    found = jax.jit(gradient("pallas", "data"))(learned, *tokens)
    assert_same(found, expected, bound=1e-4)
    for dtype in jnp.float32, jnp.bfloat16:
        in_ring = gradient("pallas", "data", dtype)
        assert kernels(in_ring, "tpu", learned, *tokens) == 3
        if A_GPU_NEEDS_NO_NAME:
            assert kernels(in_ring, "cuda", learned, *tokens) == 4
    print("a ring of kernels is as the whole")


if __name__ == "__main__":
    jax.config.update("jax_numpy_dtype_promotion", "strict")
    jax.config.update("jax_numpy_rank_promotion", "raise")
    main()
