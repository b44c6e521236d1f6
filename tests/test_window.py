"""Biases of windows: evaluated once for each difference, wherever that can be."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import normal


HEADS, WINDOW = 3, (3, 4)
CELLS = pe.positions.grid_positions(WINDOW)
KEY = jr.key(0)
BIASES = {
    "swin": (pe.SwinBias(WINDOW, HEADS, std=1.0, key=KEY), CELLS),
    "log_cpb": (pe.LogCPB(WINDOW, HEADS, hidden=8, key=KEY), CELLS),
    "levit": (pe.LeViTBias(WINDOW, HEADS, std=1.0, key=KEY), CELLS),
    "beit": (
        pe.BEiTBias(WINDOW, HEADS, std=1.0, key=KEY),
        pe.positions.prefixed(CELLS),
    ),
}
every_bias = pytest.mark.parametrize("name", BIASES)


def _loss(bias, q, k, weights):
    return jnp.sum(bias(q, k) * weights)


def _weights(q, k):
    return normal((HEADS, q.shape[0], k.shape[0]))


@eqx.filter_jit
def compiled(bias, q, k):
    return bias(q, k)


@every_bias
@pytest.mark.parametrize("jit", [False, True])
def test_a_whole_window_is_its_pairs_one_by_one(name, jit):
    bias, p = BIASES[name]
    call = compiled if jit else type(bias).__call__
    whole = call(bias, p, p)
    rows = [compiled(bias, p[i : i + 1], p) for i in range(len(p))]
    alone = np.concatenate(rows, axis=1)
    # A network is evaluated with other neighbors: rounded otherwise.
    np.testing.assert_allclose(whole, alone, atol=2e-6)


@every_bias
def test_the_gradient_of_a_whole_window_is_that_of_its_pairs(name):
    bias, p = BIASES[name]
    weights = _weights(p, p)
    gradient = eqx.filter_jit(eqx.filter_grad(_loss))
    whole = gradient(bias, p, p, weights)
    order = np.random.default_rng(0).permutation(len(p))
    shuffled = gradient(bias, p[order], p, weights[:, order])
    for ours, theirs in zip(*map(jax.tree.leaves, (whole, shuffled)), strict=True):
        # Sums of at most 169 numbers of about one, in another order, and of their
        # products with those of a network.
        np.testing.assert_allclose(ours, theirs, atol=5e-5)


def _primitives(jaxpr, branch):
    """What is computed, on every platform, if conditions come out as `branch`."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        inner = list(jax.tree.leaves(equation.params, is_leaf=_is_jaxpr))
        if equation.primitive.name == "cond" and not _is_of_platforms(equation):
            inner = [equation.params["branches"][branch]]
        for part in filter(_is_jaxpr, inner):
            yield from _primitives(getattr(part, "jaxpr", part), branch)


def _is_of_platforms(equation):
    return equation.params.get("branches_platforms") is not None


def _is_jaxpr(x):
    return hasattr(x, "eqns") or hasattr(x, "jaxpr")


@every_bias
def test_the_gradient_of_a_whole_window_scatters_nothing(name):
    bias, p = BIASES[name]
    weights, arrays = _weights(p, p), eqx.filter(bias, eqx.is_array)
    gradient = lambda arrays, p: jax.grad(
        lambda arrays: _loss(eqx.combine(arrays, bias), p, p, weights)
    )(arrays)
    jaxpr = jax.make_jaxpr(gradient)(arrays, p).jaxpr
    pairs, whole = (set(_primitives(jaxpr, branch)) for branch in (0, 1))
    assert "scatter-add" in pairs
    assert not [name for name in whole if "scatter" in name]


@every_bias
def test_a_window_elsewhere_is_the_same(name):
    bias, p = BIASES[name]
    moved = jnp.where(p[:, :1] < 0, p, p + jnp.array([[7, 2]]))
    np.testing.assert_array_equal(bias(moved, moved), bias(p, p))


@every_bias
def test_a_cell_too_far_away_raises(name):
    bias, p = BIASES[name]
    first = p[-12:-11]
    for far in [3, 0], [0, 4]:
        for q, k in (first, first + jnp.array([far])), (first + jnp.array([far]), p):
            with pytest.raises(Exception, match="less than 3 rows and 4 columns"):
                jax.block_until_ready(compiled(bias, q, k))


def test_windows_that_overlap_but_are_not_the_same_are_looked_up():
    bias = BIASES["swin"][0]
    with pytest.raises(Exception, match="less than 3 rows"):
        jax.block_until_ready(bias(CELLS, CELLS + 1))


def test_a_token_nowhere_is_cls_or_an_error():
    bias, p = BIASES["beit"]
    for wrong in [-1, 1], [-2, 0]:
        with pytest.raises(Exception, match=r"or \(-1, 0\) for \[CLS\]"):
            jax.block_until_ready(bias(p, jnp.array([wrong])))


def test_a_class_token_alone_is_looked_up():
    bias, p = BIASES["beit"]
    only = bias(p[:1], p[:1])
    np.testing.assert_array_equal(only[:, 0, 0], bias.cls[2])
    several = jnp.concatenate([p[:1], p[:1], p[1:-1]])
    assert bias(several, several).shape == (HEADS, 13, 13)
    np.testing.assert_array_equal(
        bias(several, several)[:, :2, :2], only * jnp.ones((1, 2, 2))
    )


def test_levit_does_not_tell_directions_apart():
    bias = BIASES["levit"][0](CELLS, CELLS)
    np.testing.assert_array_equal(bias, bias.swapaxes(1, 2))


def test_positions_of_small_integers_are_looked_up():
    bias, p = BIASES["swin"]
    for dtype in jnp.int8, jnp.int16:
        np.testing.assert_array_equal(bias(p.astype(dtype), p), bias(p, p))


def test_gradients_of_a_whole_window_have_gradients():
    bias, p = BIASES["log_cpb"]
    weights = _weights(p, p)

    def size(bias, q):
        gradient = eqx.filter_grad(_loss)(bias, q, p, weights).weight
        return jnp.sum(gradient**2)

    order = jnp.array([1, 0, *range(2, 12)])

    def swapped_size(bias):
        gradient = eqx.filter_grad(_loss)(bias, p[order], p, weights[:, order]).weight
        return jnp.sum(gradient**2)

    both = eqx.filter_jit(
        lambda bias: (
            eqx.filter_grad(size)(bias, p),
            eqx.filter_grad(swapped_size)(bias),
        )
    )
    whole, swapped = (gradient.hidden_weight for gradient in both(bias))
    np.testing.assert_allclose(whole, swapped, rtol=2e-4, atol=1e-4)
