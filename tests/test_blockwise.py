"""Attention by blocks is the attention that is defined, and is smaller."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array, Float

import eqx_posemb as pe
from eqx_posemb._bias._window import AbstractWindowBias
from eqx_posemb._rotary import AbstractProducts
from eqx_posemb._score._relative import AbstractRelative
from tests.helpers import (
    at,
    build,
    Layer,
    NAMES,
    normal,
    past,
    ROWS,
    shape_of,
    tokens,
)


N = 11  # Of blocks of 4: two whole ones, and one to fill up.


class Far(pe.abstract.AbstractScore):
    """A score that looks at content, and whose weight is trained."""

    weight: Float[Array, ""]

    def __call__(self, q, k, q_positions, k_positions):
        delta = pe.positions.distance(q_positions, k_positions).astype(q.dtype)
        return self.weight * delta[None] * q[:, :, :1] * k[:, None, :, 0]


def everything():
    """An embedding with something in every place that attention sees."""
    return pe.PositionalEmbedding(
        bias=pe.KERPLE(4, key=jr.key(2)),
        score=Far(jnp.array(0.1)),
    )


def qkv(q=N, k=N, dtype=jnp.float32):
    return (
        normal((4, q, 8), dtype, 1),
        normal((2, k, 8), dtype, 2),
        normal((2, k, 5), dtype, 3),
    )


def assert_same(found, expected, bound=1e-5):
    """Equal but for rounding, next to the largest entry of each array, or a tenth of
    the largest of all: some gradients are differences that cancel to nothing."""
    found, expected = (jax.tree.map(np.asarray, tree) for tree in (found, expected))
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    of_all = max(np.abs(b).max() for b in expected)
    for a, b in zip(found, expected, strict=True):
        largest = max(np.abs(b).max(), of_all / 10)
        error = np.abs(a - b).max()
        assert a.dtype == b.dtype
        assert error <= bound * largest, f"{error} > {bound} * {largest}"


@eqx.filter_jit
def values(attend, arguments):
    """The values of `attend(implementation, *arguments)`, either way."""
    return [attend(way, *arguments) for way in ("blockwise", "dense")]


@eqx.filter_jit
def both(attend, arguments):
    """The values of `attend(implementation, *arguments)`, and the gradients of a
    weighted sum of them by all float arrays of the arguments, either way."""

    def loss(arguments, implementation):
        out = attend(implementation, *arguments)
        return jnp.sum(normal(out.shape, out.dtype, 9) * out), out

    differentiate = eqx.filter_value_and_grad(loss, has_aux=True)
    results = [differentiate(arguments, way) for way in ("blockwise", "dense")]
    return [(out, gradient) for (_, out), gradient in results]


def by_blocks(implementation, layer, x, positions):
    """Self-attention of a layer, whose rules are those of its grid."""
    rules = past(positions, positions) | dict(implementation=implementation)
    return layer(x, x, positions, positions, block_size=4, **rules)


# One variant, or more, for each way in which blocks evaluate a gradient. DeBERTa has a
# test of its own below, as have scores that prepare vectors for their tiles.
GRADIENTS = (
    "learned",
    "rerope",
    "t5",
    "kerple",
    "tupe",
    "beit",
    "shaw",
    "decomposed",
    "inkling",
    "wavlm",
    "cope",
    "path",
)


# Biases along distances or of a window, and these scores, are evaluated by code of
# their base class or of another test: some gradients and ALiBi stand for them.
IN_COMMON = (
    pe.abstract.AbstractRelativeBias,
    AbstractWindowBias,
    AbstractRelative,
    pe.DeBERTa,
)


def has_code_of_its_own(name):
    """Encodings and rotations are applied before blocks: one stands for all."""
    row, embedding = ROWS[name], shape_of(name)
    part = getattr(embedding, row.place)
    evaluated = row.place in ("bias", "score") or isinstance(part, AbstractProducts)
    return evaluated and not isinstance(part, IN_COMMON)


VALUES = {"rope", "alibi", *filter(has_code_of_its_own, NAMES)} - {*GRADIENTS}


@pytest.mark.parametrize("name", sorted(VALUES))
def test_values_go_by_blocks(name):
    arguments = Layer(build(name)), tokens(N), at(name, np.arange(N))
    assert_same(*values(by_blocks, arguments))


# All in single precision, and every fourth in double: it is the same program.
MODES = [(name, False) for name in GRADIENTS] + [
    (name, True) for name in GRADIENTS[3::4]
]


@pytest.mark.parametrize("name, x64", MODES, indirect=["x64"])
def test_values_and_gradients_go_by_blocks(name, x64):
    dtype = jnp.float64 if x64 else jnp.float32
    arguments = Layer(build(name), dtype), tokens(N, dtype), at(name, np.arange(N))
    assert_same(*both(by_blocks, arguments), bound=1e-10 if x64 else 1e-5)


def to_both_sides(implementation, layer, x, positions):
    rules = dict(implementation=implementation, block_size=4)
    return layer(x, x, positions, positions, **rules)


@pytest.mark.parametrize("name", ["deberta", "deberta_v2"])
@pytest.mark.parametrize("x64", [True], ids=["x64"], indirect=True)
def test_deberta_goes_by_blocks_in_float64(name, x64):
    """Two scores and a table that all blocks share: the longest sums of gradients."""
    layer = Layer(build(name), jnp.float64)
    arguments = layer, tokens(N, jnp.float64), jnp.arange(N)
    assert_same(*both(to_both_sides, arguments), bound=1e-10)


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
    p = jnp.asarray(np.arange(45) + 3 * (np.arange(45) >= 32))
    assert jax.eval_shape(score.prepare, p[:8], p[8:16]) is not None
    q, k, v = (normal((4, 45, 4), seed=seed) for seed in range(3))

    def attend(implementation, embedding, q, k, v):
        rules = dict(implementation=implementation, block_size=8)
        return embedding.attend(q, k, v, p, p, causal=True, **rules)

    assert_same(*both(attend, (embedding, q, k, v)))


IDS = jnp.asarray([3, 3, 3, 3, 0, 0, 1, 1, 1, 1, 1])
MASK = np.random.default_rng(0).random((4, N, N)) < 0.6
MASK, ONE_MASK = jnp.asarray(MASK), jnp.asarray(MASK[0])
RULES = {
    "everything": dict(),
    "causal": dict(causal=True),
    "window": dict(window=3),
    "causal window": dict(causal=True, window=6),
    "pair": dict(window=(5, 1)),
    "segments": dict(q_segments=IDS, k_segments=IDS),
    "mask": dict(mask=ONE_MASK),
    "mask for each head": dict(mask=MASK),
    "soft cap": dict(soft_cap=1.5, causal=True),
    "all": dict(
        causal=True,
        window=7,
        q_segments=IDS,
        k_segments=IDS,
        mask=ONE_MASK,
        soft_cap=2.0,
    ),
}


# Gradients of the rules that go other ways: together, for each head, and capped.
WITH_GRADIENTS = ("all", "mask for each head", "soft cap")


@pytest.mark.parametrize("name", RULES)
def test_every_rule_goes_by_blocks(name):
    p, rules = jnp.arange(N), RULES[name]

    def attend(implementation, embedding, q, k, v):
        return embedding.attend(
            q, k, v, p, p, **rules, implementation=implementation, block_size=4
        )

    ways = both if name in WITH_GRADIENTS else values
    assert_same(*ways(attend, (everything(), *qkv())))


def test_segments_may_end_inside_of_whole_blocks():
    """Queries of one segment, with keys of which some are of the one before, or after:
    such a tile is masked, though its length is the length of a block."""
    p, ids = jnp.arange(12), jnp.array([0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2])

    def attend(implementation, embedding, q, k, v):
        rules = dict(q_segments=ids, k_segments=ids, implementation=implementation)
        return embedding.attend(q, k, v, p, p, **rules, block_size=4)

    assert_same(*values(attend, (everything(), *qkv(12, 12))))


def test_rules_may_compare_another_order():
    """Either way it is the mask of that order."""
    order = np.random.default_rng(5).permutation(N)
    ago = order[:, None] - order
    mask, order = jnp.asarray((ago >= 0) & (ago < 5)), jnp.asarray(order)
    arguments = Layer(build("mrope")), tokens(N), at("mrope", np.arange(N))
    ordered = dict(causal=True, window=5, q_order=order, k_order=order)

    def attend(implementation, layer, x, p):
        rules = dict(mask=mask) if implementation == "dense" else ordered
        options = dict(implementation=implementation, block_size=4)
        return layer(x, x, p, p, **rules, **options)

    assert_same(*both(attend, arguments))
    dense = jax.jit(lambda layer, x, p: layer(x, x, p, p, **ordered))(*arguments)
    assert_same([dense], [values(attend, arguments)[1]])


ANY = np.random.default_rng(3)
ORDERS = {
    "shuffled": (ANY.permutation(N), ANY.permutation(N)),
    "one document after another": (np.arange(N) % 4, np.arange(N) % 4),
    "dealt out": (np.asarray(pe.positions.zigzag(12, 3)[:N]), np.arange(N)),
    "other queries than keys": (np.array([9, 2, 30]), np.arange(N)),
    "floats": (0.7 * np.arange(N), 0.7 * np.arange(N) + 0.1),
}


def causal(implementation, embedding, q, k, v, q_positions, k_positions, size=4):
    rules = dict(causal=True, implementation=implementation, block_size=size)
    return embedding.attend(q, k, v, q_positions, k_positions, **rules)


@pytest.mark.parametrize("positions", ORDERS.values(), ids=ORDERS)
def test_positions_may_be_in_any_order(positions):
    q, k, v = qkv(q=positions[0].size)
    positions = [jnp.asarray(p) for p in positions]
    assert_same(*both(causal, (everything(), q, k, v, *positions)))


@pytest.mark.parametrize("size", [1, 3, N, 64])
def test_the_size_of_blocks_changes_nothing(size):
    p = jnp.arange(N)
    assert_same(*values(causal, (everything(), *qkv(), p, p, size)))


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
    q, k, v = (np.stack([x, x[:, ::-1], 2 * x]) for x in map(np.asarray, qkv()))
    q, k, v = map(jnp.asarray, (q, k, v))
    p = jnp.asarray(np.stack([np.arange(N), np.arange(N)[::-1], 3 * np.arange(N)]))

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


def test_a_batch_shares_no_tiles_whose_distances_differ_in_one_example():
    """Tiles of the first example have the same distances, and those of the second have
    others."""
    embedding = pe.PositionalEmbedding(bias=pe.ALiBi(4, form="symmetric"))
    rows = [[*range(12)], [0, 1, 2, 3, 104, 105, 106, 107, 8, 9, 10, 11]]

    def attend(implementation, q, k, v, positions):
        def one(p):
            rules = dict(implementation=implementation, block_size=4)
            return embedding.attend(q, k, v, p, p, **rules)

        return jax.vmap(one)(positions)

    assert_same(*values(attend, (*qkv(12, 12), jnp.array(rows))))


def test_a_batch_leaves_out_what_no_example_needs():
    """Its loops are one loop for all, and not both sides of a choice for each."""
    q, k, v = (jnp.asarray(np.stack([x, x])) for x in qkv())
    p = jnp.asarray(np.stack([np.arange(N), np.arange(N) + 5]))

    @jax.jit
    @jax.vmap
    def attend(q, k, v, p):
        return causal("blockwise", everything(), q, k, v, p, p)

    batched = attend(q, k.at[:, :, 4:].set(jnp.nan), v, p)
    assert np.isfinite(np.asarray(batched)[:, :, :4]).all()


@jax.debug_nans(True)
def test_a_query_that_sees_no_key_gets_zeros_and_zero_gradients():
    q, k, v = qkv()
    p = jnp.arange(N)
    hidden = np.isin(np.arange(N), (2, 8, 9, 10))
    mask = jnp.asarray(np.broadcast_to(~hidden[:, None], (N, N)))

    def loss(q, k, v):
        out = everything().attend(
            q, k, v, p, p, mask=mask, implementation="blockwise", block_size=4
        )[:, hidden]
        return jnp.sum(out**2 + out), out

    differentiate = jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True)
    (_, out), gradients = jax.jit(differentiate)(q, k, v)
    for zeros in out, *gradients:
        assert not np.asarray(zeros).any()


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

    @jax.jit
    def attend(q, k, v):
        return embedding.attend(
            q, k, v, p[:64], p, implementation="blockwise", block_size=16
        )

    wide = attend(*(x.astype(jnp.float32) for x in (q, k, v)))
    narrow = attend(q, k, v)
    assert narrow.dtype == dtype
    # Nothing but the result is rounded: bit for bit.
    assert np.array_equal(narrow, np.asarray(wide).astype(dtype))
    loss = lambda *x: jnp.sum(attend(*x).astype(jnp.float32) ** 2)
    gradients = jax.eval_shape(jax.grad(loss, argnums=(0, 1, 2)), q, k, v)
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
