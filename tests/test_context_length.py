"""A schedule that reads the context length reads it from the keys that queries see."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import (
    assert_close,
    build,
    HEAD_DIM,
    HEADS,
    NAMES,
    normal,
    shape_of,
)


# All keys are for two heads of queries, and any text longer than 4 is stretched.
Q = normal((HEADS, 28, HEAD_DIM), seed=1)
K, V = (normal((HEADS // 2, 28, HEAD_DIM), seed=seed) for seed in (2, 3))
SHORT = dict(original_length=4)
BASE = pe.dynamic_ntk_rope(HEAD_DIM, factor=4.0, original_length=4)
DYNAMIC = {
    name: build(name, **SHORT)
    for name in NAMES
    if shape_of(name).rotary is not None and shape_of(name).rotary.dynamic
}
DYNAMIC["a chain"] = pe.PositionalEmbedding(
    rotary=pe.rotations.Chain((BASE, pe.Temperature(0.1, 8)))
)
EXTENDED = pe.PositionalEmbedding(rotary=pe.ReRoPE(BASE, 4))
every_row = pytest.mark.parametrize("name", DYNAMIC)


@eqx.filter_jit
def run(embedding, q, k, v, q_positions, k_positions, **rules):
    return embedding.attend(q, k, v, q_positions, k_positions, causal=True, **rules)


def alone(embedding, of=slice(28), last=None):
    """What the tokens of one document attend to; for the last of them alone."""
    q, k, v = Q[:, of], K[:, of], V[:, of]
    p = jnp.arange(q.shape[1])
    one = slice(last, None)
    return np.asarray(run(embedding, q[:, one], k, v, p[one], p))


def both(ids):
    ids = jnp.asarray(ids, jnp.int32)
    return dict(q_segments=ids, k_segments=ids)


def test_the_rows_that_read_the_length():
    assert set(DYNAMIC) == {"dynamic_ntk_rope", "longrope", "a chain"}
    for embedding in (*DYNAMIC.values(), EXTENDED):
        p = jnp.arange(12)
        fixed = run(embedding, *(x[:, :12] for x in (Q, K, V)), p, p, length=4)
        assert np.max(np.abs(fixed - alone(embedding, slice(12)))) > 1e-3


@pytest.mark.parametrize("name", [*DYNAMIC, "extended"])
def test_empty_slots_of_a_static_cache_do_not_count(name):
    embedding = DYNAMIC.get(name, EXTENDED)
    slots = jnp.arange(40)
    cache = [jnp.pad(x, ((0, 0), (0, 12), (0, 0))) for x in (K, V)]
    for t in 5, 15:
        now = jnp.array([t])
        step = run(embedding, Q[:, t : t + 1], *cache, now, slots)
        assert_close(step, alone(embedding, slice(t + 1), last=-1))


@every_row
def test_the_sentinel_of_a_ring_buffer_does_not_count(name):
    size = 8
    for t in 3, 11:
        written = np.arange(max(0, t + 1 - size), t + 1)
        k, v = np.zeros_like(K[:, :size]), np.zeros_like(V[:, :size])
        k[:, written % size], v[:, written % size] = K[:, written], V[:, written]
        p = np.full(size, 1000, np.int32)
        p[written % size] = written
        step = run(DYNAMIC[name], Q[:, t : t + 1], k, v, jnp.array([t]), p, window=size)
        q, now = Q[:, t : t + 1], jnp.array([t])
        seen = run(
            DYNAMIC[name], q, K[:, : t + 1], V[:, : t + 1], now, jnp.arange(t + 1),
            window=size,
        )  # fmt: skip
        assert_close(step, seen)


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
@every_row
def test_packed_documents_have_their_own_lengths(name, implementation):
    ids = np.repeat([7, 3], [4, 24])
    p = pe.positions.segment_positions(jnp.asarray(ids))
    packed = run(
        DYNAMIC[name], Q, K, V, p, p, implementation=implementation, **both(ids)
    )
    for document in slice(4), slice(4, 28):
        assert_close(packed[:, document], alone(DYNAMIC[name], document))


@every_row
def test_a_step_of_packed_documents_reads_each_length(name):
    ids, last = np.repeat([7, 3], [4, 24]), np.array([27, 3])
    p = np.asarray(pe.positions.segment_positions(jnp.asarray(ids)))
    segments = dict(q_segments=jnp.asarray(ids[last]), k_segments=jnp.asarray(ids))
    step = run(DYNAMIC[name], Q[:, last], K, V, p[last], p, **segments)
    for i, document in enumerate((slice(4, 28), slice(4))):
        right = alone(DYNAMIC[name], document, last=-1)
        assert_close(step[:, i : i + 1], right)


@every_row
def test_padding_does_not_count(name):
    embedding, p = DYNAMIC[name], jnp.arange(28)
    real = np.arange(28) < 12
    right = alone(embedding, slice(12))
    for rule in both(real), dict(mask=jnp.asarray(np.tile(real, (28, 1)))):
        assert_close(run(embedding, Q, K, V, p, p, **rule)[:, :12], right)
    real = np.arange(28) >= 12
    p = pe.positions.left_padded_positions(jnp.asarray(real))
    padded = run(embedding, Q, K, V, p, p, **both(real))
    assert_close(padded[:, 12:], alone(embedding, slice(12, 28)))


def test_a_placed_embedding_finds_the_length_when_it_attends():
    embedding, p = DYNAMIC["dynamic_ntk_rope"], jnp.arange(28)
    order = jnp.arange(100, 128)
    placed = embedding.at(p[12:13], p)
    out = placed.attend(
        Q[:, 12:13], K, V, causal=True, q_order=order[12:13], k_order=order
    )
    assert_close(out, alone(embedding, slice(13), last=-1))
    # All logits are there, and so are all keys.
    finished = embedding.logits(Q[:, 12:13], K, p[12:13], p)
    assert_close(finished, embedding.logits(Q[:, 12:13], K, p[12:13], p, length=28))
    assert embedding.attend(Q[:, :0], K, V, p[:0], p, **both_empty(28)).shape[1] == 0
    empty = embedding.attend(Q, K[:, :0], V[:, :0], p, p[:0], causal=True)
    assert not np.any(empty)


def both_empty(k):
    return dict(q_segments=jnp.zeros(0, int), k_segments=jnp.zeros(k, int))


# fmt: off
UNKNOWN = {
    "keys": lambda placed: placed.keys(K),
    "queries": lambda placed: placed.queries(Q),
    "for_kernel": lambda placed: placed.for_kernel(Q, K, V),
    "attend": lambda placed: placed.attend(Q, K, V, keys_are_rotated=True),
}
# fmt: on


@pytest.mark.parametrize("method", UNKNOWN)
@every_row
@pytest.mark.usefixtures("as_users_have_it")
def test_a_length_is_asked_for_where_nothing_says_what_is_masked(name, method):
    text = rf"`length` must be given to `at` before `{method}.*got None.*length=4096"
    with pytest.raises(ValueError, match=text):
        UNKNOWN[method](DYNAMIC[name].at(jnp.arange(28)))
    UNKNOWN[method](DYNAMIC[name].at(jnp.arange(28), length=28))


@pytest.mark.usefixtures("as_users_have_it")
def test_documents_of_an_extension_need_one_length():
    p = jnp.arange(28)
    with pytest.raises(
        ValueError, match=r"`length` must be given where .*ReRoPE.*None"
    ):
        EXTENDED.attend(Q, K, V, p, p, **both(p // 4))
    EXTENDED.attend(Q, K, V, p, p, length=28, **both(p // 4))
