"""Vectors for each axis of a grid against SAM in transformers."""

import jax
import numpy as np
import pytest
import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionAttention

import eqx_posemb as pe
from tests.parity.references import as_numpy, as_torch, assert_close, cells, run


RNG = np.random.default_rng(0)


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "height, width, trained", [(4, 6, 6), (2, 2, 2), (4, 6, 3), (2, 4, 9), (2, 4, 1)]
)
def test_the_score_is_that_of_sam(height, width, trained, stride):
    """Also with pooled keys, as MViT has them, which SAM's code is taken from."""
    heads, head_dim = 2, 8
    config = SamVisionConfig(hidden_size=16, num_attention_heads=heads)
    attention = SamVisionAttention(config, window_size=0)
    # The first is of that size, and the other is stretched or squeezed.
    tables = [_normal(2 * size - 1, head_dim) for size in (height, trained)]
    pooled = height // stride, width // stride
    q = _normal(heads, height * width, head_dim)
    with torch.no_grad():
        theirs = attention.get_decomposed_rel_pos(
            as_torch(q), *(as_torch(t) for t in tables), (height, width), pooled
        )
    theirs = as_numpy(theirs).reshape(heads, height * width, -1)
    state = {"a.rel_pos_h": tables[0], "a.rel_pos_w": tables[1]}
    score = pe.Decomposed.from_state_dict(state, prefix="a.", shape=(height, width))
    assert isinstance(score, pe.Decomposed)
    k = np.zeros((heads, pooled[0] * pooled[1], head_dim), np.float32)
    # Their coordinates end together: a pooled key counts as the last of its cells.
    k_positions = stride * cells(pooled) + stride - 1
    with jax.default_matmul_precision("highest"):
        ours = run(score, q, k, cells((height, width)), k_positions)
    # Sums of 16 products of up to 10.
    assert_close(ours, theirs, atol=1e-5)
