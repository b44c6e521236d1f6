"""Array field ⇔ parameter: an optimizer sees what is trained, and nothing else."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import eqx_posemb as pe
from tests.helpers import (
    at,
    build,
    DIM,
    HEAD_DIM,
    HEADS,
    leaves,
    LENGTH,
    NAMES,
    normal,
    ROWS,
    shape_of,
    states,
)


@pytest.mark.parametrize("name", NAMES)
def test_the_leaves_are_the_declared_parameters(name):
    row, embedding = ROWS[name], build(name)
    found = leaves(getattr(embedding, row.place))
    assert bool(found) == row.is_trained()
    fields = {path.split("[")[0].split(".")[0] for path in found}
    assert set(row.source.arrays) <= fields
    assert set(leaves(embedding)) == {f"{row.place}.{path}" for path in found}
    # No array hides behind a static field or an integer dtype either.
    assert len(jax.tree.leaves(embedding)) == len(found)
    assert not any(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(embedding))


@pytest.mark.parametrize("name", [n for n in NAMES if not ROWS[n].is_trained()])
def test_equal_settings_are_equal_and_hash_alike(name):
    one, other = shape_of(name), shape_of(name)  # Made twice, and without arrays.
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert hash(jax.tree.structure(one)) == hash(jax.tree.structure(other))


# The others have no leaf that could decay, or be stacked: see above.
TRAINED = [n for n in NAMES if ROWS[n].is_trained()]


@pytest.mark.parametrize("name", TRAINED)
@jax.numpy_dtype_promotion("standard")  # optax needs it
def test_weight_decay_leaves_what_is_not_trained_alone(name):
    q, p = normal((HEADS, 5, HEAD_DIM)), at(name, np.arange(5))

    @eqx.filter_jit
    def decayed(embedding, rate):
        optimizer = optax.adamw(rate, weight_decay=0.5)
        parameters, static = eqx.partition(embedding, eqx.is_inexact_array)
        # What starts from zero would not decay.
        parameters = jax.tree.map(lambda leaf: leaf + 0.1, parameters)
        zeros = jax.tree.map(jnp.zeros_like, parameters)
        updates, _ = optimizer.update(zeros, optimizer.init(parameters), parameters)
        e = eqx.combine(eqx.apply_updates(parameters, updates), static)
        return e.logits(q, q, p, p, **states(e, q, q))

    before, after = (decayed(build(name), jnp.float32(rate)) for rate in (0.0, 1e-2))
    in_logits = ROWS[name].place != "encoding"
    assert np.array_equal(before, after) != in_logits


@pytest.mark.parametrize("name", TRAINED)
def test_layers_may_be_stacked_under_scan(name):
    make = lambda key: pe.make(
        name, heads=HEADS, head_dim=HEAD_DIM, dim=DIM, length=LENGTH, key=key
    )
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = eqx.filter_eval_shape(eqx.filter_vmap(make), keys)
    # The same with numbers that no program draws.
    draw = lambda x: np.asarray(normal(x.shape, x.dtype, x.size)) / 4
    arrays, static = eqx.partition(jax.tree.map(draw, shapes), eqx.is_array)
    q, p = np.asarray(normal((HEADS, 5, HEAD_DIM))) / 2, at(name, np.arange(5))

    @jax.jit
    def layer(q, arrays):
        embedding = eqx.combine(arrays, static)
        x = embedding.embed(jnp.zeros((5, DIM)), p)
        state = states(embedding, q, q)
        return embedding.attend(q, q, q, p, p, **state) + jnp.mean(x), None

    scanned, _ = jax.jit(lambda q, arrays: jax.lax.scan(layer, q, arrays))(q, arrays)
    looped = q
    for i in range(3):
        looped, _ = layer(looped, jax.tree.map(lambda a, i=i: a[i], arrays))
    np.testing.assert_allclose(scanned, looped, atol=2e-6)
