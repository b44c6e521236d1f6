"""Sines and cosines of grids against the codes that each layout is named after."""

import numpy as np
import pytest
import torch
from transformers.models.deformable_detr.modeling_deformable_detr import (
    DeformableDetrSinePositionEmbedding,
)
from transformers.models.detr.modeling_detr import DetrSinePositionEmbedding
from transformers.models.vit_mae.modeling_vit_mae import (
    build_2d_sinusoidal_position_embedding,
)

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    cells,
    golden,
    run,
)


# facebookresearch/{mae efb2a80, moco-v3 c349e6e, jepa 51c59d5}, big_vision 0127fb6,
# timm 1.0.31, positional-encodings 6.0.3, each run as released.
GOLDEN = golden("sincos_grid")
# Tables made in float32 are off by an ulp of the largest angle, 6, and by a few of each
# frequency.
FLOAT32 = 4e-6


def _sizes(name):
    shape, dim = name.split("_")[-2:]
    return tuple(map(int, shape.split("x"))), int(dim)


def _ours(shape, dim, layout, **settings):
    encoding = pe.SinusoidalGrid(dim, axes=len(shape), layout=layout, **settings)
    return run(encoding, cells(shape))


@pytest.mark.parametrize(
    "name", [name for name in GOLDEN if not name.startswith("timm_")]
)
def test_a_layout_is_that_of_its_namesake(name):
    shape, dim = _sizes(name)
    layout = name.removesuffix("_" + "_".join(name.split("_")[-2:]))
    # What the golden names call uniform is what V-JEPA's models have.
    layout = dict(v_jepa="v_jepa_half_time", v_jepa_uniform="v_jepa").get(
        layout, layout
    )
    assert_close(_ours(shape, dim, layout), GOLDEN[name], atol=FLOAT32)


def test_timm_has_three_of_which_two_are_others():
    assert_close(_ours((5, 7), 32, "timm"), GOLDEN["timm_5x7_32"], atol=FLOAT32)
    assert_close(
        _ours((5, 7), 32, "moco_v3"),
        GOLDEN["timm_interleaved_5x7_32"],
        atol=FLOAT32,
    )
    # Reversed, timm lists the cells column by column, too.
    reversed_ = _ours((7, 5), 32, "timm")
    assert_close(reversed_, GOLDEN["timm_reversed_5x7_32"], atol=FLOAT32)


def test_transformers_makes_rows_first_and_swaps_them_for_mae():
    """As its comment says, to match the released weights."""
    theirs = as_numpy(build_2d_sinusoidal_position_embedding(5, 7, 32))
    # Made in float64, rounded once.
    assert_close(_ours((5, 7), 32, "moco_v3"), theirs, atol=2e-7)
    swapped = np.concatenate([theirs[:, 16:], theirs[:, :16]], axis=-1)
    assert_close(_ours((5, 7), 32, "mae"), swapped, atol=2e-7)


def _images():
    whole = np.ones((6, 9), bool)
    padded = whole.copy()
    padded[4:], padded[:, 7:] = False, False
    return whole, padded


@pytest.mark.parametrize("mask", _images(), ids=["whole", "padded"])
@pytest.mark.parametrize(
    "theirs, settings",
    [
        (DetrSinePositionEmbedding, dict(normalized=False)),
        (DetrSinePositionEmbedding, dict(normalized=True)),
        (DeformableDetrSinePositionEmbedding, dict(normalized=True, centered=True)),
    ],
)
def test_detr_counts_the_pixels_of_the_image(mask, theirs, settings):
    module = theirs(16, normalize=settings["normalized"])
    found = module((1, 3, *mask.shape), "cpu", torch.float32, as_torch(mask[None]))
    found = as_numpy(found)[0].reshape(32, -1).T
    encoding = pe.SinusoidalGrid(32, layout="detr")
    ours = run(
        lambda mask: encoding(pe.positions.detr_positions(mask, **settings)), mask
    )
    # Beside the image they divide by nothing. Positions are up to 2π or 9, of which an
    # ulp or two is 1e-6.
    image = mask.reshape(-1)
    assert_close(ours[image], found[image], atol=FLOAT32)


@pytest.mark.parametrize("theta", [100.0, 5e5])
def test_theta_is_the_base(theta):
    y, x = np.mgrid[:4, :5].reshape(2, -1, 1)
    omega = theta ** (-np.arange(4) / 4)[None]
    waves = [f(p * omega) for p in (x, y) for f in (np.sin, np.cos)]
    assert_close(
        _ours((4, 5), 16, "mae", theta=theta), np.concatenate(waves, -1), atol=2e-7
    )
