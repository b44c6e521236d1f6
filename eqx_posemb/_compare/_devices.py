"""All devices of all hosts: batches are sharded over them, and all else is replicated.

Each host computes all batches from the seed, and takes its own part of them. The first
host reads and writes files.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree


def start() -> None:
    """Joins the processes of a run on several hosts, where the environment has them."""
    env = os.environ
    if "JAX_COORDINATOR_ADDRESS" in env and "JAX_NUM_PROCESSES" in env:
        jax.distributed.initialize(
            num_processes=int(env["JAX_NUM_PROCESSES"]),
            process_id=int(env["JAX_PROCESS_ID"]),
        )
    elif any(
        int(env.get(name, 1)) > 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
    ):
        jax.distributed.initialize()


def writes() -> bool:
    """Whether this process reads and writes files: the first does."""
    return jax.process_index() == 0


def computing_dtype() -> np.dtype:
    """float32 on a CPU, and bfloat16 on accelerators. Weights are float32."""
    # Most CPUs compute more slowly in bfloat16 than in float32.
    return jnp.dtype(jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)


def each_seed(function: Callable[[PyTree], PyTree], arguments: PyTree) -> PyTree:
    """Calls a function for each seed, the first axis of all arguments.

    All seeds run at the same time on accelerators, and one by one on a CPU, whose
    products of stacked matrices are slow.
    """
    seeds = len(jax.tree.leaves(arguments)[0])
    if seeds == 1:
        first = jax.tree.map(lambda x: x[0], arguments)
        return jax.tree.map(lambda x: x[None], function(first))
    if jax.default_backend() == "cpu":
        return jax.lax.map(function, arguments)
    return jax.vmap(function)(arguments)


def sharded(array: np.ndarray, axis: int, filler: int) -> Array:
    """The array on all devices, cut along an axis, which is filled up to fit."""
    missing = -array.shape[axis] % jax.device_count()
    pads = [(0, missing if i == axis else 0) for i in range(array.ndim)]
    # The number of devices must divide a sharded axis.
    array = np.pad(array, pads, constant_values=filler)
    spec = PartitionSpec(*[None] * axis, "batch")
    return _spread(array, NamedSharding(_mesh(), spec))


def replicated(tree: PyTree) -> PyTree:
    """The same with each array on every device."""
    everywhere = NamedSharding(_mesh(), PartitionSpec())
    put = lambda x: _spread(np.asarray(x), everywhere)
    numeric = lambda x: eqx.is_array(x) or isinstance(x, np.ndarray | np.generic)
    return jax.tree.map(lambda x: put(x) if numeric(x) else x, tree)


def agreed(value: Any) -> Any:
    """A JSON value of the first process, on every process."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
    # A broadcast takes arrays of one shape on all processes.
    text = np.resize(text, size)
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(text)))


def agreed_arrays(tree: PyTree) -> PyTree:
    """The arrays of the first process, on every process."""
    if jax.process_count() == 1:
        return tree
    arrays, static = eqx.partition(tree, eqx.is_array)
    arrays = jax.tree.map(np.asarray, arrays)
    return eqx.combine(multihost_utils.broadcast_one_to_all(arrays), static)


def _spread(array, sharding):
    # Each process has the whole array, and creates its own shards of it.
    return jax.make_array_from_callback(
        array.shape, sharding, lambda index: array[index]
    )


def _mesh():
    return Mesh(np.array(jax.devices()), ("batch",))
