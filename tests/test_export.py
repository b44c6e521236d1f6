"""Every variant may be exported, for all platforms at once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tests.helpers import at, build, Layer, NAMES, past, tokens


PLATFORMS = "cpu", "cuda", "rocm", "tpu"


# As users do it, with the environment variable EQX_ON_ERROR=nan: what is wrong at run
# time is NaN in an exported program, as none can call back into Python to raise.
@pytest.fixture(scope="module", autouse=True)
def errors_are_nan():
    # JAX remembers what it has traced, with the errors of other tests.
    jax.clear_caches()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("equinox._errors.EQX_ON_ERROR", "nan")
        yield
    jax.clear_caches()


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_exported_for_all_platforms(name):
    x, p = tokens(6), at(name, jnp.arange(6))
    arrays, static = eqx.partition(Layer(build(name)), eqx.is_array)

    @jax.jit
    def call(arrays, x, p):
        return eqx.combine(arrays, static)(x, x, p, p, **past(p, p))

    exported = jax.export.export(call, platforms=PLATFORMS)(arrays, x, p)
    assert exported.platforms == PLATFORMS
    # It is a program of its own: nothing in it calls back.
    assert "callback" not in exported.mlir_module()
