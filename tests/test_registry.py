"""The registry is complete, and says what is missing where it is not."""

import ast
import dataclasses
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax.random as jr
import pytest

import eqx_posemb as pe
from eqx_posemb._registry import resolved, VARIANTS
from tests.helpers import NAMES, ROWS, shape_of, SIZES


ROOT = Path(__file__).parent.parent
PUBLIC = {
    name: value
    for space in (pe, pe.abstract, pe.axes, pe.frequencies, pe.rotations)
    for name in dir(space)
    if getattr(value := getattr(space, name), "__module__", "").startswith("eqx_posemb")
}
every_row = pytest.mark.parametrize("name", NAMES)


def test_names_are_unique_and_sorted_into_places():
    assert len(set(NAMES)) == len(NAMES)
    assert {row.place for row in VARIANTS} <= {"encoding", "rotary", "bias", "score"}


@every_row
def test_a_row_is_public_documented_and_cited(name):
    row = ROWS[name]
    assert PUBLIC.get(row.builder) is row.of, f"export {row.builder}"
    source = row.source
    assert "$$" in source.prose, f"{row.builder} has no $$formula$$"
    assert "](https://" in source.reference
    assert re.match(r"@\w+\{\w+,\n", source.bibtex)
    assert source.bibtex.count("{") == source.bibtex.count("}")


@every_row
def test_the_source_of_a_row_is_read_as_python_reads_it(name):
    row = ROWS[name]
    doc = row.of.__doc__ if inspect.isroutine(row.of) else row.of.__init__.__doc__
    assert inspect.cleandoc(row.of.__doc__ or "") == row.source.doc
    assert set(row.source.meanings()) <= set(re.findall("`(.*?)`", doc or ""))
    signature = inspect.signature(row.of).parameters
    settings = row.source.settings()
    assert list(settings) == list(signature)
    for setting, default in settings.items():
        value = signature[setting].default
        if default is None:
            assert value is inspect.Parameter.empty
        elif default == "float('inf')":
            assert value == float("inf")
        else:
            assert value == ast.literal_eval(default), setting


@every_row
def test_a_class_has_the_traits_that_are_read(name):
    row = ROWS[name]
    if inspect.isclass(row.of):
        assert row.of.traits == row.source.traits
    else:
        assert not row.source.traits and not row.source.arrays


def test_a_row_is_in_a_place():
    with pytest.raises(ValueError, match=r"^`path` must begin with a place, but got"):
        dataclasses.replace(VARIANTS[0], path="_frequencies._base.Geometric")


@every_row
def test_a_row_has_a_parity_test(name):
    of = ROWS[name].builder
    assert is_compared(of) or name == "nope", f"add a parity test of pe.{of}"


@functools.cache
def parity_tests() -> str:
    return "\n".join(p.read_text() for p in (ROOT / "tests/parity").glob("*.py"))


def is_compared(name: str) -> bool:
    return re.search(rf"\bpe\.(\w+\.)?{name}\b", parity_tests()) is not None


def made_of_parts(part) -> bool:
    """Sums and the like are published as what they are made into."""
    types = (str(field.type) for field in dataclasses.fields(part))
    return any("AbstractBias" in name for name in types)


def test_every_concrete_part_has_a_row():
    parts = [
        value
        for value in PUBLIC.values()
        if inspect.isclass(value)
        and issubclass(
            value,
            pe.abstract.AbstractEncoding
            | pe.abstract.AbstractBias
            | pe.abstract.AbstractScore,
        )
        and not inspect.isabstract(value)
        and not made_of_parts(value)
    ]
    built = [row.of for row in VARIANTS]
    missing = [part.__name__ for part in parts if part not in built]
    assert not missing, f"add rows for {missing}"


def types_within(part) -> set[type]:
    """The class of a module, and the classes of the modules in its fields."""
    if isinstance(part, tuple | list):
        return set().union(*map(types_within, part))
    if not isinstance(part, eqx.Module):
        return set()
    fields = (getattr(part, field.name) for field in dataclasses.fields(part))
    return {type(part)}.union(*map(types_within, fields))


# Parts of a rotary embedding that no row is made of, and their tests.
WITHOUT_A_ROW = {
    "Assigned": "tests/test_accuracy.py",
    "DyPE": "tests/test_schedules.py",
    "LogShifted": "tests/test_huggingface_model_types.py",
    "Tabulated": "tests/test_rotary.py",
}


def test_every_part_of_a_rotary_embedding_is_in_a_row_or_has_a_test():
    """Rotary embeddings, schedules of frequencies, and assignments of coordinates."""
    in_rows = set().union(*(types_within(shape_of(name)) for name in NAMES))
    kinds = (
        pe.abstract.AbstractRotary
        | pe.frequencies.AbstractFrequencies
        | pe.axes.AbstractAxes
    )
    parts = {
        name
        for name, value in PUBLIC.items()
        if inspect.isclass(value)
        and issubclass(value, kinds)
        and not inspect.isabstract(value)
        and value not in in_rows
    }
    missing = {name for name in parts if not is_compared(name)} - WITHOUT_A_ROW.keys()
    assert not missing, f"add a row, or a parity test, for {sorted(missing)}"
    for name, test in WITHOUT_A_ROW.items():
        assert f".{name}(" in (ROOT / test).read_text()


@every_row
def test_a_part_fills_its_slot_and_no_other(name):
    embedding, row = shape_of(name), ROWS[name]
    filled = {
        slot
        for slot in ("encoding", "rotary", "bias", "score")
        if getattr(embedding, slot) is not None
    }
    assert filled == {row.place}
    assert embedding.scale == resolved(row.scale, SIZES)


def test_settings_reach_the_part():
    made = pe.make(
        "yarn", heads=2, head_dim=8, dim=16, length=64, key=jr.key(0), factor=2.0
    )
    assert made.rotary == pe.yarn(8, factor=2.0, original_length=64)


def test_the_key_makes_the_parameters():
    make = lambda seed: pe.make(
        "t5", heads=2, head_dim=8, dim=16, length=64, key=jr.key(seed)
    )
    assert (make(0).bias.weight == make(0).bias.weight).all()
    assert (make(0).bias.weight != make(1).bias.weight).any()


@every_row
def test_documented_settings_are_those_of_the_signature(name):
    doc = inspect.getdoc(ROWS[name].of) or ""
    if inspect.isclass(ROWS[name].of):
        doc = inspect.getdoc(ROWS[name].of.__init__) or ""
    for setting in ROWS[name].source.settings():
        assert f"`{setting}`" in doc, f"{ROWS[name].builder}: `{setting}`"


NEEDS = {
    "nope": set(),
    "rope": {"head_dim"},
    "yarn": {"head_dim", "length"},
    "rerope": {"head_dim", "length"},
    "mixed_rope": {"heads", "head_dim", "key"},
    "sinusoidal": {"dim"},
    "alibi": {"heads"},
    "t5": {"heads", "dim", "key"},
    "kerple": {"heads", "key"},
    "swin": {"heads", "length", "key"},
    "deberta": {"heads", "head_dim", "dim", "length", "key"},
    "inkling": {"heads", "head_dim", "dim", "length", "key"},
}


@pytest.mark.parametrize("name", NEEDS)
def test_make_needs_the_sizes_that_the_embedding_uses(name):
    every = {**SIZES, "key": jr.key(7)}
    given = {size: value for size, value in every.items() if size in NEEDS[name]}
    made = eqx.filter_eval_shape(pe.make, name, **given)
    assert eqx.tree_equal(made, shape_of(name))
    names = ", ".join(f"`{size}`" for size in every if size in NEEDS[name])
    for size in NEEDS[name]:
        rest = {other: value for other, value in given.items() if other != size}
        text = f"^`make\\('{name}'\\)` must have {names}, but got no `{size}`.$"
        with pytest.raises(ValueError, match=text):
            pe.make(name, **rest)


def test_make_lists_all_sizes_that_are_missing():
    text = "but got no `heads` and no `dim` and no `key`"
    with pytest.raises(ValueError, match=text):
        pe.make("t5", length=64)


def test_a_setting_replaces_the_size_that_it_comes_from():
    made = pe.make("yarn", head_dim=8, original_length=64, factor=2.0)
    assert made.rotary == pe.yarn(8, factor=2.0, original_length=64)


def test_the_package_starts_without_jax_and_has_all_names():
    code = (
        "import sys, eqx_posemb\n"
        "assert 'jax' not in sys.modules\n"
        "from eqx_posemb import *\n"
        "assert rope(8).dim == frequencies.Geometric(8).dim == 8\n"
        "assert {'rope', 'frequencies', 'functional'} <= set(dir(eqx_posemb))\n"
        "assert 'Any' not in dir(eqx_posemb)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
