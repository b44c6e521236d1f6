"""A sequence over several devices, and over several processes."""

import os
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import eqx_posemb as pe
from tests.helpers import at, build, Layer, NAMES, tokens


ROOT = Path(__file__).parent.parent
LIMIT = 600  # Seconds.


def start(
    devices: int, *arguments: str, module: str = "tests.ring", **variables: str
) -> subprocess.Popen[str]:
    """A module in a process that has so many devices."""
    environment = (
        os.environ
        | variables
        | {
            "JAX_PLATFORMS": "cpu",
            "PYTHONPATH": str(ROOT),
            "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} "
            f"--xla_force_host_platform_device_count={devices}",
        }
    )
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> str:
    """What the first one printed, if all of them were content and in time."""
    try:
        results = [process.communicate(timeout=LIMIT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, error) in zip(processes, results, strict=True):
        assert process.returncode == 0, error
    return results[0][0]


def test_a_ring_of_eight_devices_is_the_whole():
    names = ("kerple", "transformer_xl", "dynamic_ntk_rope")
    printed = finish(start(8, ",".join(names)))
    assert printed.count("8 devices of 1 process(es) agree with one") == 2 * len(names)


def test_a_ring_of_two_processes_is_the_whole():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        coordinator = f"127.0.0.1:{free.getsockname()[1]}"
    one, other = (start(4, "kerple", coordinator, "2", str(i)) for i in range(2))
    assert finish(one, other).count("8 devices of 2 process(es) agree with one") == 2


def test_embeddings_of_shards_exchange_nothing():
    places = "encoding,rotary,bias,score"
    process = start(8, places, module="tests.sharding", EQX_ON_ERROR="off")
    assert finish(process).count("as on one device") == 5


def test_every_variant_runs_where_axes_are_explicit():
    printed = finish(start(8, module="tests.explicit", EQX_ON_ERROR="off"))
    parts = "by heads", "alone", "ring by an order", "traced", "as on one device"
    for done in (*parts, "exchanges as by hand"):
        assert done in printed


@pytest.mark.usefixtures("as_users_have_it")
def test_a_ring_has_no_mask():
    q, p = jnp.ones((2, 4, 8)), jnp.arange(4)
    with pytest.raises(
        ValueError, match=r"`mask` must be None in a ring.*\(4, 4\).*q_segments"
    ):
        pe.PositionalEmbedding().attend(
            q, q, q, p, p, mask=jnp.ones((4, 4), bool), length=4, axis_name="seq"
        )


@pytest.mark.usefixtures("as_users_have_it")
def test_a_ring_has_no_keys_between_two_tokens():
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    q, p = jnp.ones((2, 4, 8)), jnp.arange(4)
    embedding = pe.PositionalEmbedding(score=pe.CoPE(8, key=jax.random.key(0)))
    attend = lambda q: embedding.attend(q, q, q, p, p, axis_name="seq")
    heads = P(None, "seq")
    ring = jax.shard_map(attend, mesh=mesh, in_specs=heads, out_specs=heads)
    with pytest.raises(
        ValueError, match=r"`axis_name` must be None.*a CoPE does.*'seq'"
    ):
        ring(q)


@pytest.mark.usefixtures("as_users_have_it")
def test_a_ring_has_no_second_derivatives_and_says_so():
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    q, p = jnp.ones((2, 4, 8)), jnp.arange(4)
    attend = lambda q: pe.PositionalEmbedding().attend(
        q, q, q, p, p, length=4, axis_name="seq"
    )
    heads = P(None, "seq")
    ring = jax.shard_map(attend, mesh=mesh, in_specs=heads, out_specs=heads)
    loss = lambda q: jnp.sum(ring(q) ** 2)
    norm = lambda q: jnp.sum(jax.grad(loss)(q) ** 2)
    assert jnp.isfinite(norm(q))
    with pytest.raises(ValueError, match=r"`axis_name` must be None for second.*block"):
        jax.grad(norm)(q)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("as_users_have_it")
def test_every_variant_and_its_checks_run_where_axes_are_manual(name):
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    layer = Layer(build(name))
    x, p = tokens(4), at(name, np.arange(4))
    call = lambda x, p: layer(x, x, p, p)
    specs = dict(in_specs=P("seq"), out_specs=P(None, "seq"))
    # What is wrong is wrong while JAX traces.
    jax.eval_shape(jax.shard_map(call, mesh=mesh, **specs), x, p)


@pytest.mark.usefixtures("as_users_have_it")
def test_a_check_of_positions_raises_where_axes_are_manual():
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    learned = pe.Learned(16, 8, key=jax.random.key(0))
    call = jax.shard_map(learned, mesh=mesh, in_specs=P("seq"), out_specs=P("seq"))
    rows = eqx.filter_jit(lambda p: call(p))
    np.testing.assert_array_equal(rows(jnp.arange(8)), learned.weight[:8])
    with pytest.raises(RuntimeError, match="`positions` must be between 0 and 15"):
        rows(jnp.arange(8) + 9)


def test_a_ring_has_scores_by_distance_at_stated_positions():
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    q = jax.random.normal(jax.random.key(0), (2, 8, 8))
    score = pe.Shaw(8, key=jax.random.key(1))

    def attend(q, axis_name=None):
        start = 0 if axis_name is None else 8 * jax.lax.axis_index(axis_name)
        p = pe.positions.consecutive(8, start=start)
        rules = dict(causal=True, implementation="blockwise", block_size=4)
        embedding = pe.PositionalEmbedding(score=score)
        return embedding.attend(q, q, q, p, p, axis_name=axis_name, **rules)

    heads = P(None, "seq")
    here = partial(attend, axis_name="seq")
    ring = jax.shard_map(here, mesh=mesh, in_specs=heads, out_specs=heads)
    # One shard in two blocks of keys: sums of 8 weighted values in float32.
    assert jnp.allclose(jax.jit(ring)(q), attend(q), rtol=0, atol=8 * 2**-23)
