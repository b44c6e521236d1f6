"""ALiBi against Bloom and MPT as transformers has them."""

import functools

import numpy as np
import pytest
import torch
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.mpt.modeling_mpt import build_mpt_alibi_tensor

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import load
from tests.parity.references import as_numpy, assert_close, run


SEQ = 40
# Slopes are float32 powers: Bloom raises a rounded base to a power of up to the number
# of heads, which multiplies its error of half an ulp. Ours and MPT's are rounded once.
RTOL = {"bloom": lambda heads: 6e-8 * (heads + 2), "mpt": lambda heads: 5e-7}


def _theirs(model, heads):
    """One row for each head, of keys at 0, …, SEQ - 1."""
    if model == "mpt":
        return as_numpy(build_mpt_alibi_tensor(heads, SEQ))[:, 0]
    mask = torch.ones((1, SEQ), dtype=torch.int64)
    return as_numpy(build_alibi_tensor(mask, heads, torch.float32))[:, 0]


@functools.cache
def _ours(heads):
    return run(pe.ALiBi(heads), np.arange(SEQ), np.arange(SEQ))


def _softmax(logits):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("model", ["bloom", "mpt"])
@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 17, 31, 64, 112, 128])
def test_logits_are_theirs_but_for_a_constant_of_each_row(model, heads):
    ours = _ours(heads).astype(np.float64)
    theirs = _theirs(model, heads).astype(np.float64)
    rtol = RTOL[model](heads)
    for row in (0, 7, SEQ - 1):
        # Against each row's own key; the largest of the numbers bounds the rounding.
        assert_close(
            ours[:, row] - ours[:, row, :1],
            theirs - theirs[:, :1],
            rtol=rtol,
            atol=rtol * np.abs(theirs).max(),
        )
        seen = slice(0, row + 1)
        # A logit off by x moves a probability by at most x / 2, and none exceeds 40.
        assert_close(
            _softmax(ours[:, row, seen]),
            _softmax(theirs[:, seen]),
            atol=SEQ * rtol,
        )


def test_slopes_are_theirs_for_every_number_of_heads():
    for heads in range(1, 129):
        # From the last keys, at distances of 1 and 0.
        for model in RTOL:
            theirs = _theirs(model, heads)
            slopes = np.array(pe.ALiBi(heads).slopes)
            rtol = RTOL[model](heads) * SEQ
            assert_close(slopes, theirs[:, -1] - theirs[:, -2], rtol=rtol)


@pytest.mark.parametrize("heads", [2, 6, 8])
def test_slopes_end_where_mpt_has_them_end(heads):
    theirs = as_numpy(build_mpt_alibi_tensor(heads, 3, alibi_bias_max=12))[:, 0]
    slopes = np.array(pe.ALiBi(heads, bias_max=12).slopes)
    assert_close(slopes, theirs[:, -1] - theirs[:, -2], rtol=1e-6)
    config = {"model_type": "mpt", "attn_config": {"alibi_bias_max": 12}}
    loaded = load(config | {"n_heads": heads})
    assert loaded.bias == pe.ALiBi(heads, bias_max=12)


def test_the_largest_exponent_of_slopes_may_be_chosen():
    assert pe.ALiBi(2, bias_max=12).slopes == (2.0**-6, 2.0**-12)
    with pytest.raises(ValueError, match="`bias_max` must be"):
        pe.ALiBi(2, bias_max=0)
    with pytest.raises(ValueError, match="`slopes` must be None with"):
        pe.ALiBi(slopes=[0.5], bias_max=12)


def test_geometric_slopes_are_the_formula_of_the_paper():
    for heads in range(1, 129):
        slopes = pe.ALiBi(heads, convention="geometric").slopes
        formula = 2.0 ** (-8.0 * np.arange(1, heads + 1) / heads)
        assert_close(np.array(slopes), formula, rtol=4e-16)


@pytest.mark.parametrize("heads", [1, 2, 4, 8, 16, 32, 64, 128])
def test_the_conventions_agree_for_powers_of_two_and_only_then(heads):
    power = pe.ALiBi(heads).slopes
    assert power == pe.ALiBi(heads, convention="geometric").slopes
    if heads > 2:
        odd = heads - 1
        assert pe.ALiBi(odd).slopes != pe.ALiBi(odd, convention="geometric").slopes


def test_the_bias_is_the_slope_times_the_distance():
    q, k = np.array([5, 100]), np.array([0, 5, 7])
    delta = (k[None] - q[:, None])[None].astype(np.float64)
    for heads in (3, 8):
        slopes = np.array(pe.ALiBi(heads).slopes)[:, None, None]
        ours = run(pe.ALiBi(heads), q, k)
        assert_close(ours, slopes * delta, rtol=2e-7)
        ours = run(pe.ALiBi(heads, form="symmetric"), q, k)
        assert_close(ours, -slopes * np.abs(delta), rtol=2e-7)
