"""Training over eight devices: texts over two, and each of them over four in a ring.

Runs on any machine, with its CPU as eight devices. The GPT of `gpt.py` gets two
changes: its attention gets the mesh axis of the sequence, and tokens are sharded
together with their positions. Loss and gradients equal the results of one device.

    pip install -e . optax
    python examples/sharded.py
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from gpt import bits_per_byte, LENGTH, make, text, windows
from jax.sharding import AxisType, PartitionSpec as P

import eqx_posemb as pe


TEXTS, SHARDS = 2, 4


def main(steps: int = 5) -> None:
    mesh = jax.make_mesh(
        (TEXTS, SHARDS), ("texts", "seq"), axis_types=(AxisType.Auto,) * 2
    )
    arrays, static = eqx.partition(make("alibi"), eqx.is_inexact_array)
    # As much causal attention for each device: one early piece of a text and one late.
    order = pe.positions.zigzag(LENGTH, SHARDS)

    def here(arrays, inputs, targets, positions):
        """The loss of this device's part of this device's texts."""
        model = eqx.combine(arrays, static)
        logits = jax.vmap(lambda x: model(x, positions, axis_name="seq")[0])(inputs)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
        return jax.lax.pmean(losses.mean() / jnp.log(2.0), ("texts", "seq"))

    tokens = P("texts", "seq")
    everywhere = jax.shard_map(
        here, mesh=mesh, in_specs=(P(), tokens, tokens, P("seq")), out_specs=P()
    )

    def loss(arrays, batch):
        return everywhere(
            arrays, batch[:, :-1][:, order], batch[:, 1:][:, order], order
        )

    optimizer = optax.adam(3e-3)
    state = optimizer.init(arrays)

    @jax.jit
    def step(arrays, state, batch):
        value, gradients = jax.value_and_grad(loss)(arrays, batch)
        updates, state = optimizer.update(gradients, state)
        return optax.apply_updates(arrays, updates), state, value, gradients

    alone = jax.jit(
        jax.value_and_grad(lambda a, b: bits_per_byte(eqx.combine(a, static), b))
    )
    source, _ = text()
    for i in range(steps):
        batch = windows(source, 4, LENGTH, seed=i)
        value, gradients = alone(arrays, batch)
        arrays, state, shared, found = step(arrays, state, batch)
        print(f"step {i}: {shared:.4f} bits per byte on {jax.device_count()} devices")
        # Sums in another order: rounding of float32.
        assert np.isclose(shared, value, rtol=1e-5)
        for a, b in zip(*map(jax.tree.leaves, (found, gradients)), strict=True):
            assert jnp.abs(a - b).max() < 1e-4 * jnp.abs(b).max()
    print("loss and gradients are those of one device")


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", TEXTS * SHARDS)
    main(*map(int, sys.argv[1:]))
