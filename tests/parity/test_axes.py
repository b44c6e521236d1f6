"""Rotary embeddings of images and video, and query temperature, against transformers.

Mixed frequencies have no oracle here: they are compared with complex numbers in NumPy.
"""

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from transformers import (
    Ernie4_5_VLMoeTextConfig,
    Glm4vTextConfig,
    Qwen2VLTextConfig,
    Qwen2VLVisionConfig,
    Qwen3VLTextConfig,
)
from transformers.models.beam import modeling_beam as beam
from transformers.models.ernie4_5_vl_moe import modeling_ernie4_5_vl_moe as ernie
from transformers.models.glm4v import modeling_glm4v as glm4v
from transformers.models.ministral3 import modeling_ministral3 as ministral3
from transformers.models.mistral_large4 import modeling_mistral_large4 as mistral_large4
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3_vl

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    on_device,
    rotated,
    run,
)


RNG = np.random.default_rng(0)
# Positions up to 40: an ulp of the angle is 3.8e-6 and twenty ulps of the frequency are
# 4.8e-6 of it. Times a channel of up to 4, and twice.
APPLIED = 4e-5

MROPE: dict[str, Any] = {
    "chunked": (
        (qwen2_vl, qwen2_vl.Qwen2VLRotaryEmbedding, Qwen2VLTextConfig),
        [16, 24, 24],
        dict(sizes=(16, 24, 24)),
    ),
    "chunked, adjacent, partial": (
        (glm4v, glm4v.Glm4vTextRotaryEmbedding, Glm4vTextConfig),
        [8, 12, 12],
        dict(sizes=(8, 12, 12), pairing="adjacent", rotary_dim=64),
    ),
    "interleaved": (
        (qwen3_vl, qwen3_vl.Qwen3VLTextRotaryEmbedding, Qwen3VLTextConfig),
        [24, 20, 20],
        dict(sizes=(24, 20, 20), order="interleaved"),
    ),
    # They list height and width before time.
    "tail": (
        (ernie, ernie.Ernie4_5_VLMoeTextRotaryEmbedding, Ernie4_5_VLMoeTextConfig),
        [22, 22, 20],
        dict(sizes=(20, 22, 22), order="tail", pairing="adjacent"),
    ),
}


@pytest.mark.parametrize("name", MROPE)
def test_mrope_is_that_of_its_model(name):
    (module, rotary, config), section, settings = MROPE[name]
    parameters = dict(rope_type="default", rope_theta=1e6, mrope_section=section)
    if "rotary_dim" in settings:
        parameters["partial_rotary_factor"] = 0.5
    theirs = rotary(
        config(
            hidden_size=256,
            num_attention_heads=2,
            head_dim=128,
            rope_parameters=parameters,
        )
    )
    q = RNG.normal(size=(1, 2, 9, 128)).astype(np.float32)
    p = RNG.integers(0, 40, size=(9, 3))
    cos, sin = theirs(as_torch(q), as_torch(p.T[:, None]))
    expected, _ = module.apply_rotary_pos_emb(as_torch(q), as_torch(q), cos, sin)
    ours, _ = rotated(pe.mrope(128, theta=1e6, **settings), p, q)
    assert_close(ours, as_numpy(expected), atol=APPLIED)


def test_axial_rope_is_that_of_the_vision_tower_of_qwen2_vl():
    theirs = qwen2_vl.Qwen2VLVisionRotaryEmbedding(
        Qwen2VLVisionConfig(embed_dim=128, num_heads=2)
    )
    positions = run(lambda: pe.positions.merged_patch_positions(4, 6))
    q = RNG.normal(size=(24, 2, 64)).astype(np.float32)
    cos, sin = theirs(as_torch(q), as_torch(positions))
    expected, _ = qwen2_vl.apply_rotary_pos_emb_vision(
        as_torch(q), as_torch(q), cos, sin
    )
    ours = run(
        lambda q, p: pe.axial_rope(64)(p).queries(q), q.swapaxes(0, 1), positions
    )
    assert_close(ours.swapaxes(0, 1), as_numpy(expected), atol=APPLIED)


@pytest.mark.parametrize("interleaved", [False, True])
def test_axial_gives_each_coordinate_the_whole_schedule(interleaved):
    p = RNG.integers(0, 40, size=(5, 3))
    axes = pe.axes.Axial(3, interleaved=interleaved)
    cos = run(pe.Rotary(pe.frequencies.Geometric(8), axes=axes), p).cos
    each = np.stack([run(pe.rope(8), p[:, k]).cos for k in range(3)], axis=1)
    # Blocks of coordinates, or the coordinates of each frequency together.
    expected = np.moveaxis(each, 1, 2) if interleaved else each
    np.testing.assert_array_equal(cos, expected.reshape(5, 12))


def test_axes_of_different_widths_are_separate_rotary_embeddings():
    # Flux and HunyuanVideo build a table for each axis, and lay them side by side.
    p, widths = RNG.integers(0, 40, size=(9, 3)), (16, 24, 24)
    settings = dict(theta=256.0, pairing="adjacent")
    x = RNG.normal(size=(9, 64)).astype(np.float32)
    ours, _ = rotated(pe.axial_rope(64, widths=widths, **settings), p, x)
    each = [
        rotated(pe.rope(dim, **settings), p[:, i], part)[0]
        for i, (dim, part) in enumerate(
            zip(widths, np.split(x, (16, 40), axis=1), strict=True)
        )
    ]
    assert_close(ours, np.concatenate(each, axis=1), atol=1e-6)


def test_mixed_rope_is_a_product_of_complex_numbers():
    rope = run(lambda: pe.mixed_rope(16, heads=3, key=jax.random.key(0)))
    weight = np.asarray(rope.frequencies.weight, np.float64).reshape(3, 2, 8)
    p = RNG.uniform(-10, 10, size=(5, 2)).astype(np.float32)
    x = RNG.normal(size=(3, 5, 16)).astype(np.float32)
    angles = np.einsum("sk,hkm->hsm", p, weight)
    pairs = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    expected = np.stack([pairs.real, pairs.imag], axis=-1).reshape(x.shape)
    ours = run(lambda rope, p, x: rope(p).queries(x), on_device(rope), p, x)
    assert_close(ours, expected, atol=APPLIED)


def test_mixed_rope_starts_from_directions_at_a_right_angle():
    make = lambda: pe.mixed_rope(16, heads=3, key=jax.random.key(0))
    weight = run(make).frequencies.weight
    along, across = np.moveaxis(np.asarray(weight).reshape(3, 2, 2, 4), 2, 0)
    geometric = 10.0 ** (-np.arange(4) / 4)
    for direction in along, across:
        sizes = np.linalg.norm(direction, axis=1)
        np.testing.assert_allclose(sizes, np.tile(geometric, (3, 1)), rtol=1e-6)
    # A right angle between them, and another direction in each head.
    np.testing.assert_allclose((along * across).sum(axis=1), 0, atol=1e-6)
    assert len({float(head[0, 0]) for head in along}) == 3


@pytest.mark.parametrize("interval", [1, 2.5])
def test_mrope_positions_are_those_of_transformers(interval):
    model = qwen2_vl.Qwen2VLModel
    theirs, start = [], 0
    for part in (3, (2, 4, 6), 2, (5, 2, 2), 1):
        if isinstance(part, int):
            theirs.append(start + np.repeat(np.arange(part)[:, None], 3, axis=1))
            start += part
        else:
            grid = torch.tensor([part[0], 2 * part[1], 2 * part[2]])
            found = model.get_vision_position_ids(
                types.SimpleNamespace(), start, grid, 1, 2, time_interval=interval
            )
            theirs.append(as_numpy(found).T)
            start += max(part[1:])
    runs = [3, (2, 4, 6, interval), 2, (5, 2, 2, interval), 1]
    ours = run(lambda: pe.positions.mrope_positions(runs, advance="space"))
    assert ours.tolist() == np.concatenate(theirs).tolist()


P = np.array([0, 1, 2047, 2048, 8190, 8191, 100_000])


def scaled(temperature):
    def queries(temperature, positions):
        rotation = temperature(positions)
        heads = () if rotation.heads is None else (rotation.heads,)
        x = jnp.ones((*heads, len(P), 1))
        assert rotation.keys(x) is x
        return rotation.queries(x)[..., 0]

    return run(queries, temperature, P)


def test_temperature_is_that_of_its_models():
    # Logarithms and powers of numbers below 50: a few ulps.
    close = dict(rtol=1e-6)
    p = torch.from_numpy(P)[None]
    found = ministral3.get_llama_4_attn_scale(p, 0.1, 2048)
    ours = scaled(pe.Temperature(beta=0.1, length=2048))
    assert_close(ours, as_numpy(found).reshape(-1), **close)
    # Llama 4 and Inkling have the formula in their attention.
    ours = scaled(pe.Temperature(beta=0.1, length=8192, offset=1))
    assert_close(ours, 1 + 0.1 * np.log1p((P + 1) // 8192), **close)
    ours = scaled(pe.Temperature(beta=0.2, length=2048, offset=1, kind="log"))
    assert_close(ours, 1 + 0.2 * np.log(np.maximum((P + 1) / 2048, 1)), **close)
    ours = scaled(pe.Temperature(beta=0.1, length=2048, offset=1, kind="power"))
    assert_close(ours, as_numpy(beam.compute_attention_scaling(p)).reshape(-1), **close)


def test_scalable_softmax_is_that_of_mistral_large_4():
    theirs = mistral_large4.MistralLarge4TextSoftmaxScaling(3)
    weight, bias = torch.tensor([0.0, 0.4, 1.0]), torch.tensor([1.0, 0.2, -0.1])
    with torch.no_grad():
        theirs.scale.copy_(weight)
        theirs.bias.copy_(bias)
    found = theirs(torch.ones(1, 3, len(P), 1), torch.from_numpy(P)[None], True)
    ours = pe.ScalableSoftmax(3)
    ours = scaled(
        jax.tree.unflatten(jax.tree.structure(ours), on_device([weight, bias]))
    )
    assert_close(ours, as_numpy(found)[0, ..., 0], rtol=1e-6)
