"""Reading golden arrays, and crossing between NumPy, torch and JAX."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import LlamaConfig


GOLDEN = Path(__file__).parents[1] / "golden"


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


def over_leading_axes(function, x):
    """Applies a function of `[seq, dim]` to `[..., seq, dim]`."""
    flat = jnp.asarray(x).reshape(-1, *x.shape[-2:])
    return as_numpy(jax.jit(jax.vmap(lambda row: function(row)))(flat)).reshape(x.shape)


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
