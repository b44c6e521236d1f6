"""Ring attention on eight devices, run by `test_ring.py` in processes of its own.

`python -m tests.ring NAMES [COORDINATOR PROCESSES ID]`: with the last three, this is
one of several processes, which have the devices together.
"""

import re
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.experimental.multihost_utils import process_allgather
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import eqx_posemb as pe


N, HEADS, SHARDS = 64, 4, 8


def main(name: str) -> None:
    mesh = jax.make_mesh((SHARDS,), ("seq",), axis_types=(AxisType.Auto,))
    embedding = pe.make(name, heads=HEADS, head_dim=8, dim=32, length=N, key=jr.key(0))
    keys = jr.split(jr.key(1), 3)
    q = jr.normal(keys[0], (HEADS, N, 8))
    k, v = (jr.normal(key, (HEADS // 2, N, 8)) for key in keys[1:])
    # Sinks are learned beside the embedding, and every device has them.
    given = embedding, jr.normal(keys[0], (HEADS,))
    arrays, static = eqx.partition(given, eqx.is_array)
    tokens, heads = P("seq"), P(None, "seq")

    def attend(arrays, q, k, v, p, ids, axis_name=None, length=None):
        embedding, sinks = eqx.combine(arrays, static)
        return embedding.attend(
            q,
            k,
            v,
            p,
            p,
            causal=True,
            q_segments=ids,
            k_segments=ids,
            sinks=sinks,
            return_lse=True,
            implementation="dense",
            axis_name=axis_name,
            length=length,
            block_size=3,
        )

    specs = (P(), heads, heads, heads, tokens, tokens)

    def ring(*inputs, length=None):
        here = lambda *x: attend(*x, axis_name="seq", length=length)
        whole = jax.shard_map(here, mesh=mesh, in_specs=specs, out_specs=(heads, heads))
        return whole(*inputs)

    def gradient(attend):
        def loss(arrays, q, k, v, p, ids):
            out, lse = attend(arrays, q, k, v, p, ids)
            return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(lse)), (out, lse)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))

    whole, in_ring = gradient(attend), gradient(ring)
    for order, p in (
        ("plain", jnp.arange(N)),
        ("zigzag", pe.positions.zigzag(N, SHARDS)),
    ):
        inputs = (arrays, q, k, v, p, p // 24)
        expected = whole(*inputs)
        # Each process has the whole, and gives its devices their shards.
        sharded = [
            jax.tree.map(
                lambda x, s=spec: jax.device_put(np.asarray(x), NamedSharding(mesh, s)),
                x,
            )
            for x, spec in zip(inputs, specs, strict=True)
        ]
        found = process_allgather(in_ring(*sharded), tiled=True)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            error = float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
            assert error < 1e-5, (name, order, a.shape, error)
        if jax.process_index() == 0:
            print(
                f"{name}, {order}: {jax.device_count()} devices of "
                f"{jax.process_count()} process(es) agree with one"
            )
    # Where nobody says how long the sequence is, schedules that read it ask around.
    known = jax.jit(lambda *x: ring(*x, length=N))
    program = known.lower(*sharded).compile().as_text()
    exchanges = set(
        re.findall(r" (all-\w+|collective-\w+|reduce-scatter|send|recv)[(]", program)
    )
    assert exchanges == {"collective-permute"}, exchanges


if __name__ == "__main__":
    if len(sys.argv) > 2:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        coordinator, processes, process = sys.argv[2:]
        jax.distributed.initialize(coordinator, int(processes), int(process))
    for name in sys.argv[1].split(","):
        main(name)
