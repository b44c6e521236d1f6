"""Encodings of coordinates and of boxes against the codes that have them."""

import equinox as eqx
import jax
import numpy as np
import pytest
import torch
from transformers import (
    LayoutLMConfig,
    LayoutLMv3Config,
    Pix2StructVisionConfig,
    ReformerConfig,
    SamVisionConfig,
)
from transformers.models.layoutlm.modeling_layoutlm import LayoutLMEmbeddings
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3TextEmbeddings
from transformers.models.perceiver.modeling_perceiver import (
    build_linear_positions,
    generate_fourier_features,
)
from transformers.models.pix2struct.modeling_pix2struct import (
    Pix2StructVisionEmbeddings,
)
from transformers.models.reformer.modeling_reformer import AxialPositionEmbeddings
from transformers.models.sam.modeling_sam import SamPositionalEmbedding

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    cells,
    golden,
    made,
    on_device,
    replaced,
    run,
)


# x-transformers 2.31.10 and learnable_fourier_positional_encoding 0.0.1, as released.
GOLDEN = golden("encodings")


def test_fourier_features_are_those_of_perceiver():
    shape, bands = (6, 9), 5
    points = build_linear_positions(shape).reshape(1, -1, 2)
    for include in False, True:
        theirs = generate_fourier_features(points, bands, shape, concat_pos=include)
        encoding = pe.Fourier(bands, shape, include_positions=include)
        ours = run(encoding, points[0])
        assert ours.shape[1] == encoding.dim
        # Angles of up to 4.5 π, made in float32.
        assert_close(ours, as_numpy(theirs).reshape(54, -1), atol=3e-6)


def test_geometric_bands_double_as_in_nerf():
    points = np.random.default_rng(0).uniform(-1, 1, size=(20, 3)).astype(np.float32)
    encoding = pe.Fourier(
        bands=6, resolution=(2**6,) * 3, spacing="geometric", include_positions=False
    )
    ours = run(encoding, points)
    angles = np.pi * points[..., None].astype(np.float64) * 2.0 ** np.arange(6)
    waves = [f(angles).reshape(20, -1) for f in (np.sin, np.cos)]
    # A fraction of a unit is up to 16 π of an angle, of which an ulp is 4e-6.
    assert_close(ours, np.concatenate(waves, axis=-1), atol=4e-6)


def test_gaussian_waves_are_those_of_sam():
    torch.manual_seed(0)
    theirs = SamPositionalEmbedding(SamVisionConfig(num_pos_feats=16, scale=3.0))
    unit = torch.rand(1, 1, 30, 2)  # Column first, between 0 and 1.
    found = as_numpy(theirs(unit))[0, 0]
    matrix = as_numpy(theirs.positional_embedding)
    encoding = pe.GaussianFourier(32, matrix=matrix[::-1])
    points = 2 * as_numpy(unit)[0, 0][:, ::-1] - 1
    # Angles of up to 2π · 3 · 3 · 2, made in float32, of which an ulp is 8e-6.
    assert_close(run(encoding, points), found, atol=3e-5)


def test_a_seed_gives_the_same_normal_numbers_everywhere():
    matrix = pe.GaussianFourier(4000, axes=3, scale=2.0, seed=5).matrix
    assert matrix.shape == (3, 2000)
    again = pe.GaussianFourier(4000, axes=3, scale=2.0, seed=5).matrix
    np.testing.assert_array_equal(matrix, again)
    assert (pe.GaussianFourier(4000, axes=3, seed=6).matrix != matrix / 2).all()
    # 6,000 draws: the standard error of the deviation is 2 / sqrt(12,000).
    assert abs(matrix.std() - 2) < 4 * 2 / 12_000**0.5
    assert pe.GaussianFourier(4, axes=1).matrix[0, 0] == 1.764052345967664


@pytest.mark.parametrize("groups, axes", [(1, 2), (2, 3)])
def test_learned_waves_are_those_of_the_algorithm_in_torch(groups, axes):
    found = {
        name.removeprefix(f"fourier_{groups}x{axes}_"): array
        for name, array in GOLDEN.items()
        if name.startswith(f"fourier_{groups}x{axes}_")
    }
    encoding = made(
        pe.LearnedFourier, 16, axes=groups * axes, features=12, hidden=5, groups=groups
    )
    encoding = replaced(
        encoding,
        waves=found["Wr.weight"],
        hidden_weight=found["mlp.0.weight"],
        hidden_bias=found["mlp.0.bias"],
        weight=found["mlp.2.weight"],
        bias=found["mlp.2.bias"],
    )
    x = found["x"].reshape(-1, groups * axes)
    # Sums of a dozen products of about one.
    assert_close(run(encoding, x), found["y"], atol=2e-6)


def test_waves_begin_as_wide_as_gamma_says():
    make = lambda: pe.LearnedFourier(
        8, features=8000, gamma=10.0, key=jax.random.key(0)
    )
    waves = run(make).waves
    assert abs(waves.std() - 0.1) < 4 * 0.1 / 16_000**0.5


def test_axial_is_that_of_reformer():
    config = ReformerConfig(
        axial_pos_shape=(4, 6), axial_pos_embds_dim=(3, 5), hidden_size=8
    )
    theirs = AxialPositionEmbeddings(config).eval()
    for weight in theirs.weights:
        torch.nn.init.normal_(weight)
    encoding = made(pe.AxialLearned, (4, 6), 8, dims=(3, 5))
    weights = tuple(as_numpy(w).reshape(-1, w.shape[-1]) for w in theirs.weights)
    encoding = eqx.tree_at(lambda m: m.weights, encoding, on_device(weights))
    found = as_numpy(theirs(torch.arange(24)[None]))[0]
    np.testing.assert_array_equal(run(encoding, cells((4, 6))), found)


def test_sums_of_rows_and_columns_are_those_of_pix2struct():
    config = Pix2StructVisionConfig(
        hidden_size=8, patch_embed_hidden_size=4, seq_len=12, dropout_rate=0.0
    )
    theirs = Pix2StructVisionEmbeddings(config).eval()
    positions = np.array([[0, 0], [3, 11], [11, 2]])
    patches = torch.cat([as_torch(positions).float(), torch.zeros(3, 4)], dim=1)
    found = theirs(patches[None])[0] - theirs.patch_projection.bias
    encoding = made(pe.AxialLearned, (12, 12), 8)
    tables = theirs.row_embedder.weight, theirs.column_embedder.weight
    encoding = eqx.tree_at(lambda m: m.weights, encoding, on_device(tables))
    # The bias of the projection was added before and subtracted after.
    assert_close(run(encoding, positions), found, atol=2e-6)


def _boxes():
    edges = np.sort(np.random.default_rng(0).integers(0, 40, size=(9, 2, 2)), axis=1)
    return edges.reshape(9, 4)  # Left, upper, right, lower.


def _box_tables(module):
    names = dict(x="x", y="y", height="h", width="w")
    return {
        ours: getattr(module, f"{theirs}_position_embeddings").weight
        for ours, theirs in names.items()
    }


def test_sums_of_edges_and_sizes_are_those_of_layoutlm():
    config = LayoutLMConfig(
        vocab_size=30, hidden_size=8, max_2d_position_embeddings=40, pad_token_id=0
    )
    theirs = LayoutLMEmbeddings(config).eval()
    theirs.LayerNorm = torch.nn.Identity()
    boxes = _boxes()
    ids = torch.ones(1, 9, dtype=torch.int64)
    with torch.no_grad():
        for part in (
            theirs.word_embeddings,
            theirs.position_embeddings,
            theirs.token_type_embeddings,
        ):
            part.weight.zero_()
    found = theirs(ids, as_torch(boxes[None]))[0]
    encoding = replaced(made(pe.LearnedBox, 8, size=40), **_box_tables(theirs))
    assert_close(run(encoding, boxes), found, atol=2e-6)


def test_joined_edges_and_sizes_are_those_of_layoutlmv3():
    config = LayoutLMv3Config(
        vocab_size=30,
        hidden_size=14,
        num_attention_heads=2,
        max_2d_position_embeddings=1024,
        coordinate_size=2,
        shape_size=3,
    )
    theirs = LayoutLMv3TextEmbeddings(config).eval()
    boxes = _boxes()
    found = theirs.calculate_spatial_position_embeddings(as_torch(boxes[None]))[0]
    encoding = replaced(made(pe.LearnedBox, 14, edge_dim=2), **_box_tables(theirs))
    np.testing.assert_array_equal(run(encoding, boxes), as_numpy(found))


def test_a_box_beyond_the_page_or_of_negative_size_raises():
    encoding = made(pe.LearnedBox, 8, size=40)
    for wrong in [0, 0, 40, 1], [-1, 0, 1, 1], [5, 0, 4, 1], [0, 5, 1, 4]:
        with pytest.raises(Exception, match="edge of boxes on a page of 40 by 40"):
            run(encoding, np.array([wrong]))


def test_scaled_sinusoids_are_those_of_x_transformers():
    encoding = replaced(pe.ScaledSinusoidal(16), scale=np.float32(0.7))
    # Tables made in float32, of angles of up to 39.
    ours = run(encoding, np.arange(40))
    assert_close(ours, GOLDEN["scaled_sinusoidal_16"], atol=2e-7 * 40)


@pytest.mark.parametrize("name", ["absolute", "absolute_l2norm"])
def test_learned_positions_may_be_scaled_as_in_x_transformers(name):
    weight = GOLDEN[f"{name}_weight"]
    settings = dict(normalized=True) if "l2" in name else dict(scale=8**-0.5)
    encoding = replaced(made(pe.Learned, 20, 8, **settings), weight=weight)
    assert_close(run(encoding, np.arange(20)), GOLDEN[name].squeeze(), atol=3e-7)
