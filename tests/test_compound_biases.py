"""Biases made of biases, and those made of checkpoints."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

import eqx_posemb as pe


KEY = jax.random.key(0)
P = jnp.arange(7)


def test_a_sum_is_the_sum_of_what_it_is_made_of():
    parts = pe.ALiBi(4), pe.T5Bias(4, key=KEY), pe.FIRE(4, key=KEY)
    for q, k in (P, P), (P[::2], P[3:]), (P[:0], P):
        whole = pe.SumBias(*parts)(q, k)
        np.testing.assert_array_equal(whole, sum(part(q, k) for part in parts))


def test_a_sum_and_a_reset_are_trained_through():
    bias = pe.ResetBias(pe.SumBias(pe.ALiBi(4), pe.T5Bias(4, key=KEY)), heads=4)
    loss = lambda bias: jnp.sum(bias(P, P) ** 2 + bias(P, P))
    gradient = jax.grad(loss)(bias)
    assert (gradient.bias.biases[1].weight != 0).any()
    # At zero: one for each of 7 keys, and for each of 6 queries.
    assert (gradient.from_special == 7).all() and (gradient.to_special == 6).all()


def test_a_reset_is_by_position_and_not_by_index():
    bias = pe.ResetBias(pe.ALiBi(2), heads=2, special=(3, 4))
    p = jnp.array([9, 3, 0, 4])
    reset = np.asarray(bias(p, p)) == 0
    for i in range(4):
        for j in range(4):
            special = {int(p[i]), int(p[j])} & {3, 4}
            assert reset[:, i, j].all() == (bool(special) or i == j)


@pytest.mark.parametrize("decoder", [False, True])
def test_t5_takes_the_weights_of_transformers_and_of_the_original(decoder):
    config = T5Config(d_model=8, d_kv=4, num_heads=4, is_decoder=decoder)
    layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    weights = {name: x.detach().numpy() for name, x in layer.state_dict().items()}
    theirs = layer.compute_bias(7, 7).detach().numpy()[0]
    table = weights["relative_attention_bias.weight"]
    for state, prefix in (
        (weights, ""),
        ({f"a.{name}": x for name, x in weights.items()}, "a."),
        (dict(layer.named_parameters()), ""),  # They require a gradient.
        ({"decoder/relative_attention_bias": table.T}, "decoder/"),
        ({"encoder/relpos_bias/rel_embedding": table.T}, "encoder/relpos_bias/"),
    ):
        bias = pe.T5Bias.from_state_dict(
            state, prefix=prefix, bidirectional=not decoder
        )
        np.testing.assert_array_equal(bias(P, P), theirs)
    # NumPy has no bfloat16, in which checkpoints are published.
    rounded = layer.to(torch.bfloat16).state_dict()
    bias = pe.T5Bias.from_state_dict(rounded, bidirectional=not decoder)
    np.testing.assert_allclose(bias(P, P), theirs, rtol=2**-8)


def test_blocks_share_a_reset_relative_bias_but_for_special_tokens():
    """A batch with special tokens in different blocks, and another exception in the
    sum. One bias is evaluated for each group of tiles."""
    bias = pe.SumBias(
        pe.ResetBias(pe.ALiBi(2, form="symmetric"), heads=2, special=(0, 11)),
        pe.ResetBias(pe.ClippedBias(2, max_distance=3, key=KEY), heads=2, special=(5,)),
    )
    where = lambda bias: [
        number for b in bias.biases for number in (b.from_special, b.to_special)
    ]
    bias = eqx.tree_at(where, bias, [jnp.array([n, -n]) for n in (3.0, 4.0, 5.0, 6.0)])
    q, k, v = jax.random.normal(jax.random.key(1), (3, 2, 24, 4))
    positions = jnp.stack([jnp.arange(24), jnp.arange(24) + 3])

    def attend(implementation):
        def loss(bias):
            embedding = pe.PositionalEmbedding(bias=bias)
            rules = dict(implementation=implementation, block_size=4)
            one = lambda p: embedding.attend(q, k, v, p, p, **rules)
            out = jax.vmap(one)(positions)
            return jnp.sum(jnp.sin(out)), out

        return jax.jit(jax.value_and_grad(loss, has_aux=True))(bias)

    blocks, dense = attend("blockwise"), attend("dense")
    close = partial(np.testing.assert_allclose, rtol=2e-5, atol=2e-6)
    jax.tree.map(close, blocks, dense)
