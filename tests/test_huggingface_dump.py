"""Configurations back from embeddings."""

import json

import hypothesis as hp
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import pytest

import eqx_posemb as pe
from eqx_posemb.interop.huggingface import dump, load


THETAS = st.sampled_from([1e4, 5e5, 1e6]) | st.floats(2, 1e8)
FACTORS = st.floats(1, 100)
LENGTHS = st.integers(2, 10**6)
EVEN = st.integers(2, 64).map(lambda half: 2 * half)


RECIPES = {
    "rope": pe.rope,
    "linear": pe.linear_rope,
    "dynamic": pe.dynamic_ntk_rope,
    "yarn": pe.yarn,
    "llama3": pe.llama3_rope,
    "longrope": pe.longrope,
}


@st.composite
def recipes(draw):
    dim = draw(EVEN)
    kind = draw(st.sampled_from(sorted(RECIPES)))
    width = draw(st.sampled_from([None, *range(4, dim + 1, 2)]))
    layout = draw(st.sampled_from(["halves", "adjacent"]))
    told = dict(theta=draw(THETAS), rotary_dim=width, pairing=layout)
    if kind != "rope":
        told["factor"] = draw(FACTORS)
    if kind in ("dynamic", "yarn", "llama3", "longrope"):
        told["original_length"] = draw(LENGTHS)
    if kind == "yarn":
        told["truncate"] = draw(st.booleans())
    if kind == "longrope":
        pairs = (dim if width is None else width) // 2
        numbers = st.lists(st.floats(0.5, 60), min_size=pairs, max_size=pairs)
        told |= {key: draw(numbers) for key in ("short_factor", "long_factor")}
    return kind, dim, told


@hp.settings(max_examples=200, deadline=None, derandomize=True)
@hp.given(recipe=recipes())
def test_what_is_dumped_loads_as_it_was(recipe):
    kind, dim, told = recipe
    embedding = pe.PositionalEmbedding(rotary=RECIPES[kind](dim, **told))
    config = dump(embedding)
    assert load(json.loads(json.dumps(config))) == embedding


OTHERS = [
    pe.PositionalEmbedding(rotary=rotary)
    for rotary in (
        pe.ntk_rope(64, factor=3.0),
        pe.proportional_rope(64, fraction=0.3, factor=2.0),
        pe.proportional_rope(64, fraction=0.25, pairing="adjacent"),
        pe.Rotary(
            pe.frequencies.Geometric(64),
            pairing=pe.rotations.Pairing.adjacent_to_halves(192, 64, 128),
        ),
        pe.Rotary(
            pe.frequencies.Geometric(64),
            pairing=pe.rotations.Pairing.halves(192, 64, 128),
        ),
        pe.Rotary(pe.frequencies.Geometric(32), axes=pe.axes.Axial(2)),
        pe.Rotary(
            pe.frequencies.Geometric(32), axes=pe.axes.Axial(2), pairing="adjacent"
        ),
        pe.Rotary(pe.frequencies.Geometric(64), axes=pe.axes.Sections((8, 12, 12))),
        pe.Rotary(
            pe.frequencies.Geometric(32), dim=64, axes=pe.axes.Sections((4, 6, 6))
        ),
        pe.Rotary(
            pe.frequencies.Geometric(64),
            axes=pe.axes.Sections((12, 10, 10), "interleaved"),
        ),
        pe.Rotary(
            pe.frequencies.Geometric(64),
            pairing="adjacent",
            axes=pe.axes.Sections((8, 12, 12), "tail"),
        ),
        pe.rotations.Chain(
            (pe.yarn(64, factor=4.0, original_length=99), pe.Temperature(0.1, 99))
        ),
    )
] + [
    pe.PositionalEmbedding(rotary=pe.rope(64), scale=0.3),
    pe.PositionalEmbedding(bias=pe.ALiBi(12)),
    pe.PositionalEmbedding(encoding=pe.Sinusoidal(64, layout="concatenated")),
    pe.PositionalEmbedding(
        encoding=pe.Sinusoidal(64, layout="tensor2tensor", offset=2)
    ),
]


@pytest.mark.parametrize("embedding", OTHERS, ids=lambda e: dump(e)["model_type"])
def test_other_embeddings_come_back_too(embedding):
    assert load(dump(embedding)) == embedding


def test_what_is_learned_comes_back_in_its_shape():
    key = jax.random.key(0)
    for encoding in (
        pe.Learned(10, 8, key=key),
        pe.Learned(10, 8, offset=2, key=key),
        pe.Learned(10, 8, offset=2, padding_idx=1, key=key),
    ):
        config = dump(pe.PositionalEmbedding(encoding=encoding))
        found = load(config, key=key).encoding
        assert jnp.array_equal(found.weight, encoding.weight)
        assert (found.offset, found.padding_idx) == (
            encoding.offset,
            encoding.padding_idx,
        )
    bias = pe.T5Bias(4, num_buckets=16, max_distance=64, bidirectional=False, key=key)
    config = dump(pe.PositionalEmbedding(bias=bias, scale=1.0))
    found = load(config, layer_type="decoder", key=key)
    assert found.scale == 1 and jnp.array_equal(found.bias.weight, bias.weight)
    assert not found.bias.bidirectional


@pytest.mark.parametrize(
    "embedding",
    [
        pe.PositionalEmbedding(),
        pe.PositionalEmbedding(rotary=pe.NoPE()),
        pe.PositionalEmbedding(rotary=pe.xpos(8)),
        pe.PositionalEmbedding(rotary=pe.rope(8), bias=pe.ALiBi(2)),
        pe.PositionalEmbedding(bias=pe.ALiBi(2, form="symmetric")),
        pe.PositionalEmbedding(encoding=pe.Sinusoidal(8)),
        pe.PositionalEmbedding(
            rotary=pe.Rotary(pe.frequencies.Geometric(8), scale=2.0)
        ),
        pe.PositionalEmbedding(bias=pe.ALiBi(2), scale=3.0),
    ],
    ids=str,
)
def test_what_no_model_has_is_not_dumped(embedding):
    with pytest.raises(ValueError, match=r"`embedding` must"):
        dump(embedding)
