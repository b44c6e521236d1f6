"""Sinks as GPT-OSS has them, values and gradients."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import eqx_posemb as pe


torch = pytest.importorskip("torch")
gpt_oss = pytest.importorskip("transformers.models.gpt_oss.modeling_gpt_oss")

HEADS, KV_HEADS, N, DIM, WINDOW = 4, 2, 24, 16, 7


@pytest.mark.parametrize("implementation", ["dense", "blockwise"])
def test_sinks_are_those_of_transformers(implementation):
    rng = np.random.default_rng(0)
    shapes = (HEADS, N, DIM), (KV_HEADS, N, DIM), (KV_HEADS, N, DIM), (HEADS,)
    given = [rng.normal(size=shape).astype("float32") for shape in shapes]
    weights = rng.normal(size=(HEADS, N, DIM)).astype("float32")
    p = np.arange(N)
    far = p[None] - p[:, None]
    hidden = np.where((far <= 0) & (far > -WINDOW), 0, np.finfo("float32").min)

    theirs = [torch.tensor(x, requires_grad=True) for x in given]
    q, k, v, sinks = theirs
    module = SimpleNamespace(
        sinks=sinks, num_key_value_groups=HEADS // KV_HEADS, training=False
    )
    mask = torch.tensor(hidden.astype("float32"))[None, None]
    expected, _ = gpt_oss.eager_attention_forward(
        module, q[None], k[None], v[None], mask, DIM**-0.5
    )
    expected = expected[0].transpose(0, 1)
    (expected * torch.tensor(weights)).sum().backward()

    def loss(q, k, v, sinks):
        rules = dict(causal=True, window=WINDOW, implementation=implementation)
        settings = dict(sinks=sinks, block_size=8)
        p = jnp.arange(N)
        out = pe.PositionalEmbedding().attend(q, k, v, p, p, **rules, **settings)
        return jnp.sum(out * weights), out

    differentiate = jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)
    (_, out), gradients = jax.jit(differentiate)(*map(jnp.asarray, given))
    np.testing.assert_allclose(out, expected.detach().numpy(), atol=2e-6)
    for found, x in zip(gradients, theirs, strict=True):
        np.testing.assert_allclose(found, x.grad.numpy(), atol=1e-5)
