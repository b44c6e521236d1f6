"""Biases of consecutive positions: one evaluation for each distance, and lean."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._spread import banded
from eqx_posemb._spread._toeplitz import (
    by_rotation,
    by_slices,
    in_blocks,
    row_by_row,
)
from tests.helpers import build, HEADS, NAMES, normal, shape_of


RELATIVE = [
    name
    for name in NAMES
    if isinstance(shape_of(name).bias, pe.abstract.AbstractRelativeBias)
]
every_relative_bias = pytest.mark.parametrize("name", RELATIVE)
# A table, and a function: what spreads them is the same for all.
some_biases = pytest.mark.parametrize("name", ["t5", "kerple"])

# Runs, with a query too few or many, from anywhere; and everything else.
RUNS = [
    (jnp.arange(9), jnp.arange(9)),
    (3 + jnp.arange(4), jnp.arange(11)),
    (jnp.arange(12), 5 - 9 + jnp.arange(2)),
    (2**31 - 6 + jnp.arange(6), 2**31 - 5 + jnp.arange(5)),
]
OTHERS = [
    (jnp.array([4, 5, 6, 0, 1]), jnp.arange(8)),
    (jnp.arange(8), jnp.array([0, 1, 2, 2, 3])),
    (jnp.arange(8)[::-1], jnp.arange(8)[::-1]),
    (2 * jnp.arange(5), 2 * jnp.arange(6)),
    (jnp.arange(1), jnp.arange(8)),
    (jnp.arange(8), jnp.array([5])),
]
NOTHING = [
    (jnp.arange(0), jnp.arange(5)),
    (jnp.arange(5), jnp.arange(0)),
    (jnp.arange(0), jnp.arange(0)),
]


def by_call(bias, q, k):
    return bias(q, k)


def by_definition(bias, q, k):
    values = bias.along(pe.positions.distance(q, k).ravel())
    return values.reshape(HEADS, q.size, k.size)


compiled, defined = eqx.filter_jit(by_call), eqx.filter_jit(by_definition)


def assert_close(ours, theirs):
    """But for the order of sums of some hundred numbers of size one."""
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-4)


def assert_along(bias, jit, q, k):
    ours = (compiled if jit else by_call)(bias, q, k)
    # A network's sums are in another order.
    np.testing.assert_allclose(ours, defined(bias, q, k), rtol=2e-6, atol=2e-6)
    assert ours.shape == (HEADS, q.size, k.size)


@every_relative_bias
def test_every_bias_is_its_values_along_the_distances(name):
    assert_along(build(name).bias, True, *RUNS[1])
    assert_along(build(name).bias, True, *OTHERS[0])


@some_biases
@pytest.mark.parametrize("q, k", [*RUNS, *OTHERS, *NOTHING])
def test_a_bias_is_its_values_whatever_the_positions(name, q, k):
    assert_along(build(name).bias, True, q, k)


@some_biases
@pytest.mark.parametrize("q, k", [RUNS[1], OTHERS[0], NOTHING[0]])
def test_a_bias_is_its_values_without_jit(name, q, k):
    assert_along(build(name).bias, False, q, k)


def gradients(bias, q, k, weights):
    """By the call and by the definition."""

    def gradient(call):
        return eqx.filter_grad(lambda b: jnp.sum(call(b, q, k) ** 2 * weights))(bias)

    return gradient(by_call), gradient(by_definition)


@some_biases
@pytest.mark.parametrize(
    "known, q, k",
    [(False, *each) for each in (*RUNS, *OTHERS, *NOTHING[:1])]
    # Positions that are constants of the program.
    + [(True, *each) for each in (RUNS[1], OTHERS[0], NOTHING[0])],
)
def test_gradients_are_those_of_the_definition(name, known, q, k):
    bias = build(name).bias
    weights = normal((HEADS, q.size, k.size))
    if known:
        both = eqx.filter_jit(lambda b, weights: gradients(b, q, k, weights))
        found = both(bias, weights)
    else:
        found = eqx.filter_jit(gradients)(bias, q, k, weights)
    ours, theirs = (list(map(np.asarray, jax.tree.leaves(each))) for each in found)
    scale = 1 + max((np.abs(x).max() for x in theirs), default=0)
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a / scale, b / scale)


@some_biases
@pytest.mark.parametrize("q, k", [RUNS[1], OTHERS[0]])
def test_second_derivatives_are_those_of_the_definition(name, q, k):
    bias = build(name).bias
    weights = normal((HEADS, q.size, k.size))

    @eqx.filter_jit
    def twice(bias, call):
        loss = lambda b: jnp.sum(call(b, q, k) ** 3 * weights)
        size = lambda b: sum(
            jnp.sum(leaf**2) for leaf in jax.tree.leaves(eqx.filter_grad(loss)(b))
        )
        return eqx.filter_grad(lambda b: size(b) + 0.0)(bias)

    if not jax.tree.leaves(bias):
        return
    ours = jax.tree.leaves(twice(bias, by_call))
    theirs = jax.tree.leaves(twice(bias, by_definition))
    for a, b in zip(map(np.asarray, ours), map(np.asarray, theirs), strict=True):
        assert_close(a / np.abs(b).max(), b / np.abs(b).max())


@some_biases
def test_a_batch_may_have_runs_and_other_positions(name):
    bias = build(name).bias
    q = jnp.stack([jnp.arange(5), jnp.array([4, 5, 6, 0, 1])])
    k = jnp.stack([3 + jnp.arange(7), jnp.array([0, 0, 0, 1, 2, 3, 4])])
    weights = normal((2, HEADS, 5, 7))

    @eqx.filter_jit
    def both(bias, call):
        mapped = lambda b: jax.vmap(lambda q, k: call(b, q, k))(q, k)
        gradient = eqx.filter_grad(lambda b: jnp.sum(mapped(b) * weights))(bias)
        return mapped(bias), gradient

    ours = jax.tree.leaves(both(bias, by_call))
    theirs = jax.tree.leaves(both(bias, by_definition))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("q, k", [(35, 5), (5, 11), (32, 40), (1, 3), (3, 1)])
def test_sums_along_diagonals_are_the_same_by_rows_and_by_blocks(q, k):
    rows = normal((2, q, k))
    theirs = [np.trace(rows, offset, axis1=1, axis2=2) for offset in range(1 - q, k)]
    both = row_by_row(rows), row_by_row(rows, long=1)
    for sums in *both, in_blocks(rows):
        np.testing.assert_allclose(sums, np.stack(theirs, axis=1), atol=1e-5)


N = 256


def lean(function, *arguments):
    """The bytes that a compiled function holds beside what comes in and goes out."""
    compiled = jax.jit(function).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes, compiled.as_text()


@pytest.mark.parametrize("name", ["t5", "kerple"])
@pytest.mark.parametrize("known", [False, True])
def test_neither_a_bias_nor_its_gradient_holds_another_of_its_size(name, known):
    bias, p = build(name).bias, jnp.arange(N)
    gradient = jnp.ones((HEADS, N, N))
    of = lambda q: p if known else q
    forward = lambda b, q: b(of(q), of(q))
    backward = lambda b, q, g: jax.vjp(lambda b: b(of(q), of(q)), b)[1](g)[0]
    a_row = 4 * HEADS * N
    for function, arguments in (forward, (bias, p)), (backward, (bias, p, gradient)):
        size, _ = lean(function, *arguments)
        # Some numbers for each distance, and not for each pair: N times as many.
        assert size <= 32 * a_row < gradient.nbytes


def test_the_function_of_the_distance_is_not_fused_into_the_spreading():
    """XLA would take a logarithm for each pair."""
    bias, p = build("kerple").bias, jnp.arange(N)
    _, text = lean(lambda b: b(p, p), bias)
    logs = [line for line in text.splitlines() if "log-plus-one(" in line]
    assert not any(f"[{HEADS},{N},{N}]" in line for line in logs)
    assert any(f"[{HEADS},{2 * N - 1}]" in line for line in logs)


@pytest.mark.parametrize("q, k", [(1, 5), (4, 4), (5, 3), (3, 1), (300, 140)])
def test_the_form_for_tpus_has_the_same_bits(q, k):
    values = normal((2, q + k - 1))
    rows = np.stack([values[:, q - 1 - i : q - 1 - i + k] for i in range(q)], axis=1)
    np.testing.assert_array_equal(by_slices(values, q), rows)
    np.testing.assert_array_equal(by_rotation(values, q), rows)


@pytest.mark.parametrize("heads", [(), (2,)])
@pytest.mark.parametrize("q, k", [(1, 5), (5, 3), (300, 140), (256, 300)])
def test_products_by_distance_are_those_of_each_pair(q, k, heads):
    x, vectors = normal((2, q, 3)), normal((*heads, q + k - 1, 3))
    products = np.einsum("hqd,...nd->...hqn", x, vectors)
    if heads:
        products = products[[0, 1], [0, 1]]
    rows = [products[:, i, q - 1 - i : q - 1 - i + k] for i in range(q)]
    found = jax.jit(banded)(x, vectors)
    np.testing.assert_allclose(found, np.stack(rows, axis=1), atol=1e-5)
