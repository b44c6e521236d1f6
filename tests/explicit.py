"""Every variant on a mesh of Explicit axes, run by `test_ring.py` on eight devices
in a process of its own.

What is wrong with explicit shardings is wrong while JAX traces: most of it is traced
alone, and representatives of each path are compiled and compared with one device.
"""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from tests.helpers import (
    at,
    build,
    DIM,
    HEAD_DIM,
    HEADS,
    LENGTH,
    NAMES,
    normal,
    ROWS,
)


BATCH, N = 2, 8
ALL = ("data", "heads", "seq")
EXCHANGE = re.compile(
    r" (all-\w+|collective-\w+|reduce-scatter|send|recv)(?:-start)?[(]"
)


def inputs(name, mesh, axes=ALL):
    """An embedding, queries, keys, values and tokens with their positions and segments,
    sharded over these axes of the mesh."""
    data, heads, seq = (axis if axis in axes else None for axis in ALL)
    put = lambda x, *spec: jax.device_put(x, NamedSharding(mesh, P(*spec)))
    kv = (BATCH, HEADS // 2, N, HEAD_DIM)
    q, k, v = (
        put(normal(shape, seed=seed), data, heads, seq)
        for seed, shape in enumerate(((BATCH, HEADS, N, HEAD_DIM), kv, kv))
    )
    x = put(normal((BATCH, N, DIM), seed=4), data, seq)
    p, segments = put(at(name, np.arange(N)), seq), put(jnp.arange(N) // 4, seq)
    arrays, static = eqx.partition(build(name), eqx.is_inexact_array)
    return static, (jax.tree.map(put, arrays), q, k, v, x, p, segments)


def call(static, kind, arrays, q, k, v, x, p, segments):
    embedding = eqx.combine(arrays, static)
    states = lambda x: dict.fromkeys(embedding.reads, x)
    if kind == "embed":
        return jax.vmap(lambda x: embedding.embed(x, p))(x)
    if kind == "rotation":
        placed = embedding.at(p, length=LENGTH)
        return jax.vmap(placed.queries)(q), jax.vmap(placed.keys)(k)
    if kind == "logits":
        of_one = lambda q, k, x: embedding.logits(
            q, k, p, p, length=LENGTH, **states(x)
        )
        return jax.vmap(of_one)(q, k, x)
    rules = dict(q_segments=segments, k_segments=segments, length=LENGTH)
    if p.ndim == 1:
        rules |= dict(causal=True, window=5)
    of_one = lambda q, k, v, x: embedding.attend(
        q, k, v, p, p, implementation=kind, block_size=4, **rules, **states(x)
    )
    return jax.vmap(of_one)(q, k, v, x)


def gradient(static, kind):
    def loss(*arrays):
        out = call(static, kind, *arrays)
        return sum(jnp.sum(jnp.sin(x)) for x in jax.tree.leaves(out)), out

    return jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4), has_aux=True)


def kinds(name):
    """What is traced of every variant: its logits are traced with dense attention."""
    row = ROWS[name]
    if row.place == "encoding":
        return ("embed",)
    turns = row.place == "rotary" and callable(build(name).rotary)
    return ("rotation", "dense") if turns else ("dense",)


def trace(mesh):
    traced = [(name, kind) for name in NAMES for kind in kinds(name)]
    traced += [(name, "logits") for name in ("rope", "alibi", "swin", "shaw")]
    traced += [(name, "blockwise") for name in ("rope", "alibi", "transformer_xl")]
    for name, kind in traced:
        static, arrays = inputs(name, mesh)
        (_, out), grads = jax.eval_shape(gradient(static, kind), *arrays)
        if kind == "rotation":
            out, _ = out
        # The result is sharded as queries are, or tokens; gradients as what they are by.
        like = arrays[4] if kind == "embed" else arrays[1]
        count = 2 if kind == "embed" else 3

        def spec(x):
            found = tuple(x.sharding.spec)
            return found + (None,) * (x.ndim - len(found))

        assert spec(out)[:count] == spec(like)[:count], (name, kind, spec(out))
        pairs = zip(jax.tree.leaves(arrays[:5]), jax.tree.leaves(grads), strict=True)
        for x, found in pairs:
            assert spec(found) == spec(x), (name, kind, spec(found), spec(x))
    print(f"{len(traced)} traced")


def compare(mesh):
    compared = (
        ("learned", "embed"),
        ("yarn", "rotation"),
        ("t5", "dense"),
        ("shaw", "dense"),
        ("rope", "blockwise"),
    )
    for name, kind in compared:
        static, arrays = inputs(name, mesh)
        alone = jax.tree.map(np.asarray, arrays)
        found = jax.jit(gradient(static, kind))(*arrays)
        with jax.set_mesh(jax.make_mesh((1,), ("one",), axis_types=(AxisType.Auto,))):
            expected = jax.jit(gradient(static, kind))(*alone)
        for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4, err_msg=name)
    print(f"{len(compared)} as on one device")


def count_exchanges():
    """Those of attention by hand: keys and values are gathered, and positions."""
    for axis_type in AxisType.Explicit, AxisType.Auto:
        mesh = jax.make_mesh((8,), ("seq",), axis_types=(axis_type,))
        names = ("rope", "t5") + ("shaw",) * (axis_type == AxisType.Explicit)
        with jax.set_mesh(mesh):
            for name in names:
                static, (arrays, q, k, _, x, p, ids) = inputs(name, mesh, ("seq",))
                of_one = lambda q, k, p, static=static, arrays=arrays: eqx.combine(
                    arrays, static
                ).attend(q, k, k + 1, p, p, implementation="dense", causal=True)
                text = jax.jit(of_one).lower(q[0], k[0], p).compile().as_text()
                found = EXCHANGE.findall(text)
                assert found == ["all-gather"] * len(found), (name, found)
                assert len(found) <= 3, (name, found)
    print("exchanges as by hand")


def main() -> None:
    mesh = jax.make_mesh((2, 2, 2), ALL, axis_types=(AxisType.Explicit,) * 3)
    with jax.set_mesh(mesh):
        trace(mesh)
        compare(mesh)
    count_exchanges()


if __name__ == "__main__":
    main()
