"""Any positions at every entrance: right as in int32, or an error in few words."""

import functools

import hypothesis as hp
import hypothesis.strategies as st
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe


KEY = jr.key(0)
HERE = np.arange(4, dtype=np.int32)
T5 = pe.T5Bias(2, key=KEY)
SHAW = pe.Shaw(8, key=KEY)
Q = np.ones((2, 4, 8), np.float32)
BOTH = pe.PositionalEmbedding(rotary=pe.rope(8), bias=pe.ALiBi(2))
LEARNED = pe.Learned(16, 8, key=KEY)
PLACES = {
    "rope": lambda p: pe.rope(8)(p).cos,
    "sinusoidal": lambda p: pe.Sinusoidal(8)(p),
    "learned": LEARNED,
    "alibi": lambda p: pe.ALiBi(2)(p, HERE),
    "t5": lambda p: T5(HERE, p),
    "shaw": lambda p: SHAW(Q, Q, p, HERE),
    "distance": lambda p: pe.positions.distance(p, HERE),
    "attend": lambda p: BOTH.attend(Q, Q, Q, p, HERE, causal=True),
}
INTEGERS = "int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"
OTHERS = "uint32", "float32", "float64", "float16", "bfloat16", "bool"
SHAPES = (4,), (), (2, 2), (1, 4), (2, 2, 1), (3,), (0,)
near = st.integers(-3, 20)
anywhere = near | st.integers(-(2**63), 2**64 - 1) | st.sampled_from([2**31, -(2**31)])


@st.composite
def positions(draw):
    """An array of one of these dtypes and shapes, mostly of four integers."""
    dtype = draw(st.sampled_from(INTEGERS) | st.sampled_from(INTEGERS + OTHERS))
    shape = draw(st.just((4,)) | st.sampled_from(SHAPES))
    values = draw(
        st.lists(draw(st.sampled_from([near, anywhere])), min_size=4, max_size=4)
    )
    if dtype in INTEGERS or dtype == "uint32":
        end = np.iinfo(dtype)
        values = [min(max(value, end.min), end.max) for value in values]
    array = np.array(values, dtype=jnp.dtype(dtype))
    array = np.resize(array, shape)
    # JAX itself refuses, or wraps, what does not fit.
    fits = array.dtype.itemsize < 8
    return jnp.asarray(array) if fits and draw(st.booleans()) else array


@functools.cache
def of_int32(place, values):
    """What a place gives at positions that int32 has, or None where it raises."""
    try:
        return np.asarray(PLACES[place](np.array(values, np.int32)))
    except (ValueError, RuntimeError):
        return None


@hp.settings(max_examples=400, deadline=None, derandomize=True)
@hp.given(place=st.sampled_from(sorted(PLACES)), given=positions())
@pytest.mark.usefixtures("as_users_have_it")
def test_positions_are_as_in_int32_or_refused_in_few_words(place, given):
    try:
        found = np.asarray(PLACES[place](given))
    except (ValueError, RuntimeError) as error:
        # Equinox has the stack in the text of an error at run time.
        short = isinstance(error, RuntimeError) or len(str(error)) <= 2000
        assert short and "`" in str(error), error
        found = None
    whole = np.asarray(given)
    if whole.shape != (4,):
        if whole.shape != (3,) or place == "attend":
            assert found is None or whole.size == 0
        return
    if whole.dtype.name in ("float16", "bfloat16", "bool"):
        assert found is None
    elif whole.dtype.name in INTEGERS:
        values = tuple(map(int, whole))
        if not all(-(2**31) <= value < 2**31 for value in values):
            assert found is None
            return
        right = of_int32(place, values)
        assert (found is None) == (right is None)
        np.testing.assert_array_equal(found, right)
    elif found is not None and np.all(np.abs(whole.astype(float)) < 2**31):
        assert not np.isnan(found).any()
