"""What is compared: names, settings and texts."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

import eqx_posemb as pe
from eqx_posemb._catalogue import Refused
from eqx_posemb._registry import VARIANTS


pytest.importorskip("matplotlib")
pytest.importorskip("optax")

from eqx_posemb._compare import _about, _text
from eqx_posemb._compare._entries import EMBEDDINGS, entries, fingerprint, Sizes
from tests.test_compare import entry, TINY


def test_names_may_be_separated_by_commas_and_are_not_repeated():
    names = [e.name for e in entries(["rope,alibi", "rope", "rope+yarn"])]
    assert names == ["rope", "alibi", "rope+yarn"]
    assert tuple(e.name for e in entries(None)) == EMBEDDINGS
    # Text has one number for a position, and no grid.
    of_text = [row.name for row in VARIANTS if row.axes == 1]
    assert [e.name for e in entries(of_text)] == of_text
    with pytest.raises(
        Refused, match=r"no embedding 'rope\+yam'. Did you mean 'rope\+ya"
    ):
        entries(["rope+yam"])


def test_embeddings_parts_and_functions_are_entries():
    sizes, alibi = Sizes(2, 8, 16, 64), pe.PositionalEmbedding(bias=pe.ALiBi(heads=2))
    found = entries(
        {
            "bundle": alibi,
            "part": pe.ALiBi(heads=2),
            "function": lambda sizes, key: pe.ALiBi(heads=sizes.heads),
            "mine": pe.rope(8),
            "mine+yarn": "mine+yarn",
            "slower": ("mine", lambda embedding, factor: alibi),
        }
    )
    built = [entry.build(sizes, jr.key(0)) for entry in found]
    assert built[0] == built[1] == built[2] == alibi
    assert [entry.base for entry in found[3:]] == ["mine"] * 3
    yarn = found[4].at(built[4], 4, 64)
    assert yarn.rotary == pe.yarn(8, factor=4.0, original_length=64)
    assert found[5].at(built[5], 4, 64) == alibi


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "there is no embedding to compare"),
        ({"a\nb": "rope"}, r"a name must be one line of text, but got 'a\\nb'"),
        ({"a": 3}, "'a' must be a name, an embedding, a function of .* but got int"),
        ({"a": lambda x: x}, r"two arguments, \(sizes, key\), but takes 1"),
        ({"a": ("rope", "zzz")}, r"no embedding 'rope\+zzz'"),
        (
            {"a": "rope+yarn", "b": ("a", "ntk")},
            "'b' must extend a trained embedding, but 'a' is an extension",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(given, message):
    with pytest.raises(Refused, match=message):
        entries(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("alibi+yarn", "an extension needs an embedding with a `Rotary`"),
        ({"a": lambda sizes, key: 3}, "'a' must return an embedding, but got int"),
        ({"a": pe.ALiBi(heads=3)}, "a cannot be compared on text: .*heads"),
    ],
)
def test_what_would_fail_in_training_is_refused_before(given, message):
    with pytest.raises(Refused, match=message):
        _about.of_entry(entry(given), TINY)


def test_a_fingerprint_tells_settings_and_parameters_apart():
    made = [
        pe.make("t5", heads=2, dim=8, key=jr.key(0)),
        pe.make("t5", heads=2, dim=8, key=jr.key(1)),
        pe.make("t5", heads=2, dim=8, key=jr.key(0), max_distance=99),
    ]
    assert len(set(map(fingerprint, made))) == 3
    assert fingerprint(made[0]) == fingerprint(jax.tree.map(jnp.copy, made[0]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (dict(length=7), "`length` must be at least 8, but got 7."),
        (dict(length=63, tasks=("copy",)), "`length` must be at least 64 for tasks"),
        (dict(dim=10, heads=4), "`dim` must be a multiple of `heads`, 4, but got 10."),
        (dict(learning_rate=0.0), "`learning_rate` must be positive, but got 0.0."),
        (dict(multiples=()), "`multiples` must be ascending .* but got none."),
        (dict(multiples=(2, 1)), "`multiples` must be ascending .* but got 2, 1."),
        (dict(multiples=(3, 4)), "`multiples` must divide the largest .* got 3, 4."),
        (dict(tasks=("sums",)), "`tasks` must be some of text, .* but got sums."),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(Refused, match=f"^{message}"):
        dataclasses.replace(TINY, **given)


def test_a_string_in_place_of_a_list_is_refused():
    with pytest.raises(ValueError, match=r"^`tasks` must be a list, but got 'text'"):
        pe.compare(["rope"], tasks="text", progress=False)


def test_text_in_place_of_a_path_is_refused_in_few_words():
    with pytest.raises(ValueError, match=r"\. Give text itself as bytes\.$") as refused:
        pe.compare(["rope"], text="some words " * 10_000, progress=False)
    assert len(str(refused.value)) < 400


def test_the_standard_library_is_split_by_files():
    text = _text.standard_library()
    files = sorted([*text.training_files, *text.held_out_files])
    assert list(text.held_out_files) == files[9::10]
    assert set(text.training_files).isdisjoint(text.held_out_files)
    assert "argparse.py" in files and "json/decoder.py" in files
    parts = {part for file in files for part in file.split("/")}
    assert parts.isdisjoint({"site-packages", "test", "tests", "idlelib"})
    assert len(text.training) > 3_000_000 and len(text.held_out) > 300_000
    assert _text.standard_library() is text


def test_the_last_tenth_of_each_own_file_is_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"0123456789" * 2)
    (tmp_path / "b").write_bytes(b"abcdefghij")
    text = _text.read(["a", str(tmp_path / "b")])
    assert text.training.tobytes() == b"012345678901234567abcdefghi"
    assert text.held_out.tobytes() == b"89j"
    # No paths of the machine.
    assert text.training_files == ("a", "b")
    assert text.sha256 != _text.read(["b", "a"]).sha256
    assert _text.read(b"0123456789").held_out.tobytes() == b"9"
