"""PaTH against `naive_path_attn` of flash-linear-attention (fla-org) at bc3b101, with
the projections of its layer, and the gradients of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, made, replaced, run


GIVEN = golden("path")
COUNT, HEADS, DIM = GIVEN["q"].shape
NAMES = "down", "up", "gate_weight", "gate_bias"
# Two heads of the authors have a head of keys each, and each serves two of queries.
WEIGHTS = {n: GIVEN[n] if n == "down" else np.repeat(GIVEN[n], 2, 0) for n in NAMES}
PATH = replaced(made(pe.PaTH, HEADS, DIM, GIVEN["x"].shape[1], rank=3), **WEIGHTS)
# Only the order of positions matters, and not their distances.
POSITIONS = np.cumsum(1 + np.arange(COUNT) % 3)
MOVED = (11 * np.arange(COUNT)) % COUNT


def attended(q, k, v, x, order, **how):
    """The authors have tokens first."""
    q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
    p = jnp.asarray(POSITIONS)
    tokens = q, k[:, order], v[:, order], p, p[order]
    embedding = pe.PositionalEmbedding(rotary=PATH)
    rules = dict(causal=True, k_state=x[order]) | how
    return embedding.attend(*tokens, **rules).swapaxes(0, 1)


def test_directions_and_strengths_are_projected_as_in_the_layer():
    w, beta = run(PATH.transformations, GIVEN["x"])
    assert_close(w[::2], GIVEN["w"].swapaxes(0, 1), atol=1e-6)
    assert_close(beta[::2], GIVEN["beta"].T, atol=1e-6)


# A mask with gaps in its rows goes another way: one key after another.
GAPS = np.tril(np.ones((COUNT, COUNT), bool))
GAPS[-1, 3] = False
HOW = {
    "dense": dict(implementation="dense"),
    "blocks": dict(implementation="blockwise", block_size=32),
    "gaps": dict(implementation="dense", mask=GAPS),
}


# 70 keys fill a block of 64, and begin another.
@pytest.mark.parametrize("way", HOW)
def test_path_attends_and_learns_as_in_flash_linear_attention(way):
    given = tuple(GIVEN[name] for name in ("q", "k", "v", "x"))
    how = dict(HOW[way])

    def both(given, cotangent, order):
        if way == "gaps":
            how["mask"] = jnp.asarray(GAPS)[:, order]
        out, pull = jax.vjp(lambda *x: attended(*x, order, **how), *given)
        return out, pull(cotangent)

    for order in np.arange(COUNT), MOVED:
        out, gradients = run(both, given, GIVEN["c"], order)
        if way == "gaps":
            # The last query has no counterpart, without one of its keys.
            assert_close(out[:-1], GIVEN["out"][:-1], atol=3e-6)
            continue
        assert_close(out, GIVEN["out"], atol=3e-6)
        for name, gradient in zip("qkvx", gradients, strict=True):
            # Both are in float32, with gradients of size 10.
            assert_close(gradient, GIVEN[f"d{name}"], atol=2e-5)


@pytest.mark.parametrize("seed", range(2))
def test_only_keys_that_a_query_attends_to_transform_others(seed):
    """By the definition, from the last key of each query to its first."""
    q, k = (GIVEN[name].swapaxes(0, 1) for name in "qk")
    seen = np.random.default_rng(seed).random((HEADS, COUNT, COUNT)) < 0.7
    given = dict(k_state=GIVEN["x"], seen=seen)
    found = run(PATH.products, q, k, POSITIONS, POSITIONS, **given)
    w, beta = run(PATH.transformations, GIVEN["x"])
    for head in range(HEADS):
        for i in range(0, COUNT, 7):
            x = q[head, i].astype(np.float64)
            for j in reversed(range(i + 1)):
                if seen[head, i, j]:
                    # Products of size 10, in float32.
                    assert abs(found[head, i, j] - x @ k[head // 2, j]) < 2e-5
                    x = x - beta[head, j] * (x @ w[head, j]) * w[head, j]


def test_reflections_that_are_the_same_twice_change_nothing():
    """With strengths of two, and one direction for all tokens."""
    q, k = (GIVEN[name].swapaxes(0, 1) for name in "qk")
    q, k = q[:, -1:], np.repeat(k[:, :1], 5, axis=1)
    x = np.repeat(GIVEN["x"][:1], 5, axis=0)
    reflecting = replaced(PATH, gate_bias=np.full(HEADS, 1e4, np.float32))
    at = np.arange(5)
    found = run(reflecting.products, q, k, at[-1:], at, k_state=x)[:, 0]
    assert_close(found[:, 0], found[:, 4], atol=2e-5)
    assert_close(found[:, 1], found[:, 3], atol=2e-5)
    assert np.abs(found[:, 0] - found[:, 1]).max() > 0.1
