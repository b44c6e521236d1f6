"""Learned grids, and their resizing, against torch, ViT and DINOv2."""

import math

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from transformers import Dinov2Config, Dinov2WithRegistersConfig, ViTConfig
from transformers.models.dinov2.modeling_dinov2 import Dinov2Embeddings
from transformers.models.dinov2_with_registers import (
    modeling_dinov2_with_registers as registers,
)
from transformers.models.vit.modeling_vit import ViTEmbeddings

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    cells,
    made,
    replaced,
    run,
)


def _grid(weight, prefix=None):
    count = 0 if prefix is None else len(prefix)
    module = made(pe.LearnedGrid, weight.shape[:-1], weight.shape[-1], prefix=count)
    arrays = (
        dict(weight=weight) if prefix is None else dict(weight=weight, prefix=prefix)
    )
    return replaced(module, **arrays)


def _torch(weight, **settings):
    image = as_torch(weight).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, align_corners=False, **settings)
    return as_numpy(resized[0].permute(1, 2, 0))


SHAPES = [
    ((7, 7), (7, 7)),
    ((7, 7), (3, 4)),
    ((14, 14), (14, 20)),
    ((14, 14), (37, 33)),
    ((16, 16), (7, 5)),
    ((5, 9), (9, 5)),
    ((1, 3), (2, 3)),
    ((6, 6), (1, 1)),
]


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize("offset", [0.0, 0.1])
def test_resizing_is_that_of_torch(method, antialias, offset, x64):
    dtype = np.float64 if x64 else np.float32
    draw = lambda old: np.random.default_rng(0).normal(size=(*old, 3)).astype(dtype)
    how = dict(method=method, antialias=antialias, offset=offset)

    def all_resized(modules):
        return [
            m.resized(new, **how) for m, (_, new) in zip(modules, SHAPES, strict=True)
        ]

    found = run(all_resized, [_grid(draw(old)) for old, _ in SHAPES])
    for (old, new), ours in zip(SHAPES, found, strict=True):
        settings: dict = dict(size=new)
        if offset:
            factors = [(n + offset) / o for n, o in zip(new, old, strict=True)]
            settings = dict(scale_factor=tuple(factors))
        theirs = _torch(draw(old), mode=method, antialias=antialias, **settings)
        # torch computes where it samples in the dtype of the table: at the far edge of
        # 37 cells an ulp of it is 4e-6 of a cell.
        assert_close(ours.weight, theirs, atol=1e-13 if x64 else 1e-5)


@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
@pytest.mark.parametrize("how", [{"align_corners": True}, {"padding": "zeros"}])
def test_corners_and_zeros_are_those_of_torch(method, how):
    rng = np.random.default_rng(0)
    tables = [rng.normal(size=(*old, 3)).astype(np.float32) for old, _ in SHAPES]
    found = run(
        lambda modules: [
            module.resized(new, method=method, **how)
            for module, (_, new) in zip(modules, SHAPES, strict=True)
        ],
        [_grid(table) for table in tables],
    )
    for (_, new), table, ours in zip(SHAPES, tables, found, strict=True):
        there = torch.as_tensor(table).permute(2, 0, 1)[None]
        if "padding" in how:
            rows, columns = ((torch.arange(n) + 0.5) * 2 / n - 1 for n in new)
            at = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)[None]
            told = dict(mode=method, padding_mode="zeros", align_corners=False)
            theirs = torch.nn.functional.grid_sample(there, at, **told)
        else:
            theirs = torch.nn.functional.interpolate(
                there, size=new, mode=method, align_corners=True
            )
        assert_close(ours.weight, theirs[0].permute(1, 2, 0).numpy(), atol=2e-5)


def test_aligned_corners_keep_the_corners():
    table = np.arange(18.0, dtype=np.float32).reshape(3, 3, 2)
    how = dict(method="bilinear", align_corners=True)
    corners = _grid(table).resized((2, 2), **how).weight[..., 0]
    assert corners.tolist() == [[0, 4], [12, 16]]
    assert _grid(table).resized((1, 1), **how).weight[0, 0, 0] == 0
    with pytest.raises(ValueError, match="`align_corners` must be left out with"):
        _grid(table).resized((2, 2), antialias=True, **how)
    with pytest.raises(ValueError, match="`padding` must be left out with"):
        _grid(table).resized((2, 2), offset=0.1, padding="zeros")


def test_jax_resizes_by_another_kernel():
    weight = np.random.default_rng(0).normal(size=(14, 14, 3)).astype(np.float32)
    ours = run(lambda grid: grid.resized((16, 20)).weight, _grid(weight))
    by_jax = lambda x: jax.image.resize(x, (16, 20, 3), "cubic", antialias=False)
    theirs = run(by_jax, weight)
    assert np.abs(ours - theirs).max() > 0.1


def _embeddings(make, **config):
    torch.manual_seed(0)
    config = make[1](
        hidden_size=8, image_size=24, patch_size=4, num_attention_heads=2, **config
    )
    module = make[0](config).eval()
    torch.nn.init.normal_(module.position_embeddings)
    table = as_numpy(module.position_embeddings)[0]
    return module, _grid(table[1:].reshape(6, 6, 8), table[:1])


MODELS = [
    ((ViTEmbeddings, ViTConfig), dict()),
    ((Dinov2Embeddings, Dinov2Config), dict()),
    (
        (registers.Dinov2WithRegistersEmbeddings, Dinov2WithRegistersConfig),
        dict(antialias=True),
    ),
]


@pytest.mark.parametrize("make, settings", MODELS)
@pytest.mark.parametrize("shape", [(6, 6), (9, 5), (4, 4)])
def test_a_vision_transformer_adds_it_to_cls_and_patches(make, settings, shape):
    module, ours = _embeddings(make)
    height, width = shape[0] * 4, shape[1] * 4
    tokens = torch.zeros(1, 1 + math.prod(shape), 8)
    theirs = as_numpy(module.interpolate_pos_encoding(tokens, height, width))[0]
    at_all = lambda grid: grid.resized(shape, **settings)(
        pe.positions.prefixed(pe.positions.grid_positions(shape))
    )
    found = run(at_all, ours)
    # Sums of 16 numbers of up to 3, and where torch samples, as above.
    assert_close(found, theirs, atol=5e-6)
    if shape == (6, 6):
        np.testing.assert_array_equal(found, theirs)


def test_the_gradient_of_a_resized_table_is_that_of_torch():
    weight = np.random.default_rng(0).normal(size=(5, 6, 3)).astype(np.float32)
    target = np.random.default_rng(1).normal(size=(8, 4, 3)).astype(np.float32)
    leaf = torch.nn.Parameter(as_torch(weight))
    image = leaf.permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(image, (8, 4), mode="bicubic")
    (resized[0].permute(1, 2, 0) * as_torch(target)).sum().backward()

    def loss(module, there, target):
        return (module.resized((8, 4))(there) * target).sum()

    assert leaf.grad is not None
    there = cells((8, 4))
    ours = run(eqx.filter_grad(loss), _grid(weight), there, target.reshape(-1, 3))
    assert_close(ours.weight, leaf.grad, atol=1e-5)
