"""Attention by blocks is the attention that is defined, and is smaller."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import eqx_posemb as pe
from tests.helpers import at, build, Layer, NAMES, past, tokens


N = 11  # Of blocks of 4: two whole ones, and one to fill up.


class Far(pe.AbstractScore):
    """A score that looks at content, and whose weight is trained."""

    weight: Float[Array, ""]

    def __call__(self, q, k, q_positions, k_positions):
        delta = pe.distance(q_positions, k_positions).astype(q.dtype)
        return self.weight * delta[None] * q[:, :, :1] * k[:, None, :, 0]


def everything():
    """An embedding with something in every place that attention sees."""
    return pe.PositionalEmbedding(
        bias=pe.KERPLE(4, key=jr.key(2)),
        score=Far(jnp.array(0.1)),
    )


def qkv(q=N, k=N, dtype=jnp.float32):
    keys = jr.split(jr.key(0), 3)
    return (
        jr.normal(keys[0], (4, q, 8), dtype),
        jr.normal(keys[1], (2, k, 8), dtype),
        jr.normal(keys[2], (2, k, 5), dtype),
    )


def assert_same(found, expected, bound=1e-5):
    """Equal but for rounding, next to the largest entry of each array, or a tenth of
    the largest of all: some gradients are differences that cancel to nothing."""
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    of_all = max(float(jnp.max(jnp.abs(b))) for b in expected)
    for a, b in zip(found, expected, strict=True):
        largest = max(float(jnp.max(jnp.abs(b))), of_all / 10)
        error = float(jnp.max(jnp.abs(a - b)))
        assert a.dtype == b.dtype
        assert error <= bound * largest, f"{error} > {bound} * {largest}"


def both(attend, arguments):
    """The values of `attend(implementation, *arguments)`, and the gradients of a
    weighted sum of them by all float arrays of the arguments, either way."""

    @eqx.filter_jit
    def of(arguments):
        def loss(arguments, implementation):
            out = attend(implementation, *arguments)
            weights = jr.normal(jr.key(9), out.shape, out.dtype)
            return jnp.sum(weights * out), out

        differentiate = eqx.filter_value_and_grad(loss, has_aux=True)
        results = [differentiate(arguments, way) for way in ("blockwise", "dense")]
        return [(out, gradient) for (_, out), gradient in results]

    return of(arguments)


# All in single precision, and every fourth in double: it is the same program.
MODES = [(name, False) for name in NAMES] + [(name, True) for name in NAMES[::4]]


@pytest.mark.parametrize("name, x64", MODES, indirect=["x64"])
def test_every_variant_goes_by_blocks(name, x64):
    dtype = jnp.float64 if x64 else jnp.float32
    layer, x = Layer(build(name), dtype), tokens(N, dtype)
    p = at(name, jnp.arange(N))

    def attend(implementation, layer, x):
        rules = past(p, p) | dict(implementation=implementation, block_size=4)
        return layer(x, x, p, p, **rules)

    assert_same(*both(attend, (layer, x)), bound=1e-10 if x64 else 1e-5)


@pytest.mark.parametrize("name", ["deberta", "deberta_v2"])
@pytest.mark.parametrize("x64", [True], ids=["x64"], indirect=True)
def test_deberta_goes_by_blocks_in_float64(name, x64):
    """Two scores and a table that all blocks share: the longest sums of gradients."""
    layer, x, p = Layer(build(name), jnp.float64), tokens(N, jnp.float64), jnp.arange(N)

    def attend(implementation, layer, x):
        rules = dict(implementation=implementation, block_size=4)
        return layer(x, x, p, p, **rules)

    assert_same(*both(attend, (layer, x)), bound=1e-10)


SCORES = {
    "transformer_xl": lambda key: pe.TransformerXL(4, 4, 6, clamp=9, std=1.0, key=key),
    "enformer": lambda key: pe.Enformer(4, 4, 6, 64, key=key),
}


@pytest.mark.parametrize("name", SCORES)
def test_blocks_share_what_a_score_prepares(name):
    """Which it does where queries are more than channels of a head: blocks of 8, of
    which the fifth is at a distance of its own from the others, and the last padded."""
    score = SCORES[name](jr.key(1))
    embedding = pe.PositionalEmbedding(score=score)
    p = jnp.arange(45).at[32:].add(3)
    assert score.prepared(p[:8], p[8:16]) is not None
    q, k, v = jr.normal(jr.key(2), (3, 4, 45, 4))

    def attend(implementation, embedding, q, k, v):
        rules = dict(implementation=implementation, block_size=8)
        return embedding.attend(q, k, v, p, p, causal=True, **rules)

    assert_same(*both(attend, (embedding, q, k, v)))


IDS = jnp.array([3, 3, 3, 3, 0, 0, 1, 1, 1, 1, 1])
RULES = {
    "everything": dict(),
    "causal": dict(causal=True),
    "window": dict(window=3),
    "causal window": dict(causal=True, window=6),
    "pair": dict(window=(5, 1)),
    "segments": dict(q_segments=IDS, k_segments=IDS),
    "mask": dict(mask=jr.bernoulli(jr.key(1), 0.4, (N, N))),
    "mask for each head": dict(mask=jr.bernoulli(jr.key(1), 0.4, (4, N, N))),
    "soft cap": dict(soft_cap=1.5, causal=True),
    "all": dict(
        causal=True,
        window=7,
        q_segments=IDS,
        k_segments=IDS,
        mask=jr.bernoulli(jr.key(1), 0.8, (N, N)),
        soft_cap=2.0,
    ),
}


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_every_rule_goes_by_blocks(rules):
    p = jnp.arange(N)

    def attend(implementation, embedding, q, k, v):
        return embedding.attend(
            q, k, v, p, p, **rules, implementation=implementation, block_size=4
        )

    assert_same(*both(attend, (everything(), *qkv())))


ORDERS = {
    "shuffled": (jr.permutation(jr.key(3), N), jr.permutation(jr.key(4), N)),
    "one document after another": (jnp.arange(N) % 4, jnp.arange(N) % 4),
    "dealt out": (pe.zigzag(12, 3)[:N], jnp.arange(N)),
    "other queries than keys": (jnp.array([9, 2, 30]), jnp.arange(N)),
    "floats": (0.7 * jnp.arange(float(N)), 0.7 * jnp.arange(float(N)) + 0.1),
}


@pytest.mark.parametrize("positions", ORDERS.values(), ids=ORDERS)
def test_positions_may_be_in_any_order(positions):
    q, k, v = qkv(q=positions[0].size)

    def attend(implementation, embedding, q, k, v, q_positions, k_positions):
        return embedding.attend(
            q,
            k,
            v,
            q_positions,
            k_positions,
            causal=True,
            implementation=implementation,
            block_size=4,
        )

    assert_same(*both(attend, (everything(), q, k, v, *positions)))


@pytest.mark.parametrize("block_size", [1, 3, N, 64])
def test_the_size_of_blocks_changes_nothing(block_size):
    q, k, v = qkv()
    p = jnp.arange(N)
    attend = lambda **rules: everything().attend(q, k, v, p, p, causal=True, **rules)
    blockwise = attend(implementation="blockwise", block_size=block_size)
    assert_same(blockwise, attend(implementation="dense"))


def test_second_derivatives_go_by_blocks():
    p = jnp.arange(N)
    start = (everything(), *qkv())

    def gradients(arguments, implementation):
        def loss(arguments):
            embedding, q, k, v = arguments
            out = embedding.attend(
                q,
                k,
                v,
                p,
                p,
                causal=True,
                soft_cap=3.0,
                implementation=implementation,
                block_size=4,
            )
            return jnp.sum(jnp.sin(out))

        return eqx.filter_grad(loss)(arguments)

    @eqx.filter_jit
    def second(arguments, implementation):
        def of(arguments):
            leaves = jax.tree.leaves(gradients(arguments, implementation))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

        return eqx.filter_grad(of)(arguments)

    # Second derivatives of the exponent cancel to a tenth of their size.
    assert_same(second(start, "blockwise"), second(start, "dense"), bound=1e-4)


def test_forward_mode_says_that_it_is_not_there():
    q, k, v = qkv()
    p = jnp.arange(N)
    attend = lambda q: everything().attend(q, k, v, p, p, implementation="blockwise")
    with pytest.raises(TypeError, match="forward-mode autodiff"):
        jax.jvp(attend, (q,), (q,))


def test_transformations_compose():
    """A batch with positions of its own, checkpointed layers under a scan."""
    embedding = everything()
    q, k, v = (jnp.stack([x, x[:, ::-1], 2 * x]) for x in qkv())
    p = jnp.stack([jnp.arange(N), jnp.arange(N)[::-1], 3 * jnp.arange(N)])

    def model(implementation, q, k, v):
        def layer(q, _):
            def attend(q, k, v, p):
                return embedding.attend(
                    q,
                    k,
                    jnp.concatenate([v, v[..., :3]], axis=-1),
                    p,
                    p,
                    causal=True,
                    implementation=implementation,
                    block_size=4,
                )

            return jax.checkpoint(jax.vmap(attend))(q, k, v, p), None

        return jax.lax.scan(layer, q, length=2)[0]

    assert_same(*both(model, (q, k, v)))


def test_a_batch_leaves_out_what_no_example_needs():
    """Its loops are one loop for all, and not both sides of a choice for each."""
    q, k, v = (jnp.stack([x, x]) for x in qkv())
    p = jnp.stack([jnp.arange(N), jnp.arange(N) + 5])

    def attend(q, k, v, p):
        return everything().attend(
            q, k, v, p, p, causal=True, implementation="blockwise", block_size=4
        )

    batched = jax.vmap(attend)(q, k.at[:, :, 4:].set(jnp.nan), v, p)
    assert jnp.isfinite(batched[:, :, :4]).all()


@jax.debug_nans(True)
def test_a_query_that_sees_no_key_gets_zeros_and_zero_gradients():
    q, k, v = qkv()
    p = jnp.arange(N)
    mask = jnp.ones((N, N), bool).at[2].set(False).at[8:].set(False)
    hidden = ~mask.any(1)

    def attend(q, k, v):
        return everything().attend(
            q, k, v, p, p, mask=mask, implementation="blockwise", block_size=4
        )

    assert (attend(q, k, v)[:, hidden] == 0).all()
    gradients = jax.grad(
        lambda *x: jnp.sum(attend(*x)[:, hidden] ** 2 + attend(*x)[:, hidden]),
        argnums=(0, 1, 2),
    )(q, k, v)
    for gradient in gradients:
        assert (gradient == 0).all()


def test_no_keys_and_no_queries_are_fine():
    q, k, v = qkv()
    p = jnp.arange(N)
    attend = lambda *x: everything().attend(*x, implementation="blockwise")
    assert (attend(q, k[:, :0], v[:, :0], p, p[:0]) == 0).all()
    assert attend(q[:, :0], k, v, p[:0], p).shape == (4, 0, 5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_low_precision_is_summed_in_float32(dtype):
    q, k, v = qkv(q=64, k=512, dtype=dtype)
    embedding = pe.PositionalEmbedding(bias=pe.ALiBi(4, form="symmetric"))
    p = jnp.arange(512)

    def attend(q, k, v):
        return embedding.attend(
            q, k, v, p[:64], p, implementation="blockwise", block_size=16
        )

    wide = attend(*(x.astype(jnp.float32) for x in (q, k, v)))
    narrow = attend(q, k, v)
    assert narrow.dtype == dtype
    # Nothing but the result is rounded: bit for bit.
    assert jnp.array_equal(narrow, wide.astype(dtype))
    loss = lambda *x: jnp.sum(attend(*x).astype(jnp.float32) ** 2)
    gradients = jax.grad(loss, argnums=(0, 1, 2))(q, k, v)
    assert [g.dtype for g in gradients] == [dtype] * 3


def test_a_soft_cap_is_its_formula():
    q, k, v = qkv()
    p = jnp.arange(N)
    embedding = pe.PositionalEmbedding(bias=pe.ALiBi(4))
    out = embedding.attend(q, k, v, p, p, soft_cap=0.5)
    logits = np.asarray(embedding.logits(q, k, p, p), np.float64)
    weights = np.exp(0.5 * np.tanh(logits / 0.5))
    weights /= weights.sum(-1, keepdims=True)
    expected = weights @ np.repeat(np.asarray(v), 2, axis=0)
    np.testing.assert_allclose(out, expected, atol=2e-6)
