"""TUPE against arrays made by its authors' code, and its formula pair by pair."""

import jax
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    assert_close,
    golden,
    made,
    on_device,
    replaced,
    run,
)


TUPE = golden("tupe")
HEADS, DIM = 4, 32
P = np.arange(9)


def _state(kind, packed=False):
    """The golden weights by the names of the authors' two versions."""
    arrays = {name: TUPE[f"{kind}_{name}"] for name in ("pos", "lnw", "lnb")}
    state = {
        "pos.weight": arrays["pos"],
        "pos_ln.weight": arrays["lnw"],
        "pos_ln.bias": arrays["lnb"],
    }
    for name, short in ("weight", "w"), ("bias", "b"):
        q, k = TUPE[f"{kind}_q{short}"], TUPE[f"{kind}_k{short}"]
        if packed:
            state[f"pos_proj.{name}"] = np.concatenate([q, k])
        else:
            state[f"pos_q_linear.{name}"] = q
            state[f"pos_k_linear.{name}"] = k
    if kind == "rel":
        state["relative_attention_bias.weight"] = TUPE["rel_table"]
    return {f"encoder.{name}": array for name, array in state.items()}


def _theirs(kind):
    first, *others = TUPE[f"{kind}_bias"]
    assert all(np.array_equal(first, other) for other in others)
    return first


@pytest.mark.parametrize("kind", ["abs", "rel"])
@pytest.mark.parametrize("packed", [False, True])
def test_the_bias_is_that_of_the_authors_with_cls_reset(kind, packed):
    state = _state(kind, packed)
    order = np.array([4, 0, 2, 2])
    pairs = [(P, P), (P[3:], P[2:7]), (order, order)]

    def at_all(state, pairs):
        bias = pe.TUPE.from_state_dict(state, HEADS, prefix="encoder.")
        return [bias(q, k) for q, k in pairs]

    found = run(at_all, state, pairs)
    # A run of positions in the middle, and others in any order.
    for ours, (q, k) in zip(found, pairs, strict=True):
        # Sums of 32 products, of 32 products, of numbers of size one.
        assert_close(ours, _theirs(kind)[:, q[:, None], k[None]], atol=5e-6)


def test_the_row_of_cls_wins_over_its_column():
    bias = lambda state: pe.TUPE.from_state_dict(state, HEADS, prefix="encoder.")
    ours = run(lambda state, p: bias(state)(p, p), _state("rel"), P)
    assert (ours[:, 0] == ours[:, 0, :1]).all()
    assert (ours[:, 1:, 0] == ours[:, 1:2, 0]).all()
    assert (ours[:, 0, 0] != ours[:, 1, 0]).all()


def test_the_scale_of_the_registry_is_that_of_the_authors():
    sizes = dict(heads=4, head_dim=8, dim=32, length=24)
    for name, kind in ("tupe", "rel"), ("tupe_absolute", "abs"):
        assert made(pe.make, name, **sizes).scale == TUPE[f"{kind}_scaling"]


def _formula(bias, i, j):
    """Section 3.1, in float64."""
    weights = {
        name: as_numpy(getattr(bias, name)).astype(np.float64)
        for name in (
            *("weight", "norm_weight", "norm_bias"),
            *("q_weight", "q_bias", "k_weight", "k_bias"),
        )
    }

    def normal(row):
        centered = row - row.mean()
        deviation = np.sqrt((centered**2).mean() + 1e-5)
        return centered / deviation * weights["norm_weight"] + weights["norm_bias"]

    products = []
    for h in range(HEADS):
        q = weights["q_weight"][h] @ normal(weights["weight"][i]) + weights["q_bias"][h]
        k = weights["k_weight"][h] @ normal(weights["weight"][j]) + weights["k_bias"][h]
        products.append(q @ k / np.sqrt(2 * 8))
    return np.array(products)


def test_the_absolute_part_is_its_formula():
    bias = run(lambda: pe.TUPE(20, DIM, HEADS, 8, std=0.3, key=jax.random.key(0)))
    shifts = np.random.default_rng(1).normal(size=(2, HEADS, 8)).astype(np.float32)
    bias = replaced(on_device(bias), q_bias=shifts[0], k_bias=shifts[1])
    q, k = [19, 0, 7], [3, 7]
    ours = run(bias, np.array(q), np.array(k))
    for a, i in enumerate(q):
        for b, j in enumerate(k):
            assert_close(ours[:, a, b], _formula(bias, i, j), atol=2e-5)


def test_the_whole_is_the_sum_of_its_parts_but_for_cls():
    bias = made(pe.tupe, 20, DIM, HEADS, 8, special=(0, 5))
    numbers = np.random.default_rng(1).normal(size=(2, HEADS)).astype(np.float32)
    bias = replaced(bias, from_special=numbers[0], to_special=numbers[1])

    def with_parts(bias, p):
        absolute, relative = bias.bias.biases
        return bias(p, p), absolute(p, p), relative(p, p)

    ours, absolute, relative = run(with_parts, bias, P)
    parts = absolute + relative
    for i in range(9):
        for j in range(9):
            theirs = parts[:, i, j]
            if j in (0, 5):
                theirs = numbers[1]
            if i in (0, 5):
                theirs = numbers[0]
            np.testing.assert_array_equal(ours[:, i, j], theirs)
    alone = made(pe.tupe, 20, DIM, HEADS, 8, relative=False)
    assert isinstance(alone.bias, pe.TUPE)
