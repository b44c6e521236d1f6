"""What scores are, beside the laws of all variants."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.helpers import build, HEADS, LENGTH, logits, NAMES, normal, ROWS, states


SCORES = [n for n in NAMES if ROWS[n].place == "score" and ROWS[n].axes == 1]
every_score = pytest.mark.parametrize("name", SCORES)


def qk(q=20, k=23):
    return normal((HEADS, q, 16), seed=1), normal((HEADS, k, 16), seed=2)


@every_score
def test_runs_of_positions_are_no_special_case(name):
    """A run is computed by its distances, and the same shuffled by pairs: values and
    gradients are the same."""
    embedding = build(name)
    q, k = qk()
    q_positions, k_positions = 3 + jnp.arange(20), jnp.arange(23)
    order = np.random.default_rng(0).permutation(23)
    back = np.argsort(order)
    weights = normal((HEADS, 20, 23))

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def total(arguments, order, k_positions):
        embedding, q, k = arguments
        out = logits(embedding, q, k[:, order], q_positions, k_positions[order])
        return jnp.sum(out * weights[:, :, order]), out

    run, out = total((embedding, q, k), jnp.arange(23), k_positions)
    pairs, shuffled = total((embedding, q, k), jnp.asarray(order), k_positions)
    np.testing.assert_allclose(out, np.asarray(shuffled)[:, :, back], atol=2e-5)
    for one, other in zip(jax.tree.leaves(run), jax.tree.leaves(pairs), strict=True):
        scale = np.abs(np.asarray(one)).max()
        np.testing.assert_allclose(one, other, atol=1e-5 * max(scale, 1))


@every_score
def test_a_batch_of_positions_that_are_no_runs_is_a_loop(name):
    """Under `vmap` both forms are computed, and what the other one looks up must not
    raise."""
    embedding = build(name)
    q, k = qk(20, 20)
    rows = jnp.stack([jnp.arange(20), jnp.arange(20)[::-1], 3 * jnp.arange(20) % 20])
    mapped = eqx.filter_jit(jax.vmap(lambda p: logits(embedding, q, k, p, p)))(rows)
    for p, each in zip(rows, mapped, strict=True):
        np.testing.assert_allclose(each, logits(embedding, q, k, p, p), atol=2e-5)


@pytest.mark.parametrize("name", [n for n in SCORES if ROWS[n].has("bounded")])
def test_distances_beyond_a_table_raise(name):
    embedding = build(name)
    q = jnp.ones((HEADS, 1, 16))
    here = jnp.array([100])
    sides = (-1,) if ROWS[name].has("causal") else (-1, 1)
    for side in sides:
        jax.block_until_ready(logits(embedding, q, q, here, here + side * (LENGTH - 1)))
        with pytest.raises(Exception, match="positions` must be"):
            far = here + side * LENGTH
            jax.block_until_ready(logits(embedding, q, q, here, far))


@every_score
def test_no_tokens_have_no_logits(name):
    embedding = build(name)
    q, k = qk(0, 3)
    for one, other in (q, k), (k, q):
        p, others = jnp.arange(one.shape[1]), jnp.arange(other.shape[1])
        state = states(embedding, one, other)
        call = eqx.filter_jit(embedding.score)
        score = call(one, other, p, others, **state)
        assert score.shape == (HEADS, one.shape[1], other.shape[1])


def test_queries_of_no_keys_get_zeros():
    q, p = normal((HEADS, 3, 16)), jnp.arange(3)
    out = build("shaw").attend(q, q[:, :0], q[:, :0], p, p[:0])
    np.testing.assert_array_equal(out, np.zeros_like(q))
