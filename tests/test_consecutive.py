"""Positions that state that they are consecutive, in place of an array."""

import operator

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


HEADS, SEQ, DIM = 2, 8, 8


def _built(name):
    return pe.make(
        name, heads=HEADS, head_dim=DIM, dim=16, length=32, key=jax.random.key(0)
    )


def test_it_behaves_as_the_array():
    p, array = pe.positions.consecutive(5, start=3), jnp.arange(3, 8)
    assert (p.shape, p.ndim, p.size, len(p)) == ((5,), 1, 5, 5)
    assert p.dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(p), array)
    np.testing.assert_array_equal(jnp.asarray(p), array)
    for of in (
        lambda p: p + 1,
        lambda p: 1 - p,
        lambda p: array * p,
        lambda p: np.arange(5) + p,
        lambda p: p == 4,
        lambda p: p // 2,
        lambda p: p[1:],
        lambda p: p[:, None],
        lambda p: p.astype(jnp.float32),
        lambda p: p.at[0].set(9),
        lambda p: jnp.max(p),
        lambda p: jnp.stack([*p, *reversed(p)]),
        lambda p: operator.iadd(p, 1),
        lambda p: operator.imul(jnp.ones(5, int), p),
        lambda p: np.add.outer(p, p),
        lambda p: np.add(p, 1, dtype=np.float32),
        lambda p: operator.iadd(np.zeros(5, np.int32), p),
    ):
        np.testing.assert_array_equal(of(p), of(array))
        assert of(p).dtype == of(array).dtype


def test_it_has_members_and_no_truth_value():
    p = pe.positions.consecutive(3, start=5)
    assert 7 in p and 8 not in p
    with pytest.raises(ValueError, match="ambiguous"):
        bool(p)


def test_start_may_be_traced_and_batched():
    of = jax.jit(
        jax.vmap(lambda start: jnp.asarray(pe.positions.consecutive(3, start)))
    )
    np.testing.assert_array_equal(of(jnp.array([0, 7])), [[0, 1, 2], [7, 8, 9]])


@pytest.mark.parametrize(
    "length, start, words",
    [
        (-1, 0, "`length` must be at least 0"),
        (3, 0.5, "`start` must be integers"),
        (3, jnp.arange(2), r"`start` must be one integer, but .* shape \(2,\)"),
    ],
)
def test_what_is_not_consecutive_raises(length, start, words, as_users_have_it):
    with pytest.raises(ValueError, match=words):
        pe.positions.consecutive(length, start)


def _attend(embedding, x, q_positions, k_positions, implementation):
    count = q_positions.shape[0]
    states = dict(q_state=jnp.ones((count, 16)), k_state=jnp.ones((x.shape[1], 16)))
    return embedding.attend(
        x[:, -count:],
        x,
        x,
        q_positions,
        k_positions,
        causal=True,
        implementation=implementation,
        block_size=4,
        **{name: states[name] for name in embedding.reads},
    )


# One of each kind of code that takes positions.
DENSE = ("t5", "shaw", "deberta_v2", "transformer_xl", "tupe", "rope", "fire")
DENSE = (*DENSE, "longrope", "self_extend", "inkling", "wavlm", "cope", "path")
BLOCKWISE = ("t5", "transformer_xl", "fire", "cope", "path")


@pytest.mark.parametrize(
    "name, implementation",
    [(name, "dense") for name in DENSE] + [(name, "blockwise") for name in BLOCKWISE],
)
def test_attention_is_as_for_the_array(name, implementation):
    embedding = _built(name)
    x = jax.random.normal(jax.random.key(1), (HEADS, SEQ, DIM))

    @eqx.filter_jit
    def both(parts, start):
        @eqx.filter_value_and_grad
        def of(parts, *positions):
            return jnp.sum(_attend(*parts, *positions, implementation) ** 2)

        stated = pe.positions.consecutive(6, start), pe.positions.consecutive(SEQ)
        return of(parts, *stated), of(parts, *map(jnp.asarray, stated))

    # 6 queries do not fill the last block, and 8 keys do.
    got, expected = both((embedding, x), 2)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["t5", "shaw", "deberta_v2", "transformer_xl"])
def test_a_program_has_one_way_for_stated_positions(name):
    """With an array the program branches at run time too, and not by platform alone."""
    embedding = _built(name)
    x = jnp.ones((HEADS, 24, DIM))

    def count(positions):
        of = lambda p: _attend(embedding, x, p, p, "dense")
        text = str(jax.make_jaxpr(of)(positions))
        return text.count(" cond[") - text.count(" platform_index[")

    assert count(jnp.arange(24)) > count(pe.positions.consecutive(24)) == 0


def test_a_bias_of_a_user_takes_it():
    class Ramp(pe.abstract.AbstractBias):
        def __call__(self, q_positions, k_positions):
            return (k_positions[None] - q_positions[:, None]).astype(float)[None]

    p, x = pe.positions.consecutive(4), jnp.ones((1, 4, 2))
    of = lambda p: pe.PositionalEmbedding(bias=Ramp()).attend(x, x, x, p, p)
    np.testing.assert_allclose(of(p), of(jnp.arange(4)))


def test_a_strip_is_the_bias_of_each_distance():
    biases = [pe.ALiBi(2), pe.T5Bias(2, key=jax.random.key(0))]
    for bias in (*biases, pe.SumBias(*biases)):
        q, k = (
            pe.positions.consecutive(3, start=5),
            pe.positions.consecutive(4, start=6),
        )
        strip = bias.strip(q, k)
        assert strip is not None
        rows = [strip[:, 2 - i : 6 - i] for i in range(3)]
        np.testing.assert_allclose(np.stack(rows, axis=1), bias(q, k), atol=1e-6)


def test_there_is_no_strip_of_what_is_more_than_distances():
    p = pe.positions.consecutive(4)
    fire = pe.FIRE(2, key=jax.random.key(0))
    assert fire.strip(p, p) is None
    assert pe.SumBias(pe.ALiBi(2), fire).strip(p, p) is None
    assert pe.ALiBi(2).strip(jnp.array([0, 2]), p) is None
    # Arrays are not known at trace time.
    assert jax.eval_shape(lambda p: pe.ALiBi(2).strip(p, p), jnp.arange(4)) is None
