"""How modules print: what sets them apart, in few lines."""

import contextlib
import gzip
import json

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import pytest

import eqx_posemb as pe
from benchmarks.hf_compare import part_at, UNNAMED
from eqx_posemb.interop import huggingface
from tests.helpers import build
from tests.parity.references import GOLDEN


CENSUS = json.loads(gzip.decompress((GOLDEN / "hf_census.json.gz").read_bytes()))
FEW = 25
ONES = jnp.ones(3)


def lines(module) -> int:
    return len(repr(module).splitlines())


def on_one_line(module) -> str:
    return eqx.tree_pformat(module, width=1000)


def embeddings(facts):
    """What `load` makes of all layers of all parts of a model."""
    for path in facts["rotary"]:
        part = part_at(facts["config"], path)
        name = None if part.get("model_type") else UNNAMED[path.split(".")[-1]]
        for kind in dict.fromkeys(huggingface.layer_types(part, model_type=name)):
            told = dict(layer_type=kind, model_type=name)
            yield huggingface.load(part, **told, quirks=True)
            # Not all are as they should be without their quirks.
            with contextlib.suppress(ValueError):
                yield huggingface.load(part, **told)


def test_every_embedding_of_transformers_prints_in_few_lines():
    printed = {
        name: max(map(lines, embeddings(facts)))
        for name, facts in CENSUS["model_types"].items()
    }
    assert len(printed) == 382
    assert {name: count for name, count in printed.items() if count > FEW} == {}


@pytest.mark.parametrize("name", pe.variants())
def test_every_variant_prints_in_few_lines(name):
    assert lines(build(name)) <= FEW


Pairing = pe.rotations.Pairing
RULES = {
    "Pairing.halves(8)": Pairing.halves(8),
    "Pairing.halves(12, rotary_dim=4, start=2)": Pairing.halves(12, 4, 2),
    "Pairing.adjacent(12, rotary_dim=8)": Pairing.adjacent(12, 8),
    "Pairing.adjacent_to_halves(192, start=128)": Pairing.adjacent_to_halves(
        192, 64, 128
    ),
    "Pairing.halves_per_block(24, blocks=3)": Pairing.halves_per_block(24, 3),
    "Pairing.halves_per_block(24, blocks=2, rotary_dim=16)": (
        Pairing.halves_per_block(24, 2, 16)
    ),
    "Pairing.halves(8).inverse()": Pairing.halves(8).inverse(),
}


@pytest.mark.parametrize("rule", RULES)
def test_a_pairing_prints_its_rule(rule):
    assert repr(RULES[rule]) == rule
    assert eval(rule, {"Pairing": pe.rotations.Pairing}) == RULES[rule]


@pytest.mark.parametrize(
    "rows",
    [
        ((0, 1, 2), (1, 0, 2), (-1, 1, 1), (0, 0, 1)),
        ((0, 1), (1, 0), (0, 0), (0, 0)),
        ((0, 1), (0, 1), (-1, 1), (0, 0)),
        ((0, 1, 2, 3), (3, 2, 1, 0), (-1, -1, 1, 1), (0, 1, 1, 0)),
    ],
)
def test_a_pairing_without_a_rule_prints_its_rows(rows):
    names = ("source", "partner", "sign", "pair")
    said = ", ".join(f"{name}={row}" for name, row in zip(names, rows, strict=True))
    assert on_one_line(pe.rotations.Pairing(*rows)) == f"Pairing({said})"


def test_many_numbers_are_printed_by_the_first():
    assert repr(pe.frequencies.Listed(range(8, 0, -1))).startswith(
        "Listed(frequencies=(8.0, 7.0,"
    )
    listed = pe.frequencies.Listed(range(9, 0, -1))
    assert repr(listed) == "Listed(frequencies=(9.0, 8.0, 7.0, ... 6 more))"


def test_defaults_are_left_out_and_arrays_are_not():
    assert repr(pe.frequencies.Geometric(8)) == "Geometric(dim=8)"
    assert (
        repr(pe.frequencies.Geometric(8, endpoint=True))
        == "Geometric(dim=8, endpoint=True)"
    )
    embedding = pe.PositionalEmbedding(rotary=pe.rope(8, theta=1e6))
    assert on_one_line(embedding) == (
        "PositionalEmbedding(rotary=Rotary(frequencies=Geometric(dim=8, "
        "theta=1000000.0), dim=8))"
    )
    softmax = pe.ScalableSoftmax(2, weight=0.43)
    assert repr(softmax) == "ScalableSoftmax(weight=weak_f32[2], bias=weak_f32[2])"


def test_a_module_of_the_users_own_prints_alike():
    class Slopes(pe.abstract.AbstractBias):
        weight: jnp.ndarray
        kind: str = eqx.field(static=True, default="far")

        def __call__(self, q_positions, k_positions):
            return self.weight

    kind = Slopes.__qualname__
    made = pe.PositionalEmbedding(bias=Slopes(jr.normal(jr.key(0), (3,))))
    assert on_one_line(made) == f"PositionalEmbedding(bias={kind}(weight=f32[3]))"
    near = Slopes(jnp.ones(3), "near")
    assert on_one_line(near) == f"{kind}(weight=f32[3], kind='near')"

    class Started(pe.abstract.AbstractBias):
        weight: jnp.ndarray

        def __init__(self, weight=ONES):
            self.weight = weight

        def __call__(self, q_positions, k_positions):
            return self.weight

    assert repr(Started()) == f"{Started.__qualname__}(weight=f32[3])"
