"""Reading golden arrays, and crossing between NumPy, torch and JAX.

JAX compiles each operation outside of a program by itself, and so tests make their
inputs in NumPy, call `run` for each program, and compare its results in NumPy.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig

from tests.helpers import GOLDEN


# Tensors are small here: more threads would wait for each other, which is work as well.
torch.set_num_threads(1)


def golden(name):
    """Arrays made by running the real sources: see `tests/golden`."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def as_torch(x):
    return torch.from_numpy(np.array(x))


def as_numpy(x):
    if isinstance(x, torch.Tensor):
        x = x.detach().numpy()
    return np.asarray(x)


def on_device(tree):
    """Arrays of NumPy and torch as arrays of JAX."""
    others = np.ndarray, np.generic, torch.Tensor
    to_jax = lambda x: jnp.asarray(as_numpy(x)) if isinstance(x, others) else x
    return jax.tree.map(to_jax, tree)


@eqx.filter_jit
def _called(function, args, settings):
    return function(*args, **settings)


def run(function, *args, **settings):
    """What a function or module gives, computed by one program, in NumPy."""
    out = _called(function, *on_device((args, settings)))
    return jax.tree.map(np.asarray, out)


def made(make, *args, **settings):
    """A module whose weights are normal numbers that no program draws."""
    shapes = eqx.filter_eval_shape(
        lambda: make(*args, **settings, key=jax.random.key(0))
    )
    draw = np.random.default_rng(0)
    fill = lambda x: jnp.asarray(draw.normal(size=x.shape).astype(x.dtype))
    is_shape = lambda x: isinstance(x, jax.ShapeDtypeStruct)
    return jax.tree.map(lambda x: fill(x) if is_shape(x) else x, shapes)


def replaced(module, **arrays):
    """The module with other arrays under these names."""
    for name, array in on_device(arrays).items():
        module = eqx.tree_at(lambda m, name=name: getattr(m, name), module, array)
    return module


def cells(shape):
    """`pe.positions.grid_positions` in NumPy."""
    return np.indices(shape, np.int32).reshape(len(shape), -1).T


def applied(rotation, q, k):
    """Queries and keys `[..., seq, dim]`, rotated."""

    def over_leading_axes(turn, x):
        flat = x.reshape(-1, *x.shape[-2:])
        return jax.vmap(lambda row: turn(row))(flat).reshape(x.shape)

    return over_leading_axes(rotation.queries, q), over_leading_axes(rotation.keys, k)


def _rotated(rotary, positions, q, k):
    return applied(rotary(positions), q, k)


def rotated(rotary, positions, q, k=None):
    """Queries and keys, or `q` as both, turned by one program."""
    return run(_rotated, rotary, positions, q, q if k is None else k)


def assert_close(ours, theirs, *, rtol=0.0, atol=0.0):
    """Shapes and values, in float64; never by broadcasting."""
    ours, theirs = as_numpy(ours), as_numpy(theirs)
    assert ours.shape == theirs.shape
    ours, theirs = ours.astype(np.float64), theirs.astype(np.float64)
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol)


def assert_same_integers(ours, theirs):
    ours, theirs = as_numpy(ours), as_numpy(theirs)
    assert ours.dtype.kind == "i" and theirs.dtype.kind == "i"
    np.testing.assert_array_equal(ours, theirs, strict=False)


def llama_config(rope_type, dim, theta=1e4, max_length=8192, **parameters):
    return LlamaConfig(
        hidden_size=dim,
        num_attention_heads=1,
        head_dim=dim,
        max_position_embeddings=max_length,
        rope_parameters=dict(rope_type=rope_type, rope_theta=theta, **parameters),
    )
