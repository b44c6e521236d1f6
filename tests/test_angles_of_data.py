"""Rotations by angles that depend on data, at positions that no mask compares.

Selective RoPE, RePo, CARoPE and Mamba-3 sum up an angle for each pair of channels.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe
from tests.helpers import normal
from tests.test_fused import assert_same


N, HEADS, DIM, WINDOW = 140, 2, 8, 50
PAIRS = DIM // 2
ROTARY = pe.Rotary(
    pe.frequencies.Listed((1.0,) * PAIRS),
    axes=pe.axes.Assigned(axes=range(PAIRS), frequencies=range(PAIRS)),
)
EMBEDDING = pe.PositionalEmbedding(rotary=ROTARY)


def steps():
    """The angle that each token adds, up to one radian, by pair and by head."""
    return jnp.abs(jnp.tanh(normal((HEADS, N, PAIRS))))


def tokens():
    return [normal((HEADS, N, DIM), seed=seed) for seed in (2, 3, 4)]


def defined(steps, q, k, v):
    """For each head its own angles."""
    angles = jnp.cumsum(steps, axis=1)
    cos, sin = jnp.cos(angles), jnp.sin(angles)

    def turned(x):
        a, b = jnp.split(x, 2, axis=-1)
        return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    logits = jnp.einsum("hqd,hkd->hqk", turned(q), turned(k)) * DIM**-0.5
    far = np.arange(N)[None] - np.arange(N)[:, None]
    logits = jnp.where((far <= 0) & (far > -WINDOW), logits, -1e30)
    return jnp.einsum("hqk,hkd->hqd", jax.nn.softmax(logits), v)


def by(implementation):
    def attend(steps, q, k, v):
        order = pe.positions.consecutive(N)
        p = jnp.cumsum(steps, axis=0)
        return EMBEDDING.attend(
            q,
            k,
            v,
            p,
            p,
            causal=True,
            window=WINDOW,
            q_order=order,
            k_order=order,
            implementation=implementation,
            block_size=128,
        )

    return attend


def of_each_head(attend):
    """Heads as examples of a batch, each with its positions."""
    one = lambda steps, *tokens: attend(steps, *(x[None] for x in tokens))[0]
    return jax.vmap(one)


@eqx.filter_jit
def differentiated(attend, *arguments):
    def loss(arguments):
        out = attend(*arguments)
        return jnp.sum(jnp.sin(out) * normal(out.shape, seed=9)), out

    (_, out), gradients = jax.value_and_grad(loss, has_aux=True)(arguments)
    return out, gradients


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("implementation", ["dense", "blockwise", "pallas"])
def test_an_order_masks_and_angles_rotate(implementation):
    shared = steps()[0]
    in_all_heads = lambda x, *tokens: defined(jnp.stack([x] * HEADS), *tokens)
    found = differentiated(by(implementation), shared, *tokens())
    # Angles add up to 80 radians, and are rounded to 4e-6.
    assert_same(found, differentiated(in_all_heads, shared, *tokens()), bound=5e-5)


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("implementation", ["dense", "blockwise", "pallas"])
def test_each_head_may_have_angles_of_its_own(implementation):
    found = differentiated(of_each_head(by(implementation)), steps(), *tokens())
    assert_same(found, differentiated(defined, steps(), *tokens()), bound=5e-5)
