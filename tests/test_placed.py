"""An embedding that is placed once serves all layers, which share one trace."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import (
    assert_close,
    at,
    build,
    HEAD_DIM,
    HEADS,
    LENGTH,
    NAMES,
    normal,
    shape_of,
    states,
)
from tests.test_laws import REPRESENTATIVES


Q = normal((HEADS, 12, HEAD_DIM), seed=1)
# Extensions rotate each pair by its distance, and PoPE has trained phases. The others
# that are left out have no angles.
NO_TABLES = ("pope", "nope", "liere", "comrope", "temperature", "scalable_softmax")
TABLES = [
    name
    for name in NAMES
    if isinstance(shape_of(name).rotary, pe.abstract.AbstractRotary)
    and name not in NO_TABLES
]


def rules(embedding):
    return states(embedding, Q, Q) | dict(mask=jnp.tril(jnp.ones((12, 12), bool)))


@pytest.mark.parametrize("name", sorted(REPRESENTATIVES | {"rerope", "pope"}))
def test_a_placed_embedding_is_an_argument_of_layers(name):
    """Under `jit`, `scan` and `checkpoint` it is what `attend` does in each layer."""
    embedding, p = build(name), at(name, np.arange(12))
    rule = rules(embedding)

    @eqx.filter_jit
    def shared(placed, x):
        layer = jax.checkpoint(lambda x: placed.attend(x, x, Q, **rule))
        return jax.lax.scan(lambda x, _: (layer(x), None), x, length=2)[0]

    @jax.jit
    def each(x, p):
        for _ in range(2):
            x = embedding.attend(x, x, Q, p, p, length=LENGTH, **rule)
        return x

    assert_close(shared(embedding.at(p, length=LENGTH), Q), each(Q, p))


@pytest.mark.parametrize("name", ["alibi", "yarn", "xpos", "mrope", "pope", "fope"])
def test_a_cache_may_hold_rotated_keys(name):
    embedding, p = build(name), at(name, np.arange(12))
    rule = rules(embedding)

    @jax.jit
    def both(q, p):
        placed = embedding.at(p, length=LENGTH)
        cached = placed.keys(q)
        found = placed.attend(q, cached, q, **rule, keys_are_rotated=True)
        return found, placed.attend(q, q, q, **rule)

    found, expected = both(Q, p)
    assert_close(found, expected)


def test_a_batch_of_positions_may_be_placed_under_vmap():
    embedding = build("rope")
    q = jnp.stack([Q, 2 * Q])
    p = jnp.stack([jnp.arange(12), 5 + 2 * jnp.arange(12)])
    found = jax.vmap(lambda q, p: embedding.at(p).attend(q, q, q, causal=True))(q, p)
    for i in range(2):
        expected = embedding.attend(q[i], q[i], q[i], p[i], p[i], causal=True)
        assert_close(found[i], expected)


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
@pytest.mark.parametrize("name", TABLES)
def test_a_layer_computes_no_sine(name, implementation):
    place = lambda: build(name).at(at(name, np.arange(12)), length=LENGTH)
    placed, rule = place(), rules(build(name))
    layer = lambda q: placed.attend(q, q, q, **rule, implementation=implementation)
    # Exact angles are polynomials of integer phases.
    sine = re.compile(r"\b(sin|cos|shift_right_\w+|bitcast_convert_type)\b")
    assert sine.search(str(jax.make_jaxpr(place)()))
    assert not sine.search(str(jax.make_jaxpr(layer)(Q)))


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
def test_layers_share_one_trace(implementation):
    def traces_of(layers):
        traces = []

        class Counted(pe.abstract.AbstractRelativeBias):
            def along(self, delta):
                traces.append(None)
                return jnp.zeros((HEADS, delta.size))

        embedding = pe.PositionalEmbedding(bias=Counted())

        def model(x, p):
            for _ in range(layers):
                x = embedding.attend(x, x, x, p, p, implementation=implementation)
            return x

        jax.eval_shape(model, Q, jnp.arange(12))
        return len(traces)

    assert traces_of(5) == traces_of(1) > 0


@pytest.mark.parametrize(
    "rotary, score", [(pe.ReRoPE(pe.rope(16), 4), None), (None, 1)]
)
def test_keys_that_a_score_reads_are_not_rotated(rotary, score):
    if score is not None:
        score = build("shaw").score
    placed = pe.PositionalEmbedding(rotary=rotary, score=score).at(jnp.arange(12))
    with pytest.raises(
        ValueError, match=r"`keys_are_rotated` must be False.*Cache the"
    ):
        placed.attend(Q, Q, Q, keys_are_rotated=True)


@pytest.mark.parametrize("method", ["queries", "keys"])
def test_an_extension_rotates_no_token_by_itself(method):
    placed = pe.PositionalEmbedding(rotary=pe.ReRoPE(pe.rope(16), 4)).at(jnp.arange(12))
    with pytest.raises(
        ValueError, match=r"`rotary` must turn each token.*got a ReRoPE"
    ):
        getattr(placed, method)(Q)
