"""T5's buckets and bias against transformers and arrays made by it."""

import numpy as np
import pytest
import torch
from transformers.models.t5.modeling_t5 import T5Attention

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    assert_close,
    assert_same_integers,
    golden,
    made,
    on_device,
    replaced,
    run,
)


T5 = golden("t5")

# Every distance up to 3,000, and then the neighbors of powers and of round numbers.
FAR = [2**k for k in range(11, 20)] + [10**k for k in range(4, 7)]
FAR += [round(3000 * 1.03**k) for k in range(196)]
AROUND = [n + off for n in FAR for off in (-1, 0, 1) if n + off <= 10**6]
DISTANCES = np.unique([*range(-3000, 3001), *AROUND, *(-n for n in AROUND)])


def _bias(heads=1, **settings):
    return made(pe.T5Bias, heads, **settings)


def _their_buckets(delta, **settings):
    return T5Attention._relative_position_bucket(torch.from_numpy(delta), **settings)


@pytest.mark.parametrize("kind", ["bi", "causal"])
@pytest.mark.parametrize("buckets, furthest", [(32, 128), (64, 256), (8, 20), (16, 64)])
def test_buckets_are_the_golden_ones(kind, buckets, furthest):
    bias = _bias(num_buckets=buckets, max_distance=furthest, bidirectional=kind == "bi")
    ours = run(bias.buckets, T5["rel"].astype(np.int32))
    assert_same_integers(ours, T5[f"bucket_{kind}_{buckets}_{furthest}"])


BUCKETS = (4, 6, 8, 10, 12, 16, 20, 24, 32, 34, 40, 48, 64, 100, 128, 256, 320)
FURTHEST = (16, 20, 50, 64, 100, 127, 128, 129, 200, 256, 400, 512, 800, 1000, 2048)
SETTINGS = [
    (buckets, furthest, bidirectional)
    for buckets in BUCKETS
    for furthest in (*FURTHEST, 10_000, 100_003)
    for bidirectional in (True, False)
    if furthest > buckets // (4 if bidirectional else 2)
]


@pytest.mark.parametrize("buckets", [2, 3, 5, 7, 33, *BUCKETS])
def test_buckets_are_those_of_transformers_for_every_distance(buckets):
    tried = [row for row in SETTINGS if row[0] == buckets] or [
        (buckets, furthest, False) for furthest in FURTHEST if furthest > buckets
    ]
    assert tried
    # Outside of a program: its operations are the same for all settings, whose hundreds
    # of thresholds would otherwise be compiled as constants.
    delta = on_device(DISTANCES.astype(np.int32))
    for _, furthest, bidirectional in tried:
        settings = dict(
            num_buckets=buckets, max_distance=furthest, bidirectional=bidirectional
        )
        ours = as_numpy(_bias(**settings).buckets(delta))
        theirs = as_numpy(_their_buckets(DISTANCES, **settings))
        wrong = DISTANCES[ours != theirs]
        assert not wrong.size, (settings, wrong, ours[ours != theirs])


@pytest.mark.parametrize("decoder", [False, True])
def test_the_bias_is_that_of_transformers(decoder):
    bias = _bias(heads=4, bidirectional=not decoder)
    ours = run(replaced(bias, weight=T5["w"]), np.arange(20), np.arange(20))
    np.testing.assert_array_equal(ours[None], T5[f"bias_dec{int(decoder)}"])


def test_the_logits_are_those_of_positional_embeddings_pytorch():
    """T5 does not scale the product of queries and keys."""
    bias = replaced(_bias(heads=4), weight=T5["w"])
    embedding = pe.PositionalEmbedding(bias=bias, scale=1.0)
    there = np.arange(9)
    for q, k, theirs in zip(T5["q"], T5["k"], T5["pep_logits"], strict=True):
        ours = run(embedding.logits, q, k, there, there)
        # Sums of 8 products of up to 10, in another order.
        assert_close(ours, theirs, atol=1e-5)
