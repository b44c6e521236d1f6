"""Which keys are seen, and what becomes of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import eqx_posemb as pe
from tests.helpers import normal


NONE = pe.PositionalEmbedding()


def by_hand(q, k, v, seen, scale):
    """Attention as a double loop, in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    out = np.zeros((q.shape[0], q.shape[1], v.shape[2]))
    for h in range(q.shape[0]):
        g = h // (q.shape[0] // k.shape[0])
        for i in range(q.shape[1]):
            logits = np.array([scale * q[h, i] @ k[g, j] for j in range(k.shape[1])])
            weights = np.where(seen[i], np.exp(logits - logits.max()), 0)
            if seen[i].any():
                out[h, i] = weights @ v[g] / weights.sum()
    return out


def qkv(heads=4, kv_heads=4, q=6, k=6):
    return (
        normal((heads, q, 8), seed=1),
        normal((kv_heads, k, 8), seed=2),
        normal((kv_heads, k, 5), seed=3),
    )


@eqx.filter_jit
def attend(embedding, *arguments, **rules):
    return embedding.attend(*arguments, **rules)


P = np.arange(6)
FAR = P[None] - P[:, None]
IDS = np.array([0, 0, 1, 1, 1, 2])
SEEN = {
    "everything": (dict(), FAR == FAR),
    "causal": (dict(causal=True), FAR <= 0),
    "window": (dict(window=2), abs(FAR) < 2),
    "causal window": (dict(causal=True, window=3), (FAR <= 0) & (FAR > -3)),
    "pair": (dict(window=(2, 1)), (FAR >= -2) & (FAR <= 1)),
    "segments": (
        dict(q_segments=jnp.array(IDS), k_segments=jnp.array(IDS)),
        IDS[:, None] == IDS[None],
    ),
    "mask": (dict(mask=jnp.array(FAR % 2 == 0)), FAR % 2 == 0),
    "all of them": (
        dict(
            causal=True,
            window=4,
            mask=jnp.array(FAR != -1),
            q_segments=jnp.array(IDS),
            k_segments=jnp.array(IDS),
        ),
        (FAR <= 0) & (FAR > -4) & (FAR != -1) & (IDS[:, None] == IDS[None]),
    ),
}


@pytest.mark.parametrize("rules, seen", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_is_its_definition(rules, seen, kv_heads):
    q, k, v = qkv(kv_heads=kv_heads)
    out = attend(NONE, q, k, v, jnp.arange(6), jnp.arange(6), **rules)
    # Sums of 8 products and of 6 weights, values up to 3: a few ulps.
    np.testing.assert_allclose(out, by_hand(q, k, v, seen, 8**-0.5), atol=2e-6)


def test_rules_go_by_position_and_not_by_index():
    q, k, v = qkv()
    p = jnp.array([3, 0, 5, 1, 4, 2])
    far = np.asarray(pe.positions.distance(p, p))
    for rules, seen in (
        (dict(causal=True), far <= 0),
        (dict(window=(1, 0)), (far <= 0) & (far >= -1)),
    ):
        out = attend(NONE, q, k, v, p, p, **rules)
        np.testing.assert_allclose(out, by_hand(q, k, v, seen, 8**-0.5), atol=2e-6)


def test_cross_attention_has_positions_of_its_own():
    q, k, v = qkv(q=3, k=9)
    seen = np.arange(9)[None] <= np.array([4, 8, 0])[:, None]
    positions = jnp.array([4, 8, 0]), jnp.arange(9)
    out = attend(NONE, q, k, v, *positions, causal=True, implementation="dense")
    np.testing.assert_allclose(out, by_hand(q, k, v, seen, 8**-0.5), atol=2e-6)


def test_each_head_may_have_a_mask_of_its_own():
    q, k, v = qkv()
    mask = np.random.default_rng(3).random((4, 6, 6)) < 0.7
    mask[:, :, 0] = True
    out = attend(NONE, q, k, v, jnp.arange(6), jnp.arange(6), mask=jnp.asarray(mask))
    q, k, v, out = map(np.asarray, (q, k, v, out))
    for h in range(4):
        one = by_hand(*(x[h : h + 1] for x in (q, k, v)), mask[h], 8**-0.5)
        np.testing.assert_allclose(out[h : h + 1], one, atol=2e-6)


@jax.debug_nans(True)
def test_a_query_that_sees_no_key_gets_zeros_and_zero_gradients():
    mask = jnp.asarray(np.broadcast_to(np.arange(6)[:, None] != 2, (6, 6)))

    def loss(q, k, v):
        out = NONE.attend(q, k, v, jnp.arange(6), jnp.arange(6), mask=mask)[:, 2]
        return jnp.sum(out**2 + out), out

    differentiate = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    (_, out), gradients = jax.jit(differentiate)(*qkv())
    for zeros in out, *gradients:
        assert not np.asarray(zeros).any()


def test_the_scale_of_the_bundle_is_the_scale_of_the_logits():
    q, k, _ = qkv()
    p = jnp.arange(6)
    for scale in None, 1.0, 0.3:
        embedding = pe.PositionalEmbedding(scale=scale)
        expected = (8**-0.5 if scale is None else scale) * jnp.einsum(
            "hqd,hkd->hqk", q, k
        )
        np.testing.assert_allclose(embedding.logits(q, k, p, p), expected, atol=1e-6)


class KeyNorm(pe.abstract.AbstractScore):
    """A score that looks at content: the size of the key, times the distance."""

    weight: Float[Array, ""]

    def __call__(self, q, k, q_positions, k_positions):
        far = pe.positions.distance(q_positions, k_positions).astype(q.dtype)
        return self.weight * far[None] * jnp.sum(k**2 + q[:, :1] * 0, -1)[:, None]


def test_all_four_places_add_up():
    q, k, _ = qkv(kv_heads=2)
    p = jnp.arange(6)
    x = normal((6, 16), seed=9)
    embedding = pe.PositionalEmbedding(
        encoding=pe.Sinusoidal(16),
        rotary=pe.rope(8),
        bias=pe.ALiBi(4),
        score=KeyNorm(jnp.array(0.1)),
        scale=0.5,
    )

    @jax.jit
    def by_parts(q, k, x, p):
        rotation = pe.rope(8)(p)
        each_k = jnp.repeat(k, 2, axis=0)
        queries, keys = jax.vmap(rotation.queries)(q), jax.vmap(rotation.keys)(each_k)
        logits = 0.5 * jnp.einsum("hqd,hkd->hqk", queries, keys) + pe.ALiBi(4)(p, p)
        logits += embedding.score(q, each_k, p, p)
        return x + pe.Sinusoidal(16)(p), logits

    @jax.jit
    def whole(q, k, x, p):
        return embedding.embed(x, p), embedding.logits(q, k, p, p)

    found, expected = whole(q, k, x, p), by_parts(q, k, x, p)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_allclose(found[1], expected[1], atol=5e-6)


class Similar(pe.abstract.AbstractScore):
    """A score that reads what tokens bring along, of the keys only if it is there."""

    reads = ("q_state", "k_state")

    def __call__(self, q, k, q_positions, k_positions, *, q_state=None, k_state=None):
        assert q_state is not None
        mine = q_state["hidden"][:, :1]
        other = jnp.zeros(k_positions.shape) if k_state is None else k_state
        return jnp.broadcast_to(mine + other[None], (q.shape[0], *mine.shape[:1], 6))


def test_states_of_tokens_reach_the_score():
    q, k, v = qkv()
    p = jnp.arange(6)
    embedding = pe.PositionalEmbedding(score=Similar())
    assert embedding.reads == ("q_state", "k_state") and NONE.reads == ()
    assert pe.PositionalEmbedding(score=KeyNorm(jnp.array(0.1))).reads == ()
    hidden, other = jr.normal(jr.key(3), (6, 2)), jr.normal(jr.key(4), (6,))
    state = dict(q_state=dict(hidden=hidden))
    plain = NONE.logits(q, k, p, p)
    one = embedding.logits(q, k, p, p, **state) - plain
    np.testing.assert_allclose(
        one, jnp.broadcast_to(hidden[:, :1], one.shape), atol=1e-6
    )
    two = embedding.logits(q, k, p, p, **state, k_state=other) - plain
    np.testing.assert_allclose(two, one + other[None, None], atol=1e-6)
    # What depends on the query alone is gone after the softmax: the keys' remains.
    attended = embedding.attend(q, k, v, p, p, **state, k_state=other)
    weights = jax.nn.softmax(plain + other[None, None], axis=-1)
    np.testing.assert_allclose(attended, weights @ v, atol=2e-6)


def test_a_state_may_be_batched_and_differentiated():
    q, k, v = qkv()
    p = jnp.arange(6)
    embedding = pe.PositionalEmbedding(score=Similar())

    @jax.jit
    @jax.grad
    def gradient(other):
        attend = lambda k_state: embedding.attend(
            q, k, v, p, p, q_state=dict(hidden=jnp.ones((6, 1))), k_state=k_state
        )
        return jnp.sum(jax.vmap(attend)(other) ** 2)

    batch = gradient(jr.normal(jr.key(4), (3, 6)))
    assert batch.shape == (3, 6) and (batch != 0).all()


def test_positions_of_a_grid_reach_the_embedding():
    class Near(pe.abstract.AbstractBias):
        def __call__(self, q_positions, k_positions):
            far = jnp.sum(
                jnp.abs(pe.positions.distance(q_positions, k_positions)), axis=-1
            )
            return -jnp.broadcast_to(far.astype(jnp.float32), (4, *far.shape))

    q, k, _ = qkv()
    p = pe.positions.grid_positions((2, 3))
    logits = pe.PositionalEmbedding(bias=Near(), scale=1.0).logits(q, k, p, p)
    products = jnp.einsum("hqd,hkd->hqk", q, k)
    # From one corner of the grid to the other: one step down and two to the right.
    np.testing.assert_allclose((logits - products)[:, 0, 5], -3.0, atol=1e-5)


def test_attention_agrees_with_jax():
    q, k, v = qkv(kv_heads=2)
    v = jnp.concatenate([v, v[..., :3]], axis=-1)
    p = jnp.arange(6)
    bias = pe.ALiBi(4)
    ours = pe.PositionalEmbedding(bias=bias).attend(q, k, v, p, p, causal=True)
    swap = lambda x: jnp.swapaxes(x, 0, 1)
    theirs = jax.nn.dot_product_attention(
        swap(q), swap(k), swap(v), bias=bias(p, p)[None], is_causal=True
    )
    np.testing.assert_allclose(ours, swap(theirs), atol=2e-6)


def test_gradients_pass_a_finite_difference():
    jax.config.update("jax_enable_x64", True)
    try:
        embedding = pe.make(
            "kerple", heads=4, head_dim=8, dim=16, length=6, key=jr.key(0)
        )
        q, k, v = (x.astype(jnp.float64) for x in qkv(kv_heads=2))
        p = jnp.arange(6)

        @eqx.filter_jit
        def loss(arguments):
            embedding, q, k, v = arguments
            return jnp.sum(embedding.attend(q, k, v, p, p, causal=True) ** 3)

        start = (embedding, q, k, v)
        gradient = eqx.filter_grad(loss)(start)
        step = jax.tree.map(lambda x: normal(x.shape, x.dtype, x.size), start)
        at = lambda h: loss(jax.tree.map(lambda x, d: x + h * d, start, step))
        slope = (at(1e-5) - at(-1e-5)) / 2e-5
        pairs = zip(jax.tree.leaves(gradient), jax.tree.leaves(step), strict=True)
        along = sum(np.sum(np.asarray(g) * np.asarray(d)) for g, d in pairs)
        # The third derivative leaves h² times a number of order ten, 1e-9.
        assert abs(slope - along) < 1e-7 * abs(along)
    finally:
        jax.config.update("jax_enable_x64", False)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_rounded_where_the_guide_on_precision_says(dtype):
    made = pe.PositionalEmbedding(rotary=pe.rope(64), bias=pe.ALiBi(4))
    q, k, v = (4 * normal((4, 96, 64), seed=seed).astype(dtype) for seed in range(3))
    wide = lambda x: jnp.asarray(x, jnp.float32)
    exact = lambda text, *x: jnp.einsum(text, *map(wide, x), precision="highest")
    same = lambda x, y: np.mean(np.asarray(x) == np.asarray(y))
    p = jnp.arange(96)
    placed = made.at(p)
    rotated = placed.queries(q), placed.keys(k)
    assert same(rotated[0], placed.queries(wide(q)).astype(dtype)) == 1
    logits = exact("hqd,hkd->hqk", *rotated) / 8 + pe.ALiBi(4)(p, p)
    # Another order of a sum tips the balance of few roundings.
    assert same(made.logits(q, k, p, p), logits.astype(dtype)) > 0.99
    weights = jax.nn.softmax(logits)
    for how, rounded in ("dense", weights.astype(dtype)), ("blockwise", weights):
        out = made.attend(q, k, v, p, p, implementation=how)
        right = exact("hqk,hkd->hqd", rounded, v).astype(dtype)
        assert out.dtype == dtype and same(out, right) > 0.99, how
    x = q[0]
    summed = wide(x) + pe.Sinusoidal(64)(p)
    embedded = pe.PositionalEmbedding(encoding=pe.Sinusoidal(64)).embed(x, p)
    assert same(embedded, summed.astype(dtype)) == 1
