"""Inkling's bank against transformers."""

import jax
import numpy as np
import pytest
import torch
from transformers.models.inkling.modeling_inkling import InklingRelativeLogits
from transformers.models.inkling2.modeling_inkling2 import Inkling2ScaledL2Clip

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    made,
    replaced,
    run,
)


RNG = np.random.default_rng(0)
HEADS, RANK, DIM = 3, 4, 10


def _normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("clip", [None, 2.0])
@pytest.mark.parametrize("floor", [None, 6])
@pytest.mark.parametrize("reach", [5, 40])
def test_the_score_is_that_of_transformers(reach, floor, clip):
    x, weight, bank = _normal(9, DIM), _normal(HEADS, RANK, DIM), _normal(RANK, reach)
    q_positions, k_positions = np.arange(4, 13), np.arange(13)
    rows = torch.einsum("hrd,qd->qhr", as_torch(weight), as_torch(x))
    new = dict(weight=weight, bank=bank)
    with torch.no_grad():
        if clip is not None:
            module = Inkling2ScaledL2Clip(HEADS, RANK, clip)
            new["mix_scale"] = _normal(HEADS, RANK)
            module.scale.copy_(as_torch(new["mix_scale"]))
            rows = module(rows)
        module = InklingRelativeLogits(RANK, reach)
        module.proj.copy_(as_torch(bank))
        theirs = module(rows[None], as_torch(q_positions), as_torch(k_positions))[0]
    theirs = as_numpy(theirs)
    if floor is not None:
        # The model does this to the logits, within its attention.
        grown = 0.1 * np.log(np.maximum((q_positions + 1) / floor, 1))
        theirs = theirs * (1 + grown)[None, :, None]
    score = made(pe.Inkling, HEADS, DIM, rank=RANK, reach=reach, clip=clip, floor=floor)
    score = replaced(score, **new)
    q, k = np.zeros((HEADS, 9, 2), np.float32), np.zeros((HEADS, 13, 2), np.float32)
    for order in np.arange(13), RNG.permutation(13):
        with jax.default_matmul_precision("highest"):
            ours = run(score, q, k, q_positions, k_positions[order], q_state=x)
        # Sums of 4 products of sums of 10, of up to 60.
        assert_close(ours, theirs[:, :, order], atol=2e-5)
