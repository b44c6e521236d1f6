"""Fused kernels are the attention that is defined, or say why they do not take a case.

A CPU interprets them: tiles of 128 and masks are those of a TPU.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._registry import resolved
from tests.helpers import (
    at,
    build,
    HEAD_DIM,
    HEADS,
    Layer,
    LENGTH,
    NAMES,
    normal,
    ROWS,
    shape_of,
    SIZES,
    states,
    tokens,
)


HIDES = pe.PositionalEmbedding(bias=pe.ALiBi(2), rotary=pe.rope(16))
# The kernels sum in another order: a few roundings of values up to 5.
BOUND = 2e-5


def assert_same(found, expected, bound=BOUND):
    """Equal but for rounding, next to the largest entry of each array."""
    found, expected = jax.tree.leaves(found), jax.tree.leaves(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert np.abs(a - b).max() <= bound * max(1, np.abs(b).max())


@eqx.filter_jit
def both_ways(attend, arguments):
    """Values of `attend(implementation, *arguments)`, and the gradients by all float
    arrays of the arguments."""

    def loss(arguments, implementation):
        out = attend(implementation, *arguments)
        weights = normal(out.shape, jnp.float32, 9).astype(out.dtype)
        return jnp.sum((weights * out).astype(jnp.float32)), out

    differentiate = eqx.filter_value_and_grad(loss, has_aux=True)
    results = [differentiate(arguments, how) for how in ("pallas", "dense")]
    return [(out, gradient) for (_, out), gradient in results]


def is_sequence(name):
    """Whether a position is a number, and not several coordinates."""
    return resolved(ROWS[name].axes, SIZES) == 1


def positions_of(name, n=LENGTH):
    if is_sequence(name):
        return pe.positions.consecutive(n)
    return at(name, np.arange(n))


# Scores whose products a TPU's kernel aligns by distance.
BANDS = ["transformer_xl", "enformer", "shaw", "music_transformer"]
# What follows an encoding or a rotation is the same for all of them.
FUSED = [
    *BANDS,
    *("nope", "rope", "axial_rope", "scalable_softmax"),
    *("alibi", "alibi_symmetric", "alibi_one_sided", "alibi_asymmetric"),
    *("learned_alibi", "t5", "kerple", "kerple_power", "bam", "sandwich", "tisa"),
    *("dynamic_bias", "clipped"),
]
COORDINATES = "reads positions with several coordinates"
REASONS = {
    **dict.fromkeys(
        ("rerope", "self_extend", "dual_chunk", "path", "wall"), "a product of its own"
    ),
    **dict.fromkeys(
        ("fire", "tupe_absolute", "tupe"), "depends on more than distances"
    ),
    **dict.fromkeys(("forgetting", "grid_alibi", "t5_grid", "swin"), COORDINATES),
    **dict.fromkeys(("log_cpb", "beit", "levit"), COORDINATES),
    **dict.fromkeys(
        ("deberta", "deberta_v2", "inkling", "wavlm", "cope"),
        "has no vector for each distance",
    ),
    "decomposed": COORDINATES,
}


def explained(name, **settings):
    n, found = LENGTH, []

    def explain(embedding, x, hidden):
        p, given = positions_of(name), states(embedding, hidden, hidden)
        settings.setdefault("causal", is_sequence(name))
        found.append(embedding.explain(x, x, x, p, p, **given, **settings))

    x = jax.ShapeDtypeStruct((HEADS, n, HEAD_DIM), jnp.float32)
    eqx.filter_eval_shape(explain, shape_of(name), x, x)
    return found[0]


@pytest.mark.parametrize("name", NAMES)
def test_every_row_is_fused_or_says_why_not(name):
    text = explained(name, implementation="pallas")
    if name in REASONS:
        assert text.startswith("others: blocks of")
        assert text.splitlines()[1].startswith("There is no fused kernel. ")
        assert REASONS[name] in text
    else:
        kernel = "one fused kernel, in tiles of 128 queries and 128 keys"
        gpu = "gpu: one fused kernel, in tiles of 64 queries and 32 keys\n"
        gpu = "" if name in BANDS else gpu
        assert f"tpu: {kernel}\n{gpu}cpu: {kernel}, interpreted\n" in text
        assert name in FUSED or ROWS[name].place in ("encoding", "rotary")


@pytest.mark.parametrize("name", FUSED)
def test_values_and_gradients_are_dense(name):
    p = positions_of(name)

    def of_layer(implementation, layer, x):
        causal = is_sequence(name)
        return layer(x, x, p, p, causal=causal, implementation=implementation)

    assert_same(*both_ways(of_layer, (Layer(build(name)), tokens(LENGTH))))


def qkv(q=200, k=200, heads=2, kv_heads=1, dtype=jnp.float32):
    return (
        normal((heads, q, 16), dtype, 1),
        normal((kv_heads, k, 16), dtype, 2),
        normal((kv_heads, k, 8), dtype, 3),
    )


IDS = jnp.repeat(jnp.arange(4, dtype=jnp.int32), 75)
SEGMENTS = dict(q_segments=IDS, k_segments=IDS)
T5 = pe.PositionalEmbedding(bias=pe.T5Bias(2, key=jax.random.key(1)))
# Lengths that fill no block, starts that differ, and all rules.
CASES = {
    "everything": ((200, 300), (0, 0), dict()),
    "causal": ((300, 300), (5, 5), dict(causal=True)),
    "keys of the past": ((140, 300), (160, 0), dict(causal=True)),
    "queries without a key": ((300, 140), (0, 130), dict(causal=True)),
    "window": ((300, 300), (0, 0), dict(window=(20, 150))),
    "causal window": ((300, 300), (0, 0), dict(causal=True, window=30)),
    "soft cap": ((200, 200), (0, 0), dict(causal=True, soft_cap=1.5)),
    "segments": ((300, 300), (0, 0), dict(causal=True, **SEGMENTS)),
    "other segments": (
        (300, 300),
        (0, 0),
        dict(window=(5, 60), q_segments=IDS, k_segments=IDS + 1),
    ),
}


@pytest.mark.parametrize("counts, starts, rules", CASES.values(), ids=CASES)
def test_tiles_are_masked_by_every_rule(counts, starts, rules):
    def attend(implementation, embedding, q, k, v):
        p = map(pe.positions.consecutive, counts, starts)
        tiles = dict(block_size=128) if implementation == "pallas" else {}
        return embedding.attend(
            q, k, v, *p, implementation=implementation, **tiles, **rules
        )

    assert_same(*both_ways(attend, (T5, *qkv(*counts))))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_a_head_of_keys_serves_several_of_queries(kv_heads):
    embedding = pe.PositionalEmbedding(bias=pe.KERPLE(4, key=jax.random.key(0)))

    def attend(implementation, embedding, *tokens):
        p = pe.positions.consecutive(200)
        return embedding.attend(
            *tokens, p, p, causal=True, implementation=implementation
        )

    arguments = embedding, *qkv(heads=4, kv_heads=kv_heads)
    assert_same(*both_ways(attend, arguments))


def test_many_tiles_of_several_rows_add_up_the_gradients_of_a_score():
    score = pe.TransformerXL(2, 16, 8, std=0.5, key=jax.random.key(0))

    def attend(implementation, embedding, *tokens):
        p = pe.positions.consecutive(500)
        tiles = dict(block_size=256) if implementation == "pallas" else {}
        return embedding.attend(
            *tokens, p, p, window=(300, 40), implementation=implementation, **tiles
        )

    arguments = pe.PositionalEmbedding(score=score), *qkv(500, 500)
    assert_same(*both_ways(attend, arguments))


def test_a_strip_that_is_not_kept_is_expanded_by_every_tile(monkeypatch):
    monkeypatch.setattr(
        "eqx_posemb._attention._fused._tpu._tiles.keeps", lambda n: False
    )

    def attend(implementation, embedding, *tokens):
        p = pe.positions.consecutive(300)
        tiles = dict(block_size=128) if implementation == "pallas" else {}
        return embedding.attend(
            *tokens,
            p,
            p,
            causal=True,
            window=140,
            implementation=implementation,
            **tiles,
        )

    assert_same(*both_ways(attend, (T5, *qkv(300, 300))))


class Hidden(pe.abstract.AbstractRelativeBias):
    """Hides all keys that are nearer than five positions."""

    def along(self, delta):
        hidden = jnp.where(jnp.abs(delta) < 5, -jnp.inf, 0.0)
        return jnp.broadcast_to(hidden, (2, delta.size))


@jax.debug_nans(True)
def test_a_bias_may_hide_keys_and_all_keys_of_a_query():
    def attend(implementation, q, k, v):
        embedding, p = (
            pe.PositionalEmbedding(bias=Hidden()),
            pe.positions.consecutive(140),
        )
        return embedding.attend(
            q, k, v, p, p, causal=True, implementation=implementation
        )

    found, expected = both_ways(attend, qkv(140, 140))
    assert not np.asarray(found[0])[:, :5].any()
    assert_same(found, expected)


def test_bfloat16_is_as_exact_as_dense():
    assert_as_exact_as_dense(200)


def assert_as_exact_as_dense(count):
    """Next to float32 on the same numbers: a rounding of values and of weights."""

    def attend(implementation, *arguments):
        p = pe.positions.consecutive(count)
        return T5.attend(*arguments, p, p, causal=True, implementation=implementation)

    low = qkv(count, count, dtype=jnp.bfloat16)
    found, dense = both_ways(attend, low)
    exact = both_ways(attend, [x.astype(jnp.float32) for x in low])[1]
    for a, b, c in zip(*map(jax.tree.leaves, (found, dense, exact)), strict=True):
        assert a.dtype == jnp.bfloat16
        a, b, c = (np.asarray(x, np.float32) for x in (a, b, c))
        largest = np.abs(c).max()
        assert np.abs(a - c).max() <= max(2 * np.abs(b - c).max(), largest / 128)


def test_positions_that_are_seen_to_be_consecutive_need_no_statement():
    p, found = jnp.arange(3, 203), []

    def explain(q_positions, k_positions):
        how = dict(causal=True, implementation="pallas")
        text = T5.explain(*qkv(), q_positions, k_positions, **how)
        found.append("one fused kernel" in text)
        return text

    for q_positions in p, p[::-1], p.astype(float):
        explain(q_positions, p)
    assert found == [True, False, False]
    # Under `jit`, what is closed over is known, and an argument is not.
    jax.eval_shape(lambda p: jnp.zeros(len(explain(p, p))), p)
    jax.eval_shape(lambda: jnp.zeros(len(explain(p, p))))
    assert found[3:] == [False, True]


def test_without_order_or_bias_positions_are_not_read():
    p = jnp.arange(200)[::-1]
    embedding = pe.PositionalEmbedding(rotary=pe.rope(16))
    assert "tpu: one" in embedding.explain(*qkv(), p, p, implementation="pallas")


def test_an_order_that_is_stated_is_the_order_of_the_rules():
    embedding = build("mrope")

    def attend(implementation, *tokens):
        p = jnp.stack([jnp.arange(200) // 7 % size for size in (1000, 6, 5)], axis=-1)
        order = pe.positions.consecutive(200)
        return embedding.attend(
            *tokens,
            p,
            p,
            causal=True,
            window=30,
            q_order=order,
            k_order=order,
            implementation=implementation,
        )

    assert_same(*both_ways(attend, qkv()))


REFUSED = {
    "`mask` is an array of all pairs": dict(mask=jnp.ones((200, 200), bool)),
    "`q_order` and `k_order` are not stated": dict(
        causal=True, q_order=jnp.arange(200), k_order=jnp.arange(200)[::-1]
    ),
    "The window reaches": dict(window=(2**28, 0)),
    "must be a multiple of 128, but is 100": dict(block_size=100),
}


@pytest.mark.parametrize("reason, rules", REFUSED.items(), ids=REFUSED)
def test_what_is_refused_goes_by_blocks_and_says_why(reason, rules):
    p = pe.positions.consecutive(200)
    with pytest.warns(UserWarning, match=f"goes by blocks. .*{reason}"):
        found = HIDES.attend(*qkv(), p, p, implementation="pallas", **rules)
    rules.pop("block_size", None)
    dense = HIDES.attend(*qkv(), p, p, implementation="dense", **rules)
    assert_same(found, dense)
    # And nobody is told who has not asked.
    HIDES.attend(*qkv(), p, p, **rules)


def test_other_dtypes_widths_and_single_queries_are_refused():
    p, how = pe.positions.consecutive(200), dict(implementation="pallas")
    q, k, v = qkv()
    half = q.astype(jnp.float16)
    assert "bfloat16, but are float16" in pe.PositionalEmbedding().explain(
        half, half, half, p, p, **how
    )
    mixed = T5.explain(q, k, v.astype(jnp.bfloat16), p, p, **how)
    assert "but are bfloat16, float32" in mixed
    wide = normal((2, 200, 257))
    assert "has 257 channels" in T5.explain(wide, wide, wide, p, p, **how)
    shaw = pe.PositionalEmbedding(score=pe.Shaw(16, key=jax.random.key(0)))
    one = pe.positions.consecutive(1, 199)
    assert "There is one query" in shaw.explain(q[:, -1:], k, v, one, p, **how)
    none = q[:, :0]
    assert "There are no tokens" in pe.PositionalEmbedding().explain(
        none, k, v, pe.positions.consecutive(0), p, **how
    )


def test_second_derivatives_name_the_cure():
    def loss(q):
        p = pe.positions.consecutive(200)
        return jnp.sum(HIDES.attend(q, *qkv()[1:], p, p, implementation="pallas") ** 2)

    twice = jax.grad(lambda q: jnp.sum(jax.grad(loss)(q)))
    with pytest.raises(ValueError, match="Use `implementation='blockwise'`"):
        jax.eval_shape(twice, qkv()[0])


def test_layers_are_mapped_scanned_and_checkpointed():
    p = pe.positions.consecutive(140)
    x = normal((3, 2, 140, 16))

    def model(x, implementation):
        def layer(x, _):
            attend = lambda x: T5.attend(
                x, x, x, p, p, causal=True, implementation=implementation
            )
            return x + jax.checkpoint(attend)(x), None

        return jnp.sum(jax.lax.scan(layer, x, length=2)[0] ** 2)

    @jax.jit
    def gradients(x):
        return [
            jax.vmap(jax.value_and_grad(lambda x, how=how: model(x, how)))(x)
            for how in ("pallas", "dense")
        ]

    assert_same(*gradients(x), bound=5e-5)


def test_every_example_of_a_batch_may_start_elsewhere():
    q, k, v = (jnp.stack([x, x[:, ::-1]]) for x in qkv(140, 140))

    @jax.jit
    def values(starts):
        def attend(start, q, k, v, how):
            p = pe.positions.consecutive(140, start), pe.positions.consecutive(140)
            return T5.attend(q, k, v, *p, causal=True, implementation=how)

        return [
            jax.vmap(lambda *x, how=how: attend(*x, how))(starts, q, k, v)
            for how in ("pallas", "dense")
        ]

    assert_same(*values(jnp.array([0, 50])))
