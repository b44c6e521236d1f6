"""Enformer against arrays made by DeepMind's code under TensorFlow."""

import jax
import numpy as np
import pytest

import eqx_posemb as pe
from tests.parity.references import assert_close, golden, made, run


ENFORMER = golden("enformer_tf")
# What their float32 loses of the bumps grows with the length, as the logarithms of the
# density do, which reach 3e4 at 1536.
LOST = {8: 1e-5, 16: 5e-5, 100: 1e-3, 1536: 5e-3}


def _basis(features, length, symmetric=False):
    return made(pe.Enformer, 2, 4, features, length, symmetric=symmetric).basis


@pytest.mark.parametrize(
    "kind, length, features",
    [
        *[("all", *sizes) for sizes in ((8, 12), (16, 24), (100, 60), (1536, 192))],
        *[("sym", *sizes) for sizes in ((8, 12), (16, 24), (100, 60))],
    ],
)
def test_the_features_are_those_of_deepmind(kind, length, features):
    theirs = ENFORMER[f"{kind}_T{length}_F{features}"]
    ours = _basis(features, length, kind == "sym").table()
    if length == 1536:
        ours = ours[ENFORMER["rows_T1536"]]
    assert_close(ours, theirs, atol=LOST[length])
    # The decays and the windows have lost no more than a rounding.
    count = features // (3 if kind == "sym" else 6)
    plain = slice(0, 2 * count)
    assert_close(ours[:, plain], theirs[:, plain], atol=2e-6)


def test_the_bumps_are_those_of_scipy_in_float64():
    ours = _basis(192, 1536).table()[ENFORMER["rows_T1536"]]
    # Sums of logarithms of up to 3e4: 1e-11 of them is left of 16 digits.
    assert_close(ours[:, 64:96], ENFORMER["gamma64_T1536_n32"], atol=1e-10)


def _score(names):
    """With the weights of their attention: 4 heads of 8 channels, 10 positions."""
    u, v, weight = (
        ENFORMER[f"w_multihead_attention_{name}"]
        for name in ("r_w_bias", "r_r_bias", "r_k_layer_w")
    )
    if names == "deepmind":
        state = {"r_w_bias": u, "r_r_bias": v, "r_k_layer/w": weight}
    else:
        state = {"rel_content_bias": u, "rel_pos_bias": v, "to_rel_k.weight": weight.T}
    state = {f"a.{name}": each for name, each in state.items()}
    return pe.Enformer.from_state_dict(state, 10, prefix="a.")


@pytest.mark.parametrize("names", ["deepmind", "lucidrains"])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_logits_are_those_of_deepmind(shuffled, names):
    embedding = pe.PositionalEmbedding(score=_score(names))
    order = np.random.default_rng(0).permutation(10) if shuffled else np.arange(10)
    content, relative = ENFORMER["mha_content"], ENFORMER["mha_rel"]
    for i in range(2):
        # Theirs are scaled already.
        q = ENFORMER["mha_q_scaled"][i][:, order] * np.float32(8**0.5)
        k = ENFORMER["mha_k"][i][:, order]
        with jax.default_matmul_precision("highest"):
            ours = run(embedding.logits, q, k, order, order)
        theirs = (content + relative)[i][:, order[:, None], order[None]]
        assert_close(ours, theirs, atol=5e-5)


def test_their_shift_is_ours():
    from eqx_posemb._spread import skew

    for x, theirs in zip(
        ENFORMER["relshift_in"], ENFORMER["relshift_out"], strict=True
    ):
        np.testing.assert_array_equal(run(skew, x), theirs)
