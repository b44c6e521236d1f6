"""KERPLE against its formulas in NumPy."""

import equinox as eqx
import jax
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, made, replaced, run


RATES = np.array([0.01, 0.3, 0.99, 1.7])
Q, K = np.array([0, 5, 40, 3000]), np.array([0, 4, 5, 6, 39, 2999, 100_000])


def _kerple(kind, a, r):
    """A KERPLE with these positive parameters, by the inverses of its maps."""
    unsoftened = lambda x: np.log(np.expm1(x)).astype(np.float32)
    raw_r = unsoftened(r) if kind == "log" else np.log(r / (2 - r)).astype(np.float32)
    return replaced(
        made(pe.KERPLE, len(a), kind=kind), raw_a=unsoftened(a), raw_r=raw_r
    )


def _parameters(module):
    return module.a, module.r


def _formula(kind, a, r):
    far = np.abs(K[None] - Q[:, None]).astype(np.float64)[None]
    a, r = a[:, None, None], r[:, None, None]
    return -r * np.log1p(a * far) if kind == "log" else -a * far**r


@pytest.mark.parametrize("kind", ["log", "power"])
@pytest.mark.parametrize("order", [1, -1])
def test_the_bias_is_the_formula_at_every_distance(kind, order):
    a, r = RATES, RATES[::order] * (1 if kind == "log" else 1.1)
    module = _kerple(kind, a, r)
    exact = run(_parameters, module)
    assert_close(exact[0], a, rtol=1e-5)
    assert_close(exact[1], r, rtol=1e-5)
    # Compared for the parameters as float32 has them after two maps each; a power is
    # then off by its own few ulp, and by an ulp of its exponent times a logarithm of up
    # to 11.5, doubled for the sigmoid in it.
    exact = [x.astype(np.float64) for x in exact]
    assert_close(run(module, Q, K), _formula(kind, *exact), rtol=3e-6)


@pytest.mark.parametrize("kind", ["log", "power"])
def test_gradients_are_those_of_the_formula_and_finite_at_distance_zero(kind):
    module = _kerple(kind, RATES, RATES[::-1])
    summed = eqx.filter_grad(lambda module, there: module(there, there).sum())
    grads = run(summed, module, K[:4])

    def total(raws):
        a = np.log1p(np.exp(raws[0]))
        soft = np.log1p(np.exp(raws[1]))
        r = soft if kind == "log" else 2 / (1 + np.exp(-raws[1]))
        far = np.abs(K[None, :4] - K[:4, None]).astype(np.float64)[None]
        a, r = a[:, None, None], r[:, None, None]
        bias = -r * np.log1p(a * far) if kind == "log" else -a * far**r
        return bias.sum((1, 2))

    raws = np.array([module.raw_a, module.raw_r], np.float64)
    for which, ours in enumerate((grads.raw_a, grads.raw_r)):
        step = np.zeros_like(raws)
        step[which] = 1e-5
        # Central differences in float64: an error of 1e-10 of the third derivative.
        formula = (total(raws + step) - total(raws - step)) / 2e-5
        assert_close(ours, formula, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["log", "power"])
def test_initial_parameters_are_in_the_ranges_of_the_authors(kind):
    make = lambda: _parameters(pe.KERPLE(2000, kind=kind, key=jax.random.key(1)))
    a, r = run(make)
    most = 1 if kind == "log" else 2
    for values, top in (a, most), (r, 2):
        assert 0.0099 < values.min() < 0.03 * top and 0.97 * top < values.max() <= top
        # Uniform: the mean of 2000 is within 5 standard deviations of the middle.
        assert abs(values.mean() - top / 2) < 5 * top / np.sqrt(12 * 2000) + 0.01


@pytest.mark.parametrize("kind", ["log", "power"])
def test_gradients_by_float_positions_are_those_of_the_formula_and_finite(kind):
    """The slope of a power below one is infinite at distance 0."""
    module = _kerple(kind, np.array([0.3]), np.array([0.5]))
    k = np.array([0.0, 2.0, 6.5], np.float32)
    bias = lambda q, module, k: module(q[None], k)[0, 0]
    forwards, backwards = jax.jacfwd(bias), jax.jacrev(bias)
    both = lambda *args: (forwards(*args), backwards(*args))
    found, reverse = run(both, np.float32(2), module, k)
    np.testing.assert_array_equal(found, reverse)
    far = np.array([2.0, 4.5])
    slope = 0.5 * 0.3 * (1 / (1 + 0.3 * far) if kind == "log" else far**-0.5)
    # Away from the key at 0 and towards that at 6.5.
    assert_close(found[[0, 2]], slope * np.array([-1, 1]), rtol=1e-5)
    # At the kink any number between the slopes of both sides will do.
    assert abs(found[1]) <= 0.5 * 0.3 * (1 + 1e-5)
