"""Convolutional positions against the modules of transformers, and their laws."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch
from transformers import Data2VecAudioConfig, SEWConfig, Wav2Vec2Config
from transformers.models.data2vec.modeling_data2vec_audio import (
    Data2VecAudioPositionalConvEmbedding,
)
from transformers.models.sew.modeling_sew import SEWPositionalConvEmbedding
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2PositionalConvEmbedding,
)

import eqx_posemb as pe
from tests.parity.references import as_numpy, assert_close, run


DIM, GROUPS, COUNT = 24, 4, 21
KEY = jr.key(0)
SIZES = dict(hidden_size=DIM, num_conv_pos_embedding_groups=GROUPS)


def tokens(count=COUNT):
    return np.random.default_rng(0).standard_normal((count, DIM)).astype(np.float32)


def state_of(module):
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return {name: as_numpy(value) for name, value in module.state_dict().items()}


@pytest.mark.parametrize("kernel", [8, 5])
def test_it_is_the_convolution_of_wav2vec2(kernel):
    config = Wav2Vec2Config(num_conv_pos_embeddings=kernel, **SIZES)
    theirs = Wav2Vec2PositionalConvEmbedding(config)
    layer = pe.PositionalConvolution.from_state_dict(state_of(theirs))
    x = tokens()
    with torch.no_grad():
        found = x + as_numpy(theirs(torch.from_numpy(x)[None])[0])
    assert layer.weight.shape == (1, DIM, DIM // GROUPS, kernel)
    assert_close(run(lambda layer: layer(jnp.asarray(x)), layer), found, atol=2e-5)


def test_it_is_the_stack_of_data2vec():
    config = Data2VecAudioConfig(
        num_conv_pos_embeddings=3, conv_pos_kernel_size=7, **SIZES
    )
    theirs = Data2VecAudioPositionalConvEmbedding(config)
    layer = pe.PositionalConvolution.from_state_dict(state_of(theirs))
    x = tokens()
    with torch.no_grad():
        found = x + as_numpy(theirs(torch.from_numpy(x)[None])[0])
    assert layer.weight.shape[0] == 3 and layer.norm and layer.gain is None
    assert_close(run(lambda layer: layer(jnp.asarray(x)), layer), found, atol=2e-5)


@pytest.mark.parametrize("count", [20, 21])
def test_it_has_the_stride_of_sew(count):
    config = SEWConfig(num_conv_pos_embeddings=8, squeeze_factor=2, **SIZES)
    theirs = SEWPositionalConvEmbedding(config)
    layer = pe.PositionalConvolution.from_state_dict(state_of(theirs), stride=2)
    x = tokens(count)
    image = torch.from_numpy(x.T)[None]
    with torch.no_grad():
        added = as_numpy(theirs(image)[0]).T
        pooled = as_numpy(torch.nn.AvgPool1d(2, 2)(image)[0]).T
    found = pooled[: len(added)] + added[: len(pooled)]
    assert_close(run(lambda layer: layer(jnp.asarray(x)), layer), found, atol=2e-5)


def test_padding_changes_nothing_and_a_shift_moves_the_result():
    layer = pe.PositionalConvolution(DIM, kernel=6, groups=GROUPS, key=KEY)
    x = tokens()
    padded = np.concatenate([x, np.ones((7, DIM), np.float32)])
    kept = np.arange(len(padded)) < COUNT
    alone = run(lambda layer: layer(jnp.asarray(x)), layer)
    with_padding = run(
        lambda layer: layer(jnp.asarray(padded), mask=jnp.asarray(kept)), layer
    )
    assert_close(with_padding[:COUNT], alone, atol=1e-5)
    later = np.concatenate([np.zeros((4, DIM), np.float32), x])
    assert_close(
        run(lambda layer: layer(jnp.asarray(later)), layer)[4:], alone, atol=1e-5
    )


def test_a_fresh_layer_trains_in_any_float_dtype():
    layer = pe.PositionalConvolution(
        DIM, kernel=5, groups=2, layers=2, norm=True, key=KEY
    )
    x = jnp.asarray(tokens(), jnp.bfloat16)

    @eqx.filter_jit
    @eqx.filter_grad(has_aux=True)
    def gradient(layer, x):
        out = jax.vmap(layer)(x[None])
        return jnp.sum(out.astype(jnp.float32) ** 2), out

    gradients, out = gradient(layer, x)
    assert out.dtype == jnp.bfloat16 and out.shape == (1, COUNT, DIM)
    for leaf in jax.tree.leaves(eqx.filter(gradients, eqx.is_array)):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.parametrize(
    "message, build",
    [
        (
            "`groups` must divide the 24 channels of `dim`, but got 7",
            lambda: pe.PositionalConvolution(DIM, groups=7, key=KEY),
        ),
        (
            "`kernel` must be at least 1 and finite, but got 0",
            lambda: pe.PositionalConvolution(DIM, kernel=0, key=KEY),
        ),
        (
            "`x` must have 24 channels, .* but got \\(3, 8\\)",
            lambda: pe.PositionalConvolution(DIM, groups=2, key=KEY)(jnp.ones((3, 8))),
        ),
        (
            "`state` must have one of weight, weight_v, .* but got nothing",
            lambda: pe.PositionalConvolution.from_state_dict({}),
        ),
        (
            "`state` must have no batch norm before the convolution",
            lambda: pe.PositionalConvolution.from_state_dict(
                {"batch_norm.weight": np.ones(4)}
            ),
        ),
    ],
)
def test_errors_say_what_to_do(message, build):
    with pytest.raises(ValueError, match=message):
        build()
