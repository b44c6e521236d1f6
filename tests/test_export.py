"""Every variant may be exported, for all platforms at once and for every length."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import (
    assert_close,
    at,
    build,
    DIM,
    HEAD_DIM,
    Layer,
    NAMES,
    normal,
)
from tests.test_laws import REPRESENTATIVES


PLATFORMS = "cpu", "cuda", "rocm", "tpu"
# The shape checks of the test run do not know symbols.
pytestmark = pytest.mark.usefixtures("as_users_have_it")
SOME = sorted(REPRESENTATIVES | {"shaw", "longrope"})
# What compiles takes seconds, and these have the code that looks at sizes.
FEW = "longrope", "shaw", "t5", "transformer_xl"

SHAW = pe.Shaw(HEAD_DIM, key=jax.random.key(0))


def of_batch(layer, implementation, x, positions):
    """A layer without rules for all: a mask of a grid is not of its positions alone."""
    causal = positions.ndim == 2
    attend = lambda x, p: layer(x, x, p, p, causal=causal, **implementation)
    return jax.vmap(attend)(x, positions)


def exported(name, platforms=None, sizes=None, of=of_batch, **implementation):
    """An exported layer, for symbols or for sizes, and what it is called with."""
    batch, seq = sizes or jax.export.symbolic_shape("batch, seq")
    axes = at(name, np.arange(1)).shape[1:]
    x = jax.ShapeDtypeStruct((batch, seq, DIM), jnp.float32)
    p = jax.ShapeDtypeStruct((batch, seq, *axes), jnp.int32)
    arrays, static = eqx.partition(Layer(build(name)), eqx.is_array)

    @jax.jit
    def call(arrays, x, p):
        return of(eqx.combine(arrays, static), implementation, x, p)

    program = jax.export.export(call, platforms=platforms)(arrays, x, p)
    return arrays, call, program


def inputs(name, seq):
    return normal((2, seq, DIM)), jnp.stack([at(name, np.arange(seq))] * 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_layer_is_exported_for_every_length_and_all_platforms(name):
    _, _, program = exported(name, PLATFORMS)
    assert program.platforms == PLATFORMS
    # It is a program of its own: nothing in it calls back.
    assert "callback" not in program.mlir_module()


@pytest.mark.parametrize("name", [*FEW, "a mask of blocks"])
def test_an_exported_layer_is_the_layer(name):
    blocks = name == "a mask of blocks"
    name = "alibi" if blocks else name
    settings = dict(implementation="blockwise", block_size=4) if blocks else {}
    arrays, call, program = exported(name, **settings)
    for seq in 1, 9:
        x, p = inputs(name, seq)
        assert_close(program.call(arrays, x, p), call(arrays, x, p))


@pytest.mark.parametrize("name", ["t5", "transformer_xl"])
def test_a_gradient_is_exported_for_every_length(name):
    def gradient(layer, settings, x, p):
        loss = lambda layer: jnp.sum(of_batch(layer, settings, x, p) ** 2)
        return eqx.filter_grad(loss)(layer)

    arrays, call, program = exported(name, of=gradient)
    x, p = inputs(name, 9)
    for found, right in zip(
        jax.tree.leaves(program.call(arrays, x, p)),
        jax.tree.leaves(call(arrays, x, p)),
        strict=True,
    ):
        assert_close(found, right, value=float(np.abs(right).max()))


def test_consecutive_positions_have_a_symbolic_length():
    q = normal((2, 9, HEAD_DIM))
    embedding = pe.PositionalEmbedding(bias=pe.ALiBi(2), score=SHAW)

    @jax.jit
    def call(q):
        p = pe.positions.consecutive(q.shape[1], 5)
        return embedding.attend(q, q, q, p, p, causal=True)

    (seq,) = jax.export.symbolic_shape("seq")
    program = jax.export.export(call)(jax.ShapeDtypeStruct((2, seq, HEAD_DIM), q.dtype))
    assert_close(program.call(q), call(q))


def test_what_is_wrong_when_an_exported_program_runs_is_nan():
    arrays, _, program = exported("xpos")
    x, p = inputs("xpos", 9)
    assert np.isfinite(program.call(arrays, x, p)).all()
    assert np.isnan(program.call(arrays, x, p + 2**20)).any()
    arrays, _, program = exported("learned")
    x, p = inputs("learned", 9)
    # The largest integer has no row either, and no other row is in its place.
    assert np.isnan(program.call(arrays, x, p + 2**20)).any()


# For sizes that are known Equinox would call back into Python to raise, also where
# blocks have known sizes: users set the environment variable EQX_ON_ERROR=nan.
@pytest.fixture
def errors_are_nan(monkeypatch):
    monkeypatch.setattr("equinox._errors.EQX_ON_ERROR", "nan")
    # JAX keeps what it has traced, with the errors of other tests, by such settings.
    with jax.numpy_rank_promotion("warn"):
        yield


@pytest.mark.parametrize("name", SOME)
@pytest.mark.usefixtures("errors_are_nan")
def test_a_layer_of_known_sizes_is_exported_for_all_platforms(name):
    _, _, program = exported(name, PLATFORMS, sizes=(2, 6))
    assert "callback" not in program.mlir_module()


@pytest.mark.parametrize("name", FEW)
@pytest.mark.usefixtures("errors_are_nan")
def test_blocks_are_exported_for_every_length_and_all_platforms(name):
    _, _, program = exported(name, PLATFORMS, implementation="blockwise")
    assert "callback" not in program.mlir_module()
