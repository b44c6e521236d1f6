"""Array field ⇔ parameter: an optimiser sees what is trained, and nothing else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqx_posemb as pe
from tests.helpers import at, build, leaves, NAMES, ROWS, states


@pytest.mark.parametrize("name", NAMES)
def test_the_leaves_are_the_declared_parameters(name):
    row, embedding = ROWS[name], build(name)
    assert set(leaves(getattr(embedding, row.place))) == set(row.parameters)
    assert set(leaves(embedding)) == {f"{row.place}.{p}" for p in row.parameters}
    # No array hides behind a static field or an integer dtype either.
    assert len(jax.tree.leaves(embedding)) == len(row.parameters)
    assert not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(embedding))


@pytest.mark.parametrize("name", [n for n in NAMES if not ROWS[n].parameters])
def test_equal_settings_are_equal_and_hash_alike(name):
    one, other = build(name), build(name)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert hash(jax.tree.structure(one)) == hash(jax.tree.structure(other))


@pytest.mark.parametrize("name", NAMES)
@jax.numpy_dtype_promotion("standard")  # optax needs it
def test_weight_decay_leaves_what_is_not_trained_alone(name):
    # What starts from zero would not decay.
    embedding = jax.tree.map(
        lambda leaf: leaf + 0.1 if eqx.is_inexact_array(leaf) else leaf, build(name)
    )
    optimiser = optax.adamw(1e-2, weight_decay=0.5)
    state = optimiser.init(eqx.filter(embedding, eqx.is_inexact_array))
    zeros = jax.tree.map(jnp.zeros_like, eqx.filter(embedding, eqx.is_inexact_array))
    decayed = embedding
    for _ in range(3):
        updates, state = optimiser.update(
            zeros, state, eqx.filter(decayed, eqx.is_inexact_array)
        )
        decayed = eqx.apply_updates(decayed, updates)
    q, p = jnp.ones((4, 5, 16)), at(name, jnp.arange(5))
    before, after = (
        e.logits(q, q, p, p, **states(e, q, q)) for e in (embedding, decayed)
    )
    in_logits = ROWS[name].place != "encoding" and bool(ROWS[name].parameters)
    assert jnp.array_equal(before, after) != in_logits


@pytest.mark.parametrize("name", NAMES)
def test_layers_may_be_stacked_under_scan(name):
    make = lambda key: pe.make(name, heads=4, head_dim=16, dim=64, length=32, key=key)
    stacked = eqx.filter_vmap(make)(jax.random.split(jax.random.key(0), 3))
    arrays, static = eqx.partition(stacked, eqx.is_array)
    q = jax.random.normal(jax.random.key(1), (4, 5, 16))
    p = at(name, jnp.arange(5))

    def layer(q, arrays):
        embedding = eqx.combine(arrays, static)
        x = embedding.embed(jnp.zeros((5, 64)), p)
        state = states(embedding, q, q)
        return embedding.attend(q, q, q, p, p, **state) + jnp.sum(x) * 0, None

    scanned, _ = jax.lax.scan(layer, q, arrays, length=3)
    looped = q
    for i in range(3):
        looped, _ = layer(looped, jax.tree.map(lambda a, i=i: a[i], arrays))
    np.testing.assert_allclose(scanned, looped, atol=2e-6)
