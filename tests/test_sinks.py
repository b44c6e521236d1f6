"""The log-sum-exp of the logits, and sinks in the denominator of the softmax."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import eqx_posemb as pe
from tests.helpers import normal
from tests.test_fused import assert_same


N = 140
EMBEDDING = pe.PositionalEmbedding(
    rotary=pe.rope(16), bias=pe.T5Bias(4, key=jax.random.key(1))
)
SINKS = jnp.asarray([0.5, -1.0, 2.0, 0.0])
# Keys start later than queries, so the first five queries see no key.
LATER = 5
RULES = dict(causal=True, window=60, soft_cap=4.0)


def arguments(dtype=jnp.float32):
    tokens = [normal((h, N, 16), dtype, seed) for seed, h in enumerate((4, 2, 2))]
    return EMBEDDING, *tokens, SINKS


def places():
    return pe.positions.consecutive(N), pe.positions.consecutive(N, LATER)


def defined(embedding, q, k, v, sinks):
    """Softmax over the logits and one more column, whose value is zero."""
    logits = embedding.logits(q, k, *places())
    logits = 4 * jnp.tanh(logits / 4)
    delta = pe.positions.distance(*places())
    seen = (delta <= 0) & (delta > -60)
    logits = jnp.where(seen, logits, -1e30)
    if sinks is not None:
        column = jnp.broadcast_to(sinks[:, None, None], (*logits.shape[:2], 1))
        logits = jnp.concatenate([logits, column], axis=-1)
    weights = jnp.where(seen, jax.nn.softmax(logits)[..., :N], 0)
    out = jnp.einsum("hqk,hkd->hqd", weights, jnp.repeat(v, 2, axis=0))
    return out, jax.nn.logsumexp(logits, axis=-1)


def by(implementation, axis_name=None):
    def attend(embedding, q, k, v, sinks):
        how = dict(implementation=implementation, block_size=128, axis_name=axis_name)
        settings = RULES | how
        p = places()
        return embedding.attend(
            q, k, v, *p, sinks=sinks, return_lse=True, length=N, **settings
        )

    return attend


def in_ring(implementation):
    """A ring of one device."""
    mesh = jax.make_mesh((1,), ("seq",), axis_types=(AxisType.Auto,))
    heads = P(None, "seq")
    return jax.shard_map(
        by(implementation, "seq"),
        mesh=mesh,
        in_specs=(P(), heads, heads, heads, P()),
        out_specs=(heads, heads),
    )


@eqx.filter_jit
def differentiated(attend, arguments):
    """Both results, and the gradients of a function of both."""

    def loss(arguments):
        out, lse = attend(*arguments)
        sees = lse > -1e20
        total = jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(jnp.where(sees, lse, 0)))
        return total, (out, lse)

    (_, found), gradients = eqx.filter_value_and_grad(loss, has_aux=True)(arguments)
    return found, gradients


WAYS = {
    "dense": by("dense"),
    "blockwise": by("blockwise"),
    "pallas": by("pallas"),
    "ring": in_ring("blockwise"),
    "ring of kernels": in_ring("pallas"),
}


# All ways put sinks to the log-sum-exp that they return by the same code: one of them
# stands for all, and a ring has it in each shard.
@pytest.mark.parametrize(
    "attend, with_sinks",
    [pytest.param(way, False, id=name) for name, way in WAYS.items()]
    + [
        pytest.param(WAYS[name], True, id=f"{name}, sinks")
        for name in ("dense", "ring")
    ],
)
def test_both_results_and_all_gradients_are_their_definition(attend, with_sinks):
    given = arguments() if with_sinks else (*arguments()[:-1], None)
    with warnings.catch_warnings(), jax.debug_nans(True):
        warnings.simplefilter("error")
        (out, lse), gradients = differentiated(attend, given)
    (expected, expected_lse), expected_gradients = differentiated(defined, given)
    assert lse.dtype == jnp.float32
    assert not np.asarray(out[:, :LATER]).any()
    unseen = SINKS[:, None] if with_sinks else -jnp.inf
    assert (lse[:, :LATER] == unseen).all()
    seen = np.s_[:, LATER:]
    assert_same((out, lse[seen]), (expected, expected_lse[seen]))
    assert_same(gradients, expected_gradients)


def test_a_placed_embedding_returns_both():
    embedding, q, k, v, sinks = arguments()
    placed = embedding.at(*places(), length=N)
    settings = dict(sinks=sinks, return_lse=True, block_size=128)
    out, lse = found = placed.attend(q, k, v, **RULES, **settings)
    assert (out.shape, lse.shape) == ((4, N, 16), (4, N))
    assert_same(found, by("auto")(embedding, q, k, v, sinks))
    # Keys may be rotated before.
    rotated = placed.attend(
        q, placed.keys(k), v, keys_are_rotated=True, **RULES, **settings
    )
    assert_same(found, rotated)


def test_a_sink_at_minus_infinity_is_no_sink():
    *tokens, _ = arguments()
    nothing = jnp.full(4, -jnp.inf)
    with jax.debug_nans(True):
        (out, lse), (*found, by_sinks) = differentiated(by("dense"), (*tokens, nothing))
    without, (*expected, _) = differentiated(by("dense"), (*tokens, None))
    assert not np.asarray(by_sinks).any()
    assert (lse[:, :LATER] == -jnp.inf).all()
    seen = np.s_[:, LATER:]
    assert_same((out, lse[seen], found), (without[0], without[1][seen], expected))


@pytest.mark.parametrize("implementation", ["dense", "blockwise", "pallas"])
def test_the_log_sum_exp_is_in_float32_for_bfloat16(implementation):
    low = arguments(jnp.bfloat16)
    out, lse = by(implementation)(*low)
    assert (out.dtype, lse.dtype) == (jnp.bfloat16, jnp.float32)
    wide = [x.astype(jnp.float32) for x in low[1:4]]
    expected, expected_lse = by("dense")(EMBEDDING, *wide, SINKS)
    # Values and weights are rounded, and the attended values twice with a sink.
    assert_same(out.astype(jnp.float32), expected, bound=2**-6)
    # Logits are in float32, of queries that were rounded once they are rotated.
    assert_same(lse[:, LATER:], expected_lse[:, LATER:], bound=2**-6)


def test_parts_of_the_keys_are_put_together_by_the_log_sum_exp():
    q, k, v = (normal((2, 12, 8), seed=seed) for seed in range(3))
    p = jnp.arange(12)

    def attend(part):
        return pe.PositionalEmbedding(bias=pe.ALiBi(2)).attend(
            q, k[:, part], v[:, part], p, p[part], causal=True, return_lse=True
        )

    (a, of_a), (b, of_b) = attend(np.s_[:5]), attend(np.s_[5:])
    lse = jnp.logaddexp(of_a, of_b)
    whole = a * jnp.exp(of_a - lse)[..., None] + b * jnp.exp(of_b - lse)[..., None]
    assert_same((whole, lse), attend(np.s_[:]))


def test_second_derivatives_go_through_both():
    q, k, v = (normal((2, 11, 8), seed=seed) for seed in range(3))
    p = jnp.arange(11)

    @eqx.filter_jit
    def twice(q, k, v, sinks, implementation):
        def loss(q, k, v, sinks):
            out, lse = pe.PositionalEmbedding(bias=pe.ALiBi(2)).attend(
                q,
                k,
                v,
                p,
                p,
                causal=True,
                sinks=sinks,
                return_lse=True,
                implementation=implementation,
                block_size=4,
            )
            return jnp.sum(jnp.sin(out)) + jnp.sum(jnp.cos(lse))

        norm = lambda *x: sum(jnp.sum(g**2) for g in jax.grad(loss, (0, 1, 2, 3))(*x))
        return jax.grad(norm, (0, 1, 2, 3))(q, k, v, sinks)

    given = q, k, v, SINKS[:2]
    assert_same(twice(*given, "blockwise"), twice(*given, "dense"), bound=5e-5)


@pytest.mark.parametrize("n", [1024, 3072])
def test_automatic_choices_return_both_on_every_platform(n):
    """Counted for one example, 8 to 64 million logits and more have other forms."""
    x = jax.ShapeDtypeStruct((8, n, 16), jnp.bfloat16)

    def loss(x, sinks):
        p = pe.positions.consecutive(n)
        out, lse = pe.PositionalEmbedding(bias=pe.ALiBi(8)).attend(
            x, x, x, p, p, causal=True, sinks=sinks, return_lse=True
        )
        return jnp.sum(out.astype(jnp.float32)) + jnp.sum(lse)

    traced = jax.jit(jax.grad(loss, (0, 1))).trace(
        x, jax.ShapeDtypeStruct((8,), jnp.float32)
    )
    for platform in "cpu", "cuda", "tpu":
        traced.lower(lowering_platforms=(platform,))
