"""Strict everywhere: what a test does not say it does not get."""

import itertools

import equinox as eqx
import hypothesis as hp
import jax
import jax.random as jr
import jaxtyping
import pytest


jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


# The same code has the same result. `--hypothesis-profile=default` looks further.
hp.settings.register_profile("repeatable", derandomize=True)
hp.settings.load_profile("repeatable")

# A compiled program holds about 50 regions of memory until JAX forgets it. Linux gives
# 65,530 to a process, and the next compilation ends it. All tests compile more.
_TESTS_BETWEEN_CLEANINGS = 150
_tests_seen = itertools.count(1)


def pytest_runtest_teardown():
    if next(_tests_seen) % _TESTS_BETWEEN_CLEANINGS == 0:
        eqx.clear_caches()
        jax.clear_caches()


@pytest.fixture
def key():
    return jr.key(0)


@pytest.fixture(params=[False, True], ids=["x32", "x64"])
def x64(request):
    """Runs a test in both modes, and says which one it is."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", request.param)
    yield request.param
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def as_users_have_it():
    """Without the shape checks of the test run, so that our own messages are seen."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
