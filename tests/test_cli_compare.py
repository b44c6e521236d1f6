"""Comparisons on the command line, as a user meets them."""

import dataclasses
import json
import signal
import sys

import pytest

import eqx_posemb as pe
from eqx_posemb.__main__ import main


compare = pytest.importorskip("eqx_posemb._compare._run")
settings = pytest.importorskip("eqx_posemb._compare._settings")

NAMES = ("learned", "rope", "rope+yarn", "t5")
TINY = dict(
    length=8, multiples=(1, 2, 16), steps=4, batch=2, dim=16, heads=2, depth=1,
    passages=2,
)  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def tiny():
    with pytest.MonkeyPatch.context() as patch:
        quick = dataclasses.replace(settings.QUICK, **TINY)
        patch.setattr(settings, "QUICK", quick)
        yield


@pytest.fixture
def own(tmp_path):
    file = tmp_path / "own.txt"
    file.write_bytes(b"it was the best of times, it was the worst of times; " * 60)
    return str(file)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A comparison that ran to its end, and what it left behind."""
    folder = tmp_path_factory.mktemp("compare")
    words = ["--quick", "--embeddings", *NAMES, "--out", str(folder)]
    assert main(["compare", *words]) == 0
    return folder


def results_in(folder):
    return json.loads((folder / "results.json").read_text("utf-8"))


def bits_in(folder):
    return {
        name: result["scores"]["text"]
        for name, result in results_in(folder)["results"].items()
        if result["scores"]
    }


def test_a_comparison_leaves_everything_behind(finished):
    kinds = {path.name for path in finished.iterdir()}
    assert kinds == {
        "results.json", "results.csv", "table.md", "plot.png", "plot.svg", "plot.pdf",
        "weights-text-learned.eqx", "weights-text-rope.eqx", "weights-text-t5.eqx",
    }  # fmt: skip
    lines = (finished / "table.md").read_text("utf-8").splitlines()
    assert [line.split()[1] for line in lines[4:8]] == list(NAMES)
    # Four steps teach nothing.
    assert "\\* This model has hardly learnt" in lines[9]
    assert lines[11].startswith("Model: dim 16, 2 heads, depth 1, float32. Training: 4")
    assert (
        "- t5: std=0.25, bidirectional=False, num_buckets=8, max_distance=5 (Raffel et "
        "al. (2020), Section 2.1: 32 buckets, the last one from a distance of 128, for "
        "a length of 512)"
    ) in lines


def test_the_results_say_how_to_repeat_them(finished):
    results = results_in(finished)
    assert results["command"] == (
        "eqx-posemb compare --embeddings learned rope rope+yarn t5 --quick"
    )
    assert results["settings"] == {
        **TINY, "tasks": ["text"], "seed": 0, "seeds": 1, "learning_rate": 0.003,
        "position_rate": 10.0, "multiples": [1, 2, 16],
    }  # fmt: skip
    assert {"python", "jax", "equinox", "optax", "eqx-posemb"} <= set(
        results["versions"]
    )
    text = results["text"]
    assert text["evaluated_bytes"] == 2 * 16 * 8
    assert len(text["sha256"]) == 64
    assert "argparse.py" in text["training_files"] + text["held_out_files"]
    everything = (finished / "results.json").read_text("utf-8")
    assert str(finished) not in everything and sys.prefix not in everything


def test_the_results_have_numbers_for_every_length(finished):
    results = results_in(finished)["results"]
    assert list(results) == list(NAMES)
    for name in "rope", "rope+yarn", "t5":
        bits = results[name]["scores"]["text"]
        assert list(bits) == ["1", "2", "16"]
        # Four steps do not teach much: around eight bits, and not zero, and not nats.
        assert all(6 < value < 12 for values in bits.values() for value in values)
        assert results[name]["not_possible"] == {"text": {}}
        assert len(results[name]["training_loss"]["text"]["bits"]) == TINY["steps"]
    assert results["t5"]["position_parameters"] == 8 * 2
    assert results["rope"]["position_parameters"] == 0
    assert results["learned"]["parameters"] - results["rope"]["parameters"] == 8 * 16


def test_learned_positions_are_reported_as_not_possible(finished):
    learned = results_in(finished)["results"]["learned"]
    bits, reasons = learned["scores"]["text"], learned["not_possible"]["text"]
    assert bits["1"][0] > 0 and bits["2"] is bits["16"] is None
    assert list(reasons) == ["2", "16"]
    assert "no row in its table" in reasons["2"]
    table = (finished / "table.md").read_text("utf-8").splitlines()
    assert table[4].count("not possible") == 2


def test_an_extension_is_the_trained_rope_and_not_another_one(finished):
    results = results_in(finished)["results"]
    rope, yarn = results["rope"], results["rope+yarn"]
    assert yarn["trained_as"] == "rope"
    assert yarn["training_loss"] == rope["training_loss"]
    bits, plain = yarn["scores"]["text"], rope["scores"]["text"]
    assert bits["1"] == plain["1"] and bits["16"] != plain["16"]


def test_what_is_finished_is_not_done_again(finished, capsys, monkeypatch):
    monkeypatch.setattr(compare.Run, "_one", lambda *_: pytest.fail("done again"))
    before = results_in(finished)
    words = ["--quick", "--embeddings", *NAMES, "--out", str(finished)]
    assert main(["compare", *words]) == 0
    printed = capsys.readouterr()
    assert f"4 of 4 are finished in {finished}." in printed.err
    table = (finished / "table.md").read_text("utf-8")
    assert printed.out.split() == table.split()
    assert results_in(finished) == before


def test_the_current_step_and_each_row_are_printed_when_they_are_known(
    tmp_path, own, capsys
):
    words = ["--quick", "--embeddings", "rope,rope+ntk", "--text", own]
    assert main(["compare", *words, "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    steps = [line.split(" · ")[0] for line in printed.err.splitlines()]
    tests = [f"testing at {length}" for length in (8, 16, 128)]
    assert steps == [
        "Reading",
        "text, rope: compiling 1 of 1",
        "text, rope: training 1 of 1",
        *(f"text, rope: {test}" for test in tests),
        *(f"text, rope+ntk: {test}" for test in tests),
        f"Written to {tmp_path / 'out'}: results.json, results.csv, table.md, "
        "plot.png, plot.svg, plot.pdf.",
    ]  # fmt: skip
    assert " left" in printed.err
    assert printed.out.splitlines()[5].startswith("| rope+ntk * ")


def test_an_embedding_that_changed_is_done_again(capsys, tmp_path, own):
    call = dict(
        text=own, tasks=["text"], quick=True, steps=1, multiples=[1], out=tmp_path
    )
    first = pe.compare({"mine": pe.ALiBi(heads=2)}, **call)
    second = pe.compare({"mine": pe.ALiBi(heads=2, form="symmetric")}, **call)
    assert "mine has changed, and is done again." in capsys.readouterr().err
    kept = [found.results["results"]["mine"] for found in (first, second)]
    assert kept[0]["fingerprint"] != kept[1]["fingerprint"]
    # A causal model does not see the difference.
    assert kept[0]["scores"] == kept[1]["scores"]
    assert second.model("mine").embedding.bias.form == "symmetric"
    with pytest.raises(ValueError, match=r"of a trained model, mine \(text\), but got"):
        second.model("rope")


def test_an_interrupted_comparison_goes_on_where_it_was(
    finished, tmp_path, capsys, monkeypatch
):
    words = ["compare", "--quick", "--embeddings", *NAMES, "--out", str(tmp_path)]
    run = compare.Training.run

    def interrupted(training, state, after):
        if state.model.embedding.bias is not None:
            signal.raise_signal(signal.SIGINT)
        return run(training, state, after)

    with monkeypatch.context() as patch:
        patch.setattr(compare.Training, "run", interrupted)
        assert main(words) == 130
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"Stopped. What is finished is kept in {tmp_path}; the same command goes on "
        "from there."
    )
    assert list(bits_in(tmp_path)) == ["learned", "rope", "rope+yarn"]
    assert (tmp_path / "table.md").exists() and (tmp_path / "plot.png").exists()
    steps = []
    monkeypatch.setattr(
        compare.Training,
        "run",
        lambda *a: steps.append(len(a[1].losses)) or run(*a),
    )
    assert main(words) == 0
    # It goes on from the steps that were done.
    assert steps == [1]
    # To the last bit: seed and data are those of a run without interruption.
    assert bits_in(tmp_path) == bits_in(finished)


def test_other_settings_in_the_same_folder_are_refused(finished, refused):
    words = ["compare", "--quick", "--seed", "7", "--out", str(finished)]
    assert refused(*words) == (
        f"eqx-posemb compare: {str(finished)!r} has results for seed 0 and not 7. Ask "
        "for the same again, or give another folder by --out."
    )


def test_another_text_in_the_same_folder_is_refused(finished, own, refused):
    words = ["compare", "--quick", "--text", own, "--out", str(finished)]
    assert "has results for text " in refused(*words)


def test_a_missing_text_is_one_line(tmp_path, refused):
    missing = str(tmp_path / "missing.txt")
    assert refused("compare", "--text", missing) == (
        f"eqx-posemb compare: cannot read the text {missing!r}: No such file or "
        "directory."
    )
    assert "Is a directory" in refused("compare", "--text", str(tmp_path))


def test_an_empty_text_is_one_line(tmp_path, refused):
    (tmp_path / "empty").touch()
    assert refused("compare", "--text", str(tmp_path / "empty")) == (
        "eqx-posemb compare: the text is empty. Give some by --text."
    )


def test_a_text_that_fills_no_window_is_one_line(own, refused):
    assert refused("compare", "--text", own) == (
        "eqx-posemb compare: the text is too short: evaluation needs more than 2,048 "
        "bytes held out, and there are 318 (a tenth). Give more text by --text, or a "
        "smaller --length."
    )


def test_an_embedding_of_grids_is_one_line(refused):
    assert refused("compare", "--embeddings", "learned_grid") == (
        "eqx-posemb compare: 'learned_grid' takes positions of several numbers, and "
        "text has one each."
    )


def test_an_unknown_embedding_is_one_line(refused):
    assert refused("compare", "--embeddings", "rope", "sandwhich") == (
        "eqx-posemb compare: there is no embedding 'sandwhich'. Did you mean "
        "'sandwich'? `eqx-posemb list` shows them all."
    )


def test_a_folder_that_cannot_be_written_is_one_line(own, refused):
    # Root may write anywhere but into a file.
    inside = f"{own}/folder"
    assert refused("compare", "--out", inside) == (
        f"eqx-posemb compare: cannot write to the folder {inside!r}: Not a directory. "
        "Give another one by --out."
    )


def test_a_folder_with_results_of_something_else_is_one_line(tmp_path, refused):
    (tmp_path / "results.json").write_text("[]")
    assert "cannot be read as results of a comparison. Give another folder by" in (
        refused("compare", "--out", str(tmp_path))
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--length", "7"), "--length must be at least 8, but got 7."),
        (("--steps", "0"), "--steps must be at least 1, but got 0."),
        (("--seed", "-1"), "--seed must be at least 0, but got -1."),
        (("--dim", "9"), "--dim must be a multiple of --heads, 4, but got 9."),
        (
            ("--position-rate", "0"),
            "--position-rate must be positive, but got 0.0.",
        ),
        (
            ("--seed", "4294967296"),
            "--seed must be less than 2**32, but got 4294967296.",
        ),
    ],
)
def test_a_number_out_of_range_is_one_line(words, message, refused):
    assert refused("compare", *words) == f"eqx-posemb compare: {message}"


def test_a_package_that_is_missing_is_named_with_its_cure(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "optax", None)
    assert refused("compare") == (
        "eqx-posemb compare: the comparison needs the package optax, which is not "
        'installed: pip install "eqx-posemb[compare]".'
    )
