"""Biases of grids against transformers and the formulas of their codes."""

import math

import equinox as eqx
import numpy as np
import pytest
import torch
from transformers import BeitConfig, LayoutLMv3Config, Swinv2Config
from transformers.models.beit.modeling_beit import BeitRelativePositionBias
from transformers.models.layoutlmv3.modeling_layoutlmv3 import LayoutLMv3Encoder
from transformers.models.levit.modeling_levit import (
    LevitAttention,
    LevitAttentionSubsample,
)
from transformers.models.swin.modeling_swin import SwinRelativePositionBias
from transformers.models.swinv2.modeling_swinv2 import Swinv2SelfAttention
from transformers.models.udop.modeling_udop import (
    RelativePositionBiasHorizontal,
    RelativePositionBiasVertical,
)

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


HEADS = 3
TIMM = golden("timm_relative")


def _square(bias, positions):
    """The bias at the same positions for queries and keys."""
    return run(bias, positions, positions)


def _table(window):
    return 2 * window[0] - 1, 2 * window[1] - 1, HEADS


@pytest.mark.parametrize("window", [(4, 4), (3, 5), (1, 3), (2, 1)])
def test_swin_is_that_of_transformers(window):
    theirs = SwinRelativePositionBias(HEADS, window)
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    table = as_numpy(theirs.relative_position_bias_table).reshape(_table(window))
    bias = replaced(made(pe.SwinBias, window, HEADS), weight=table)
    found = as_numpy(theirs())[0]
    some = np.random.default_rng(0).permutation(math.prod(window))

    def both(bias):
        there = pe.positions.grid_positions(window)
        return bias(there, there), bias(there[some], there)

    ours, permuted = run(both, bias)
    np.testing.assert_array_equal(ours, found)
    # The same where the cells are not known to be the window, or not in order.
    np.testing.assert_array_equal(permuted, found[:, some])


@pytest.mark.parametrize("window, new", [((4, 4), (6, 6)), ((3, 5), (5, 3))])
@pytest.mark.parametrize("method", ["bicubic", "bilinear"])
def test_tables_are_resized_as_by_torch(window, new, method):
    bias = made(pe.SwinBias, window, HEADS)
    image = as_torch(bias.weight).permute(2, 0, 1)[None]
    size = _table(new)[:2]
    theirs = torch.nn.functional.interpolate(image, size, mode=method)
    resized = run(lambda bias: bias.resized(new, method=method), bias)
    assert resized.window == new
    assert_close(resized.weight, theirs[0].permute(1, 2, 0), atol=2e-6)


@pytest.mark.parametrize(
    "window, trained", [((4, 4), None), ((6, 6), (4, 4)), ((3, 5), None)]
)
def test_log_cpb_is_that_of_swinv2(window, trained):
    theirs = Swinv2SelfAttention(
        Swinv2Config(), 8 * HEADS, HEADS, window, list(trained or (0, 0))
    )
    first, _, last = theirs.continuous_position_bias_mlp
    bias = made(pe.LogCPB, window, HEADS, pretrained_window=trained)
    bias = replaced(
        bias, hidden_weight=first.weight, hidden_bias=first.bias, weight=last.weight
    )
    with torch.no_grad():
        out = theirs.continuous_position_bias_mlp(theirs.relative_coords_table)
        index = theirs.relative_position_index.view(-1)
        found = out.view(-1, HEADS)[index].view(math.prod(window), -1, HEADS)
        found = 16 * torch.sigmoid(found.permute(2, 0, 1))
    # 512 products of about 0.04, and 16 times their sum.
    assert_close(_square(bias, cells(window)), found, atol=2e-5)


def test_log_cpb_for_another_window_keeps_the_scale_of_training():
    bias = made(pe.LogCPB, (4, 4), HEADS)
    larger = bias.for_window((6, 6))
    assert larger.window == (6, 6) and larger.for_window((4, 4)).window == (4, 4)
    back = cells((4, 4))[::-1]
    # Tables of another size sum 512 products of about one in another order. The last
    # place of their sum is 3e-5, and the slope of 16σ is at most 4.
    assert_close(_square(larger, back), _square(bias, back), atol=1e-4)


@pytest.mark.parametrize("window", [(3, 4), (5, 5)])
@pytest.mark.parametrize("form", ["swin", "cr", "rw"])
def test_log_cpb_has_the_forms_of_timm(form, window):
    prefix = f"mlp.{form}.{window[0]}x{window[1]}."
    bias = pe.LogCPB.from_state_dict(TIMM, window, prefix=prefix, form=form)
    assert_close(_square(bias, cells(window)), TIMM[f"{prefix}bias"], atol=2e-6)
    assert bias.for_window((6, 6)).for_window(window).form == form


@pytest.mark.parametrize("case", range(4))
def test_tables_are_resized_geometrically_as_by_timm(case):
    part = lambda name: TIMM[f"resize.{case}.{name}"]
    old, new = map(tuple, part("windows").tolist())
    state = {"relative_position_bias_table": part("table")}
    extra = len(part("table")) - math.prod(_table(old)[:2])
    kind = pe.BEiTBias if extra else pe.SwinBias
    bias = kind.from_state_dict(state, window=old)
    resized = run(lambda bias: bias.resized(new, method="geometric"), bias)
    rows = part("resized")
    found = rows[:-extra] if extra else rows
    assert_close(resized.weight.reshape(found.shape), found, atol=5e-6)
    if extra:
        np.testing.assert_array_equal(resized.cls, rows[-extra:])
    same = run(lambda bias: bias.resized(old, method="geometric"), bias)
    np.testing.assert_array_equal(same.weight, bias.weight)


def _beit(window):
    config = BeitConfig(
        image_size=(4 * window[0], 4 * window[1]),
        patch_size=4,
        num_attention_heads=HEADS,
        hidden_size=8 * HEADS,
    )
    theirs = BeitRelativePositionBias(config)
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    table = as_numpy(theirs.relative_position_bias_table)
    weight = table[:-3].reshape(_table(window))
    ours = made(pe.BEiTBias, window, HEADS)
    return theirs, replaced(ours, weight=weight, cls=table[-3:])


@pytest.mark.parametrize("window", [(4, 4), (3, 5), (5, 2)])
def test_beit_is_that_of_transformers(window):
    theirs, bias = _beit(window)
    index = theirs.generate_relative_position_index(window)
    found = as_numpy(theirs.relative_position_bias_table[index].permute(2, 0, 1))
    shuffled = np.random.default_rng(0).permutation(1 + math.prod(window))

    def both(bias):
        there = pe.positions.prefixed(pe.positions.grid_positions(window))
        return bias(there, there), bias(there, there[shuffled])

    ours, permuted = run(both, bias)
    np.testing.assert_array_equal(ours, found)
    np.testing.assert_array_equal(permuted, found[:, :, shuffled])


def test_beit_resized_is_that_of_transformers_where_images_are_square():
    theirs, bias = _beit((4, 4))
    found = as_numpy(theirs((6, 5)))[0]

    def resized(bias):
        there = pe.positions.prefixed(pe.positions.grid_positions((6, 5)))
        return bias.resized((6, 5))(there, there)

    assert_close(run(resized, bias), found, atol=2e-6)


def test_transformers_swaps_height_and_width_of_a_table_that_is_not_square():
    theirs, bias = _beit((3, 5))
    found = as_numpy(theirs((3, 5)))[0]

    def same_size(bias):
        there = pe.positions.prefixed(pe.positions.grid_positions((3, 5)))
        return bias(there, there), bias.resized((3, 5)).weight

    ours, weight = run(same_size, bias)
    assert np.abs(ours - found).max() > 1
    # Of the same size it changes nothing here.
    np.testing.assert_array_equal(weight, bias.weight)


def test_levit_is_that_of_transformers():
    theirs = LevitAttention(16, 4, HEADS, 2, 5)
    torch.nn.init.normal_(theirs.attention_biases)
    weight = as_numpy(theirs.attention_biases).T.reshape(5, 5, HEADS)
    bias = replaced(made(pe.LeViTBias, (5, 5), HEADS), weight=weight)
    ours = _square(bias, cells((5, 5)))
    found = theirs.attention_biases[:, theirs.attention_bias_idxs]
    np.testing.assert_array_equal(ours, as_numpy(found))


def test_levit_with_fewer_queries_is_that_of_transformers():
    theirs = LevitAttentionSubsample(16, 16, 4, HEADS, 2, 2, 5, 3)
    torch.nn.init.normal_(theirs.attention_biases)
    weight = as_numpy(theirs.attention_biases).T.reshape(5, 5, HEADS)
    bias = replaced(made(pe.LeViTBias, (5, 5), HEADS), weight=weight)
    ours = run(bias, 2 * cells((3, 3)), cells((5, 5)))
    found = theirs.attention_biases[:, theirs.attention_bias_idxs]
    np.testing.assert_array_equal(ours, as_numpy(found))


@pytest.mark.parametrize("metric", ["manhattan", "euclidean"])
@pytest.mark.parametrize("heads", [8, 12])
def test_alibi_of_a_grid_is_that_of_data2vec(metric, heads):
    """fairseq's `get_alibi` with `dims=2`, written out."""
    far = dict(manhattan=lambda *d: sum(map(abs, d)), euclidean=math.hypot)[metric]
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (h + 1) / power) for h in range(power)]
    slopes += [2 ** (-8 * (h + 1) / (2 * power)) for h in range(2 * power)][::2]
    expected = np.zeros((heads, 12, 12))
    for h in range(heads):
        for i, j, k, l in np.ndindex(3, 4, 3, 4):
            expected[h, i * 4 + j, k * 4 + l] = -slopes[h] * far(i - k, j - l)
    # Rounded once or twice, of at most 2.5.
    ours = _square(pe.GridALiBi(heads, metric), cells((3, 4)))
    assert_close(ours, expected, atol=5e-7)


def _boxes(high):
    edges = np.random.default_rng(0).uniform(0, high, size=(9, 2, 2))
    return np.sort(edges, axis=1).reshape(9, 4)  # Left, upper, right, lower.


def _grid_tables(bias, tables):
    weights = lambda b: [axis.weight for axis in b.biases]
    return eqx.tree_at(weights, bias, on_device(tables))


def test_t5_of_a_page_is_that_of_layoutlmv3():
    config = LayoutLMv3Config(
        hidden_size=8 * HEADS,
        num_attention_heads=HEADS,
        num_hidden_layers=0,
        rel_2d_pos_bins=64,
        max_rel_2d_pos=256,
        has_relative_attention_bias=True,
        has_spatial_attention_bias=True,
    )
    theirs = LayoutLMv3Encoder(config)
    boxes = _boxes(1000).astype(np.int64)
    found = as_numpy(theirs._cal_2d_pos_emb(as_torch(boxes[None])))[0] / math.sqrt(8)
    bias = made(pe.T5GridBias, HEADS, num_buckets=64, max_distance=256, scale=8**-0.5)
    tables = [theirs.rel_pos_x_bias.weight.T, theirs.rel_pos_y_bias.weight.T]
    bias = _grid_tables(bias, tables)
    positions = boxes[:, [0, 3]].astype(np.int32)
    assert_close(_square(bias, positions), found, atol=1e-7)


def test_t5_of_a_page_is_that_of_udop():
    boxes = _boxes(1).astype(np.float32)
    settings = dict(num_heads=HEADS, relative_attention_num_buckets=32)
    parts = [
        RelativePositionBiasVertical(**settings),
        RelativePositionBiasHorizontal(**settings),
    ]
    found = sum(as_numpy(part(None, as_torch(boxes[None])))[0] for part in parts)
    bias = made(pe.T5GridBias, HEADS, resolution=100, max_distance=100)
    tables = [part.relative_attention_bias.weight for part in parts]
    bias = _grid_tables(bias, tables)
    # The middle as torch computes it: a step may hang on its last bit.
    middle = as_torch(boxes).view(9, 2, 2).mean(dim=1).flip(-1)
    assert_close(_square(bias, middle), found, atol=3e-7)
