"""Biases of few products go through kernels that know of none."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

import eqx_posemb as pe
from tests.helpers import at, build, LENGTH, NAMES, normal, ROWS


KEY = jr.key(0)
N, HEADS, KV_HEADS, DIM = 13, 4, 2, 16
P = jnp.arange(N)
GATED = np.cumsum(np.random.default_rng(1).random((N, HEADS)), axis=0)
GATED = jnp.asarray(GATED, jnp.float32)


def trained(tree):
    """With parameters that are large enough to be seen."""
    of = lambda x: jnp.asarray(x + 0.3 * np.asarray(normal(x.shape, seed=x.size)))
    return jax.tree.map(lambda x: of(x) if eqx.is_inexact_array(x) else x, tree)


def bundle(**parts) -> pe.PositionalEmbedding:
    return trained(pe.PositionalEmbedding(**parts))


TUPE = pe.TUPE(LENGTH, 8, HEADS, 6, key=KEY)
CASES = {
    "alibi": (bundle(bias=pe.ALiBi(HEADS)), P),
    "learned_alibi": (bundle(bias=pe.LearnedALiBi(HEADS)), P),
    "forgetting": (bundle(bias=pe.Forgetting(HEADS)), GATED),
    "sandwich": (bundle(bias=pe.Sandwich(HEADS, dim=12)), P),
    "tupe_absolute": (bundle(bias=TUPE, scale=0.2), P),
    "decomposed": (
        bundle(score=pe.Decomposed((3, 5), DIM, key=KEY)),
        pe.positions.grid_positions((3, 5))[:N] + 7,
    ),
    "a sum": (bundle(bias=pe.SumBias(pe.ALiBi(HEADS), TUPE)), P),
    "a reset": (bundle(bias=pe.ResetBias(pe.ALiBi(HEADS), HEADS, (2, 5))), P),
    "rotated": (bundle(rotary=pe.rope(DIM), bias=pe.ALiBi(HEADS, biased_heads=3)), P),
    "rope": (bundle(rotary=pe.yarn(DIM, factor=2, original_length=8)), P),
    "twice as wide": (bundle(rotary=pe.PoPE(DIM, heads=HEADS)), P),
    "nope": (bundle(), P),
}
every_case = pytest.mark.parametrize("embedding, p", CASES.values(), ids=CASES)


def qkv(dtype=jnp.float32, n=N, dim=DIM):
    return (
        normal((HEADS, n, dim), dtype, 1),
        normal((KV_HEADS, n, dim), dtype, 2),
        normal((KV_HEADS, n, 6), dtype, 3),
    )


def kernel(embedding, q, k, v, p):
    """By `jax.nn`, which is told nothing of positions."""
    *inputs, scale = embedding.for_kernel(q, k, v, p, p)
    inputs = (x.swapaxes(0, 1) for x in inputs)
    out = jax.nn.dot_product_attention(*inputs, scale=scale, is_causal=True)
    return out[..., : v.shape[-1]].swapaxes(0, 1)


def defined(embedding, q, k, v, p):
    mask = jnp.tril(jnp.ones((q.shape[1], k.shape[1]), bool))
    return embedding.attend(q, k, v, p, p, mask=mask, implementation="dense")


def assert_near(found, expected, bound):
    found, expected = (
        [np.asarray(x) for x in jax.tree.leaves(tree)] for tree in (found, expected)
    )
    assert [a.dtype for a in found] == [b.dtype for b in expected]
    found, expected = ([x.astype(float) for x in each] for each in (found, expected))
    of_all = max(np.abs(b).max() for b in expected)
    for a, b in zip(found, expected, strict=True):
        largest = max(np.abs(b).max(), of_all / 10)
        error = np.abs(a - b).max()
        assert error <= bound * largest, f"{error} > {bound} * {largest}"


def value_and_gradient(attend, arguments):
    @eqx.filter_jit
    @eqx.filter_value_and_grad(has_aux=True)
    def of(arguments):
        out = attend(*arguments)
        weights = normal(out.shape, out.dtype, 9)
        return jnp.sum((weights * out).astype(jnp.result_type(float))), out

    # `jax.nn` mixes dtypes, which tests forbid.
    with jax.numpy_dtype_promotion("standard"):
        (_, out), gradient = of(arguments)
    return out, gradient


@every_case
def test_kernels_that_know_no_positions_give_the_same(embedding, p):
    """That of `jax.nn`, and of PyTorch."""
    q, k, v = qkv()
    expected = value_and_gradient(defined, (embedding, q, k, v, p))
    assert_near(value_and_gradient(kernel, (embedding, q, k, v, p)), expected, 1e-5)
    for_kernel = eqx.filter_jit(type(embedding).for_kernel)
    *inputs, scale = for_kernel(embedding, q, k, v, p, p)
    inputs = [torch.from_numpy(np.array(x))[None] for x in inputs]
    out = torch.nn.functional.scaled_dot_product_attention(
        *inputs, scale=float(scale), is_causal=True, enable_gqa=True
    )
    assert_near(out[0, ..., : v.shape[-1]].numpy(), expected[0], 1e-5)


@every_case
def test_all_three_are_as_wide_as_kernels_want(embedding, p):
    q, k, v = jax.eval_shape(lambda: embedding.for_kernel(*qkv(), p, p)[:3])
    assert q.shape[-1] == k.shape[-1] == v.shape[-1]
    assert q.shape[-1] % 8 == 0
    assert k.shape[0] == v.shape[0]
    assert HEADS % k.shape[0] == 0


def products(embedding, q, k, p, **settings):
    q_, k_, _, scale = embedding.for_kernel(q, k, k, p, p, **settings)
    assert q_.dtype == k_.dtype == q.dtype
    each = jnp.repeat(k_, HEADS // k_.shape[0], axis=0).astype(jnp.float32)
    return scale * jnp.einsum("hqd,hkd->hqk", q_.astype(jnp.float32), each)


def rounded(embedding, q, k, p):
    """The logits of float32, but for the rounding of rotated queries and keys."""
    bare = eqx.tree_at(
        lambda e: (e.bias, e.score),
        embedding,
        (None, None),
        is_leaf=lambda x: x is None,
    )
    q_, k_ = (x.astype(jnp.float32) for x in (q, k))
    added = embedding.logits(q_, k_, p, p) - bare.logits(q_, k_, p, p)
    return products(bare, q, k, p) + added


@every_case
def test_in_bfloat16_a_feature_is_as_exact_as_in_float32(embedding, p):
    q, k, _ = qkv(jnp.bfloat16)
    arguments = embedding, q, k, p
    # XLA takes a cast to bfloat16 and back for nothing, if it may.
    found = eqx.filter_jit(products)(*arguments)
    assert_near(found, eqx.filter_jit(rounded)(*arguments), 2e-6)


@pytest.mark.parametrize("name", ["alibi", "decomposed"])
def test_kernels_of_bfloat16_differ_by_a_rounding_of_bfloat16(name):
    embedding, p = CASES[name]
    q, k, v = qkv(jnp.bfloat16)

    def with_bias(embedding, q, k, v, p):
        """The same kernel, with the bias as it takes one."""
        q_, each_k = q.astype(jnp.float32), jnp.repeat(k, 2, 0).astype(jnp.float32)
        if embedding.bias is None:
            bias = embedding.score(q_, each_k, p, p)
        else:
            bias = embedding.bias(p, p)
        inputs = (
            x.swapaxes(0, 1) for x in (q, k, jnp.pad(v, [(0, 0)] * 2 + [(0, 10)]))
        )
        out = jax.nn.dot_product_attention(*inputs, bias=bias[None], is_causal=True)
        return out[..., : v.shape[-1]].swapaxes(0, 1)

    arguments = (embedding, q, k, v, p)
    found, d_found = value_and_gradient(kernel, arguments)
    expected, d_expected = value_and_gradient(with_bias, arguments)
    assert_near(found, expected, 2**-8)
    # Gradients of single channels are rounded to bfloat16, and then summed up.
    assert_near(d_found, d_expected, 2**-6)


LONG = 4096
ROWS_OF_LONG = np.array([0, 1, LONG // 2, LONG - 1])
SLOPED = pe.PositionalEmbedding(bias=pe.ALiBi(HEADS, factor=0.77))


@eqx.filter_jit
def far_products(start, dtype, backwards):
    """Of some queries at some positions with all keys: and what they should be."""
    q, k, _ = qkv(dtype, LONG)
    p = jnp.arange(LONG) + start
    q_, k_, _, scale = SLOPED.for_kernel(q, k, k, p, p)
    q_, k_ = q_[:, ROWS_OF_LONG], jnp.repeat(k_, 2, axis=0)
    if backwards:
        q_, k_ = q_[..., ::-1], k_[..., ::-1]
    wide = jnp.float32
    return q, k, scale * jnp.einsum("hqd,hkd->hqk", q_.astype(wide), k_.astype(wide))


def far_error(*arguments):
    q, k, found = (np.asarray(x, np.float64) for x in far_products(*arguments))
    each, p = np.repeat(k, 2, axis=0), np.arange(LONG)
    content = np.einsum("hqd,hkd->hqk", q[:, ROWS_OF_LONG], each) / 4
    slopes = np.array(SLOPED.bias.slopes)[:, None, None]
    bias = slopes * (p[None] - p[ROWS_OF_LONG][:, None])
    error = found - content - bias
    # Less a number for each query, which the softmax does not see.
    own = error[:, np.arange(len(ROWS_OF_LONG)), ROWS_OF_LONG]
    return np.abs(error - own[..., None]), bias


@pytest.mark.parametrize("start, dtype", [(10**9, jnp.float32), (0, jnp.bfloat16)])
def test_far_positions_are_as_exact_as_near_ones(start, dtype):
    """And so are long contexts: what is large cancels before anything small comes."""
    error, bias = far_error(start, dtype, False)
    # A sum of so many channels, each partial one as large as content and bias.
    assert (error <= (DIM + 16) * 2**-24 * (8 + np.abs(bias))).all()


def test_in_any_order_the_error_is_that_of_the_largest_term():
    error, _ = far_error(10**9, jnp.float32, True)
    largest = np.array(SLOPED.bias.slopes)[:, None, None] * LONG / 2
    assert (error <= 4 * 2**-24 * largest + 2**-20).all()
    # The order matters.
    in_order, _ = far_error(10**9, jnp.float32, False)
    near = np.abs(np.arange(LONG)[None] - ROWS_OF_LONG[:, None]) < 8
    assert error[0][near].max() > 8 * in_order[0][near].max()


def test_fewer_pieces_are_less_exact_by_as_much_as_it_says():
    embedding, p = CASES["sandwich"]
    q, k, _ = qkv(jnp.bfloat16)

    @jax.jit
    def errors_and_terms(q, k):
        expected = rounded(embedding, q, k, p)
        of = lambda pieces: products(embedding, q, k, p, pieces=pieces)
        of_q, of_k = map(jnp.abs, embedding.bias.low_rank(p, p))
        terms = jnp.einsum("hqr,hkr->hqk", of_q, of_k + 0 * of_q[:, :1, :1])
        return jnp.abs(of(2) - expected), jnp.abs(of(3) - expected), terms

    error, error_of_three, terms = map(np.asarray, errors_and_terms(q, k))
    assert (error <= 2**-16 * terms).all()
    assert error.max() > 4 * error_of_three.max()


@pytest.mark.parametrize("differentiate", [False, True])
def test_cudnn_takes_it(differentiate, monkeypatch):
    """As far as that shows without a GPU: the program is lowered for one, and the
    rules of cuDNN for dtypes and shapes are those that JAX knows."""
    from jax._src.cudnn import fused_attention_stablehlo

    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91000)
    monkeypatch.setattr(
        fused_attention_stablehlo, "check_compute_capability", lambda _: True
    )
    embedding, n = CASES["rotated"][0], 64
    q, k, v = qkv(jnp.bfloat16, n)

    def attend(q, k, v):
        p = jnp.arange(n)
        *inputs, scale = embedding.for_kernel(q, k, v, p, p)
        inputs = (x.swapaxes(0, 1) for x in inputs)
        return jax.nn.dot_product_attention(
            *inputs, scale=scale, is_causal=True, implementation="cudnn"
        )

    def gradient(q, k, v):
        loss = lambda *x: jnp.sum(attend(*x).astype(jnp.float32))
        return jax.grad(loss, argnums=(0, 1, 2))(q, k, v)

    traced = jax.jit(gradient if differentiate else attend).trace(q, k, v)
    program = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "__cudnn$fmhaSoftmax" in program
    assert ("__cudnn$fmhaSoftmaxBackward" in program) == differentiate


@pytest.mark.parametrize("name", [n for n in NAMES if ROWS[n].place != "encoding"])
def test_every_variant_goes_or_says_why_not(name):
    embedding, q = build(name), jnp.ones((4, 5, 16))
    p = at(name, jnp.arange(5))
    part = embedding.bias or embedding.score or embedding.rotary
    if isinstance(part, pe.abstract.AbstractRotary) or name in CASES:
        jax.eval_shape(lambda q: embedding.for_kernel(q, q, q, p, p, length=6)[:3], q)
        return
    with pytest.raises(
        ValueError, match=r"`(bias|biases|score|rotary|form)` must.*attend"
    ):
        embedding.for_kernel(q, q, q, p, p)


def test_a_grid_of_more_cells_than_there_are_raises():
    score = pe.Decomposed((3, 3), DIM, key=KEY)
    q, k, _ = qkv(n=2)
    p = jnp.array([[0, 0], [3, 0]])
    middle = jnp.array([[1, 0], [2, 0]])
    each = jnp.repeat(k, 2, axis=0)
    with pytest.raises(Exception, match=r"`k_positions` must be cells of one grid"):
        jax.block_until_ready(score.low_rank(q, each, middle, p))


@every_case
def test_no_queries_and_no_keys_are_fine(embedding, p):
    q, k, v = qkv()
    none = lambda: embedding.for_kernel(q[:, :0], k, v, p[:0], p)[:3]
    assert jax.eval_shape(none)[0].shape[1] == 0
    none = lambda: embedding.for_kernel(q, k[:, :0], v[:, :0], p, p[:0])[:3]
    assert jax.eval_shape(none)[1].shape[1] == 0
