"""Numbers for each pair are looked up in a form for each platform."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._spread import _look_up, _window
from tests.helpers import NAMES, normal
from tests.test_ring import finish, start


def both_ways(function, x):
    """The values and the gradient of a function."""
    out, pull = jax.vjp(function, x)
    return out, pull(normal(out.shape, seed=3))[0]


@pytest.mark.parametrize("at_once", [2**25, 2 * 9 * 7, 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_products_choose_the_same_numbers_as_a_gather(dtype, at_once, monkeypatch):
    monkeypatch.setattr(_look_up, "_AT_ONCE", at_once)
    profile = normal((2, 5, 9)).astype(dtype)
    row = jnp.asarray(np.random.default_rng(0).integers(0, 12, (5, 7)))

    @jax.jit
    def found(profile):
        of = lambda form: lambda profile: form(profile, row)
        return [
            of(form)(profile) for form in (_look_up.by_products, _look_up.by_gather)
        ]

    products, gathered = found(profile)
    assert products.dtype == gathered.dtype == dtype
    np.testing.assert_array_equal(products, gathered)


def test_a_form_for_each_platform_has_one_gradient():
    profile, row = normal((2, 5, 9)), jnp.arange(35).reshape(5, 7) % 9
    of = lambda form: jax.jit(lambda x: both_ways(lambda x: form(x, row), x))(profile)
    forms = _look_up.by_products, _look_up.by_gather, _look_up.look_up
    (_, products), (_, gathered), (_, chosen) = map(of, forms)
    np.testing.assert_allclose(products, gathered, atol=1e-6)
    np.testing.assert_array_equal(chosen, gathered)


def test_residuals_have_no_number_for_each_row_and_pair():
    profile, row = normal((2, 64, 64)), jnp.zeros((64, 64), jnp.int32)
    _, pull = jax.vjp(jax.jit(lambda x: _look_up.look_up(x, row)), profile)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(pull)) < 4 * 64**3


@pytest.mark.parametrize("window", [(3, 5), (1, 4), (4, 1)])
def test_a_window_is_expanded_by_axis_as_by_slices(window):
    differences = normal((2, 2 * window[0] - 1, 2 * window[1] - 1))
    found = jax.jit(
        lambda x: [_window.by_axis(x, window), _window.by_slices(x, window)]
    )
    np.testing.assert_array_equal(*found(differences))


def test_a_network_is_evaluated_in_parts(monkeypatch):
    bias, delta = pe.DynamicBias(2, 8, key=jax.random.key(0)), jnp.arange(-20, 21)
    whole = bias.along(delta)
    monkeypatch.setattr("eqx_posemb._bias._dynamic._AT_ONCE", 16)
    np.testing.assert_allclose(bias.along(delta), whole, atol=1e-6)


def test_several_rows_have_the_gradient_of_all_rows(monkeypatch):
    """The form of accelerators: 32 rows at a time, and then the rest."""
    bias = pe.KERPLE(2, key=jax.random.key(0))
    p, weights = jnp.arange(40)[::-1], normal((2, 40, 40))

    def gradient(bias):
        return eqx.filter_grad(lambda bias: jnp.sum(bias(p, p) * weights))(bias)

    row_by_row = eqx.filter_jit(gradient)(bias)
    on_others = lambda *arguments, default, **_: default(*arguments)
    monkeypatch.setattr(jax.lax, "platform_dependent", on_others)
    several = eqx.filter_jit(lambda bias: gradient(bias))(bias)
    for a, b in zip(*map(jax.tree.leaves, (row_by_row, several)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


# LieRE and ComRoPE have a matrix for each token, and its exponential. CoPE and PaTH
# count the keys between two tokens, or multiply their reflections.
MORE_THAN_LOGITS = "liere", "comrope", "cope", "path"
LEAN = [name for name in NAMES if name not in MORE_THAN_LOGITS]


@pytest.mark.thorough
@pytest.mark.parametrize("names", [LEAN[i : i + 4] for i in range(0, len(LEAN), 4)])
def test_materialized_logits_are_lean_on_a_tpu(names):
    pytest.importorskip("libtpu")
    # The compiler of TPUs does not know the flags of the tests.
    process = start(1, *names, module="tests.rows_compiled", XLA_FLAGS="")
    assert finish(process).count("is lean on a TPU") == len(names)
