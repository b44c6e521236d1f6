"""Scores by distance, where positions are runs: by blocks they are what they are."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._attention import _choose
from eqx_posemb._spread import are_consecutive, ByDistance, either, skew, unskew
from tests.helpers import normal
from tests.test_blockwise import assert_same, both, values


# No whole numbers of blocks of 4, whose products are cut into fewer pieces than those
# of larger blocks: such programs compile in half of the time.
Q, K, SIZE = 23, 27, 4
QP, KP = jnp.asarray(20 + np.arange(Q)), jnp.asarray(7 + np.arange(K))
SCORES = {
    "transformer_xl": lambda key: pe.TransformerXL(4, 4, 6, clamp=5, std=1.0, key=key),
    "enformer": lambda key: pe.Enformer(4, 4, 6, 64, key=key),
}


@pytest.fixture(autouse=True)
def two_heads_at_once(monkeypatch):
    """In blocks of that size."""
    monkeypatch.setattr(_choose, "_IN_CACHE", 2 * SIZE**2)


def embedding(name="transformer_xl"):
    return pe.PositionalEmbedding(score=SCORES[name](jr.key(1)))


def qkv(dtype=jnp.float32):
    return (
        normal((4, Q, 4), dtype, 1),
        normal((2, K, 4), dtype, 2),
        normal((2, K, 5), dtype, 3),
    )


Q_IDS, K_IDS = QP // 8, KP // 8
MASK = jnp.asarray(np.random.default_rng(0).random((4, Q, K)) < 0.4)
RULES = {
    "everything": dict(),
    "causal": dict(causal=True, soft_cap=3.0),
    "window": dict(window=3, q_segments=Q_IDS, k_segments=K_IDS),
    "mask for each head": dict(mask=MASK),
}
# In double precision, and another score in single: it is the same program.
CASES = [("transformer_xl", True, name) for name in RULES if name != "everything"]
CASES += [("enformer", False, "everything")]


@pytest.mark.parametrize("name, x64, rules", CASES, indirect=["x64"])
def test_runs_go_by_blocks(name, x64, rules):
    dtype = jnp.float64 if x64 else jnp.float32

    def attend(implementation, embedding, q, k, v):
        options = RULES[rules] | dict(implementation=implementation, block_size=SIZE)
        return embedding.attend(q, k, v, QP, KP, **options)

    arrays, static = eqx.partition(embedding(name), eqx.is_array)
    arrays = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), arrays)
    arguments = (eqx.combine(arrays, static), *qkv(dtype))
    assert_same(*both(attend, arguments), bound=1e-10 if x64 else 1e-5)


def test_a_bias_by_position_is_not_shared_beside_a_score_by_distance():
    """Tiles of equal distances once shared the bias of the first tile."""
    bias = pe.TUPE(64, dim=8, heads=4, head_dim=4, std=0.3, key=jr.key(2))
    both_parts = pe.PositionalEmbedding(bias=bias, score=SCORES["enformer"](jr.key(1)))

    def attend(implementation, q, k, v):
        rules = dict(implementation=implementation, block_size=SIZE)
        return both_parts.attend(q, k, v, QP, KP, **rules)

    assert_same(*values(attend, qkv()))


def test_vectors_of_all_distances_are_made_where_rules_compare_another_order():
    q_order, k_order = (jnp.arange(n) * 7 % n for n in (Q, K))
    mask = (k_order[None] <= q_order[:, None]) & (q_order[:, None] - k_order[None] < 3)

    def attend(implementation, embedding, q, k, v):
        rules = dict(causal=True, window=3, q_order=q_order, k_order=k_order)
        rules = dict(mask=mask) if implementation == "dense" else rules
        options = dict(implementation=implementation, block_size=SIZE)
        return embedding.attend(q, k, v, QP, KP, **rules, **options)

    assert_same(*values(attend, (embedding(), *qkv())))


def test_it_is_found_out_at_run_time_what_is_a_run():
    def attend(implementation, embedding, q, k, v, q_positions, k_positions):
        options = dict(implementation=implementation, block_size=SIZE, causal=True)
        return embedding.attend(q, k, v, q_positions, k_positions, **options)

    for positions in (QP, KP), (QP.at[10:].add(2), KP), (QP, KP[::-1]):
        assert_same(*both(attend, (embedding(), *qkv(), *positions)))


@pytest.mark.parametrize("x64", [True], indirect=True)
def test_second_derivatives_of_runs_go_by_blocks(x64):
    @eqx.filter_jit
    def second(arguments, implementation):
        def loss(arguments):
            embedding, q, k, v = arguments
            options = dict(implementation=implementation, block_size=SIZE)
            out = embedding.attend(q, k, v, QP, KP, causal=True, **options)
            return jnp.sum(jnp.sin(out))

        def of_gradients(arguments):
            leaves = jax.tree.leaves(eqx.filter_grad(loss)(arguments))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

        return eqx.filter_grad(of_gradients)(arguments)

    arrays, static = eqx.partition(embedding(), eqx.is_array)
    arrays = jax.tree.map(lambda x: x.astype(jnp.float64), arrays)
    arguments = (eqx.combine(arrays, static), *qkv(jnp.float64))
    assert_same(second(arguments, "blockwise"), second(arguments, "dense"), bound=1e-10)


def test_transformations_of_runs_compose():
    """A batch with positions of its own, checkpointed under a scan."""
    positions = jnp.stack([QP, QP + 9])

    def model(implementation, embedding, q, k, v):
        def layer(q, _):
            def attend(q, k, v, p):
                options = dict(implementation=implementation, block_size=SIZE)
                return embedding.attend(q, k, v[..., :4], p, KP, causal=True, **options)

            return jax.checkpoint(jax.vmap(attend))(q, k, v, positions), None

        return jax.lax.scan(layer, q, length=2)[0]

    arguments = [jnp.asarray(np.stack([x, x[:, ::-1]])) for x in qkv()]
    assert_same(*both(model, (embedding(), *arguments)))


def test_a_batch_has_one_answer():
    runs = jnp.array([[3, 4, 5], [0, 1, 2]])
    of = lambda p: either(are_consecutive(p, p), lambda: p, lambda: -p)
    assert jnp.array_equal(jax.vmap(of)(runs), runs)
    mixed = runs.at[1, 2].set(7)
    assert jnp.array_equal(jax.vmap(of)(mixed), -mixed)


@jax.debug_nans(True)
def test_a_query_of_a_run_that_sees_no_key_gets_zeros_and_zero_gradients():
    positional = embedding()

    def loss(q, k, v):
        options = dict(causal=True, implementation="blockwise", block_size=SIZE)
        out = positional.attend(q, k, v, KP[:Q] - 3, KP, **options)[:, :3]
        return jnp.sum(out**2 + out), out

    differentiate = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    (_, out), gradients = jax.jit(differentiate)(*qkv())
    for zeros in out, *gradients:
        assert not np.asarray(zeros).any()


class Counted(pe.abstract.AbstractScore):
    """Says for how many distances it makes vectors, and gives NaN for pairs."""

    count: Callable[[int], None] = eqx.field(static=True)

    def __call__(self, q, k, q_positions, k_positions):
        return jnp.full((q.shape[0], q.shape[1], k.shape[1]), jnp.nan)

    def by_distance(self, q, k, q_positions, k_positions):
        def vectors(delta):
            jax.debug.callback(lambda: self.count(delta.size))
            return jnp.ones((delta.size, q.shape[-1]))

        first = k_positions[0] - q_positions[0]
        consecutive = are_consecutive(q_positions, k_positions)
        return ByDistance(q, k[..., 0], vectors, first, consecutive)


@pytest.mark.parametrize(
    "rules, blocks",
    [
        (dict(), 6 + 7),  # From -36 on.
        (dict(causal=True), 10),
        (dict(window=3), 2),
    ],
    ids=["everything", "causal", "window"],
)
def test_vectors_are_made_once_for_distances_that_are_seen(rules, blocks):
    counts = []
    score = Counted(counts.append)
    attend = lambda *x: pe.PositionalEmbedding(score=score).attend(
        *x, QP, KP, **rules, implementation="blockwise", block_size=SIZE
    )
    assert jnp.isfinite(attend(*qkv())).all()
    jax.effects_barrier()
    assert sum(counts) == SIZE * blocks


@pytest.mark.parametrize("q, k", [(1, 4), (5, 1), (6, 9)])
def test_unskew_is_the_transpose_of_skew(q, k):
    products, values = jr.normal(jr.key(0), (2, q, q + k - 1)), jnp.ones((2, q, k))
    (expected,) = jax.linear_transpose(skew, products)(values)
    found = unskew(values)
    assert jnp.array_equal(found[..., :-1], expected) and (found[..., -1] == 0).all()


@pytest.mark.parametrize(
    "heads, kv_heads, parts", [(8, 8, 4), (8, 2, 2), (8, 1, 1), (6, 3, 3), (2, 2, 1)]
)
def test_heads_with_keys_in_common_stay_together(heads, kv_heads, parts):
    assert _choose.head_groups(heads, kv_heads, SIZE) == parts
