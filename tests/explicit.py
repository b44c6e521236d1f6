"""Every variant on a mesh of Explicit axes, run by `test_ring.py` on eight devices
in a process of its own.

What is wrong with explicit shardings is wrong while JAX traces: most of it is traced
alone, and representatives of each path are compiled and compared with one device.
"""

import collections
import re
from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import eqx_posemb as pe
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
    if kind == "sinks":
        rules |= dict(sinks=normal((HEADS,)), return_lse=True)
        kind = "auto"
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
        # Results are sharded as queries or tokens, and gradients as arguments.
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


def alone():
    """What is called without `attend`, at positions that are sharded."""
    names = "t5", "swin", "beit", "levit", "t5_grid", "tupe"
    biases = {name: build(name).bias for name in names}
    biases["grid_alibi"] = pe.GridALiBi(2)
    biases["reset"] = pe.ResetBias(biases["t5"], HEADS)
    positions = {name: at(name, np.arange(N)) for name in names}
    positions |= {"grid_alibi": positions["swin"], "reset": positions["t5"]}
    key, weights = jax.random.key(0), normal((2, N, N))
    alibi = pe.PositionalEmbedding(bias=pe.ALiBi(2))
    mesh = jax.make_mesh((8,), ("seq",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        calls = [
            lambda put: biases["t5"](*put((jnp.arange(N),) * 2)),
            lambda put: eqx.filter_grad(
                lambda t5: jnp.sum(t5(*put((jnp.arange(N),) * 2)) ** 2)
            )(biases["t5"]),
            lambda put: pe.positions.distance(*put((jnp.arange(N),) * 2)),
            lambda put: pe.positions.segment_positions(put(jnp.arange(N) // 4)),
            lambda put: pe.positions.left_padded_positions(put(jnp.arange(N) > 2)),
            lambda put: pe.positions.bilevel_positions(put(jnp.arange(N) % 3 == 1)),
            lambda put: pe.positions.pose_positions(
                put(jnp.arange(N)), longest=99, key=key
            ),
            lambda put: pe.positions.cream_positions(
                put(jnp.arange(2 * N)), longest=2 * N, key=key
            ),
            lambda put: pe.positions.abacus_positions(put(jnp.arange(N) % 3 > 0)),
            lambda put: pe.positions.coupled_positions(
                put(jnp.arange(N) % 3 > 0), lowest_first=put(jnp.arange(N) > 4)
            ),
            lambda put: pe.positions.prefixed(put(positions["swin"])),
            lambda put: pe.positions.zero_prefixed(put(positions["swin"]), 3),
            lambda put: pe.positions.randomized_positions(
                put(jnp.arange(N)), longest=99, key=key
            ),
            lambda put: pe.functional.shaw_values(
                put(weights, None, "seq"),
                normal((9, 4)),
                *put((jnp.arange(N),) * 2),
                back=4,
            ),
            lambda put: alibi.for_kernel(
                *put((normal((2, N, 4)),) * 3, None, "seq"),
                *put((jnp.arange(N),) * 2),
            )[:3],
        ]
        calls += [
            lambda put, name=name, bias=bias: bias(*put((positions[name],) * 2))
            for name, bias in biases.items()
        ]

        def put(tree, *spec):
            sharding = NamedSharding(mesh, P(*spec or ("seq",)))
            return jax.tree.map(lambda x: jax.device_put(x, sharding), tree)

        found = [jax.tree.map(np.asarray, call(put)) for call in calls]
    for call, of_shards in zip(calls, found, strict=True):
        alone = jax.tree.leaves(call(lambda tree, *spec: tree))
        for a, b in zip(jax.tree.leaves(of_shards), alone, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    print(f"{len(calls)} alone")


def compare(mesh):
    compared = (
        ("learned", "embed"),
        ("yarn", "rotation"),
        ("t5", "dense"),
        ("rope", "blockwise"),
        ("rope", "sinks"),
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


def exchanges(attend, given):
    """How often the compiled program exchanges, forward and backward, by kind."""

    def both(q, k, v, p, d_out):
        out, pull = jax.vjp(lambda q, k, v: attend(q, k, v, p), q, k, v)
        return out, pull(d_out)

    q, k, v, _ = (x.sharding for x in given)
    compiled = jax.jit(both, out_shardings=(q, (q, k, v)))
    text = compiled.lower(*given, given[0]).compile().as_text()
    return collections.Counter(EXCHANGE.findall(text))


def count_exchanges():
    """Those of attention by hand: keys and values are gathered, and positions; their
    gradients are summed."""
    for axis_type in AxisType.Explicit, AxisType.Auto:
        mesh = jax.make_mesh((8,), ("seq",), axis_types=(axis_type,))
        with jax.set_mesh(mesh):
            for name in ("t5", "rope", "shaw", "transformer_xl", "deberta"):
                static, (arrays, q, _, _, _, p, _) = inputs(name, mesh, ("seq",))

                def attend(q, k, v, p, static=static, arrays=arrays):
                    embedding = eqx.combine(arrays, static)
                    return embedding.attend(
                        q, k, v, p, p, implementation="dense", causal=True
                    )

                given = q[0], q[0] + 1, q[0] + 2, p
                found = exchanges(attend, given)
                if name == "transformer_xl" and axis_type == AxisType.Auto:
                    # Without knowing of shards, it gathers a number for each key.
                    hand = partial(transformer_xl_by_hand, arrays.score)
                    assert found <= exchanges(hand, given), found
                    continue
                assert found.keys() <= {"all-gather", "all-reduce"}, (name, found)
                assert found["all-gather"] <= 3, (name, found)
                # DeBERTa's keys have a gradient by each of their two products.
                most = 3 if name == "deberta" else 1
                assert found["all-reduce"] <= most, (name, found)
    print("exchanges as by hand")


def transformer_xl_by_hand(score, q, k, v, p):
    """As in the authors' code, whose `_rel_shift` aligns distances."""
    vectors = jnp.einsum("hdf,nf->hnd", score.weight, normal((N, DIM)))
    far = jnp.einsum("hqd,hnd->hqn", q + score.v[:, None], vectors)
    far = jnp.pad(far, ((0, 0), (0, 0), (1, 0))).reshape(HEADS, N + 1, N)[:, 1:]
    near = jnp.einsum("hqd,hkd->hqk", q + score.u[:, None], k)
    logits = near + far.reshape(HEADS, N, N)
    logits = jnp.where(jnp.tril(jnp.ones((N, N), bool)), logits, -1e30)
    return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(logits), v)


def more_heads(name):
    """The arrays of a variant with twice as many heads, without numbers."""
    sizes = dict(heads=2 * HEADS, head_dim=HEAD_DIM, dim=DIM, length=LENGTH)
    make = lambda: pe.make(name, key=jax.random.key(7), **sizes)
    return jax.tree.leaves(eqx.filter_eval_shape(make))


def over_heads():
    """Every embedding with parameters for heads, some of them on each device."""
    given, specs, statics = {}, {}, {}
    for name in NAMES:
        arrays, static = eqx.partition(build(name), eqx.is_array)
        leaves, structure = jax.tree.flatten(arrays)
        # The axis of heads is longer where there are more of them.
        of_heads = [
            P(
                *(
                    "heads" if a < b else None
                    for a, b in zip(x.shape, y.shape, strict=True)
                )
            )
            for x, y in zip(leaves, more_heads(name), strict=True)
        ]
        if any("heads" in spec for spec in of_heads):
            given[name], statics[name] = arrays, static
            specs[name] = jax.tree.unflatten(structure, of_heads)
    assert {"t5", "swin", "tupe", "enformer", "wavlm", "mixed_rope"} <= given.keys()
    given["alibi"], specs["alibi"] = jnp.array(pe.ALiBi(HEADS).slopes), P("heads")
    q, k, v = (normal((HEADS, N, HEAD_DIM), seed=seed) for seed in range(3))
    positions = {name: at(name, np.arange(N)) for name in given}

    def of_all(given, q, k, v, x, positions):
        found = {}
        for name, p in positions.items():
            if name == "alibi":
                bias = pe.ALiBi(slopes=given[name])
                embedding = pe.PositionalEmbedding(bias=bias)
            else:
                embedding = eqx.combine(given[name], statics[name])
            # The gates of WavLM read the channels of each head.
            state = x if name != "wavlm" else x[:, : q.shape[0] * HEAD_DIM]
            found[name] = embedding.attend(
                q, k, v, p, p, length=LENGTH, **dict.fromkeys(embedding.reads, state)
            )
        return found

    mesh = jax.make_mesh((2,), ("heads",), axis_types=(AxisType.Auto,))
    x = normal((N, DIM))
    # The same for all heads, for each device to read the first of them.
    x = jnp.concatenate([x[:, : DIM // 2]] * 2, axis=1)
    heads, whole = P("heads"), P()
    in_parts = jax.shard_map(
        of_all,
        mesh=mesh,
        in_specs=(specs, heads, heads, heads, whole, whole),
        out_specs=heads,
    )
    inputs = given, q, k, v, x, positions
    found, expected = jax.jit(in_parts)(*inputs), jax.jit(of_all)(*inputs)
    for name in given:
        np.testing.assert_allclose(found[name], expected[name], atol=1e-6, err_msg=name)
    print(f"{len(given)} by heads")


def ring_by_an_order():
    """M-RoPE has no order of its own to be causal by, around a ring neither."""
    mesh = jax.make_mesh((4,), ("seq",), axis_types=(AxisType.Auto,))
    embedding, order = build("mrope"), jnp.arange(16)
    p = pe.positions.mrope_positions([3, (1, 3, 3), 4])
    q, k, v = (normal((HEADS, 16, HEAD_DIM), seed=seed) for seed in range(3))

    def attend(q, k, v, p, order, axis_name=None):
        rules = dict(causal=True, window=5, q_order=order, k_order=order)
        return embedding.attend(q, k, v, p, p, axis_name=axis_name, **rules)

    tokens, heads = P("seq"), P(None, "seq")
    ring = jax.shard_map(
        partial(attend, axis_name="seq"),
        mesh=mesh,
        in_specs=(heads, heads, heads, tokens, tokens),
        out_specs=heads,
    )
    inputs = q, k, v, p, order
    np.testing.assert_allclose(jax.jit(ring)(*inputs), attend(*inputs), atol=1e-5)
    print("ring by an order")


def main() -> None:
    # Before there is a mesh for what is built to be on.
    over_heads()
    alone()
    ring_by_an_order()
    mesh = jax.make_mesh((2, 2, 2), ALL, axis_types=(AxisType.Explicit,) * 3)
    with jax.set_mesh(mesh):
        trace(mesh)
        compare(mesh)
    count_exchanges()


if __name__ == "__main__":
    main()
