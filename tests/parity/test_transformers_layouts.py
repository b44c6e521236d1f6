"""How rotary embeddings are applied, against transformers."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from transformers import (
    CohereConfig,
    DeepseekV3Config,
    Gemma4VisionConfig,
    GPTJConfig,
)
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek
from transformers.models.gemma4 import modeling_gemma4 as gemma4
from transformers.models.gptj import modeling_gptj as gptj
from transformers.models.llama import modeling_llama as llama

import eqx_posemb as pe
from tests.parity.references import (
    as_numpy,
    as_torch,
    assert_close,
    llama_config,
    rotated,
    run,
)


RNG = np.random.default_rng(0)
Q = RNG.normal(size=(2, 3, 16, 64)).astype(np.float32)
K = RNG.normal(size=(2, 3, 16, 64)).astype(np.float32)
# Positions up to 20: an ulp of the angle is 1.9e-6, twenty ulps of the frequency are
# 2.4e-6 of it (where it is 1: none). Times a channel of up to 4, and twice.
THERE = np.arange(5, 21)
APPLIED = 2e-5


def assert_applied(rotary, theirs):
    for ours, found in zip(rotated(rotary, THERE, Q, K), theirs, strict=True):
        assert_close(ours, as_numpy(found), atol=APPLIED)


def _token_first(rotary):
    """Queries that lie in memory as `[batch, seq, heads, dim]`, turned."""

    def turn(rotary, p, q):
        return jax.vmap(rotary(p).queries, in_axes=2, out_axes=2)(q)

    return run(turn, rotary, THERE, Q.swapaxes(1, 2))


LLAMAS = [
    ("default", {}, pe.rope, {}),
    ("linear", {"factor": 3.0}, pe.linear_rope, {"factor": 3.0}),
    (
        "yarn",
        {"factor": 4.0, "original_max_position_embeddings": 2048},
        pe.yarn,
        {"factor": 4.0, "original_length": 2048},
    ),
    (
        "llama3",
        {
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 2048,
        },
        pe.llama3_rope,
        {"factor": 8.0, "original_length": 2048},
    ),
    (
        "proportional",
        {"partial_rotary_factor": 0.25},
        pe.proportional_rope,
        {"fraction": 0.25},
    ),
]


@pytest.mark.parametrize("kind, theirs, make, ours", LLAMAS, ids=[r[0] for r in LLAMAS])
def test_halves_are_applied_as_in_llama(kind, theirs, make, ours):
    module = llama.LlamaRotaryEmbedding(llama_config(kind, 64, 5e5, **theirs))
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    found = llama.apply_rotary_pos_emb(as_torch(Q), as_torch(K), cos, sin)
    assert_applied(make(64, theta=5e5, **ours), found)


def test_adjacent_is_applied_as_in_cohere():
    settings = CohereConfig(
        hidden_size=64, num_attention_heads=1, rope_parameters={"rope_theta": 5e5}
    )
    module = cohere.CohereRotaryEmbedding(settings)
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    found = cohere.apply_rotary_pos_emb(as_torch(Q), as_torch(K), cos, sin)
    assert_applied(pe.rope(64, theta=5e5, pairing="adjacent"), found)


def test_partial_adjacent_is_applied_as_in_gptj():
    width = GPTJConfig().rotary_dim // 4
    table = gptj.create_sinusoidal_positions(32, width)[torch.from_numpy(THERE)]
    sin, cos = torch.split(table[None], width // 2, dim=-1)
    # Theirs is [batch, seq, heads, dim], and the caller slices.
    q = as_torch(Q.swapaxes(1, 2))
    turned = gptj.apply_rotary_pos_emb(q[..., :width], sin, cos)
    found = as_numpy(torch.cat([turned, q[..., width:]], dim=-1))
    rotary = pe.rope(64, rotary_dim=width, pairing="adjacent")
    assert_close(_token_first(rotary), found, atol=APPLIED)
    same = pe.rotations.Pairing.adjacent(64, rotary_dim=width)
    other = pe.Rotary(pe.frequencies.Geometric(width), dim=64, pairing=same)
    assert_close(_token_first(other), found, atol=APPLIED)


@pytest.mark.parametrize("start", [0, 32])
def test_adjacent_to_halves_is_applied_as_in_deepseek_v3(start):
    width = 64 - start
    settings = DeepseekV3Config(qk_rope_head_dim=width)
    assert settings.head_dim == width
    module = deepseek.DeepseekV3RotaryEmbedding(settings)
    cos, sin = module(as_torch(Q), as_torch(THERE[None]))
    q, k = (as_torch(x)[..., start:] for x in (Q, K))
    found = deepseek.apply_rotary_pos_emb_interleave(q, k, cos, sin)
    pairing = pe.rotations.Pairing.adjacent_to_halves(64, rotary_dim=width, start=start)
    rotary = pe.Rotary(pe.frequencies.Geometric(width), pairing=pairing)
    passed = (as_torch(x)[..., :start] for x in (Q, K))
    whole = [torch.cat(pair, -1) for pair in zip(passed, found, strict=True)]
    assert_applied(rotary, whole)
    _, kept = rotated(rotary, THERE, Q, K)
    np.testing.assert_array_equal(kept[..., :start], K[..., :start])


def test_halves_per_block_are_applied_as_in_the_vision_tower_of_gemma_4():
    settings = Gemma4VisionConfig(head_dim=64)
    module = gemma4.Gemma4VisionRotaryEmbedding(settings)
    # Twice the coordinate on the second axis, or twice the frequency in its block: the
    # layout alone is in question here.
    there = as_torch(np.stack([THERE, 2 * THERE], -1))[None]
    cos, sin = module(as_torch(Q), there)
    q = as_torch(Q.swapaxes(1, 2))
    found = gemma4.apply_multidimensional_rope(q, cos, sin, there)

    class TwoBlocks(pe.frequencies.AbstractStaticFrequencies):
        base: pe.frequencies.Geometric

        def exact(self):
            frequencies = self.base.exact()
            return np.concatenate([frequencies, 2 * frequencies])

    pairing = pe.rotations.Pairing.halves_per_block(64, blocks=2)
    rotary = pe.Rotary(
        TwoBlocks(pe.frequencies.Geometric(32, theta=100.0)), pairing=pairing
    )
    assert_close(_token_first(rotary), as_numpy(found), atol=APPLIED)


PAIRINGS: dict[str, Any] = {
    "halves": (pe.rotations.Pairing.halves(64), "halves"),
    "adjacent": (pe.rotations.Pairing.adjacent(64), "adjacent"),
}


@pytest.mark.parametrize("name", PAIRINGS)
def test_the_general_form_of_a_layout_is_its_fast_form(name):
    general, fast = (
        rotated(pe.rope(64, pairing=pairing), THERE, Q, K) for pairing in PAIRINGS[name]
    )
    for ours, other in zip(general, fast, strict=True):
        assert_close(ours, other, atol=1e-6)
