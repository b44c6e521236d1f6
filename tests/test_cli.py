"""The command line, as a user meets it."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import textwrap

import pytest

import eqx_posemb as pe
from eqx_posemb import _catalogue
from eqx_posemb.__main__ import main
from eqx_posemb._formula import plain
from eqx_posemb._registry import VARIANTS


@pytest.fixture
def refused(capsys):
    """Runs what cannot be done as asked, for its one line and nothing else."""

    def run(*words):
        try:
            code = main(words)
        except SystemExit as exit:
            code = exit.code
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""
        err = printed.err.removeprefix("Reading\n")
        assert err.count("\n") == 1 and err.endswith("\n")
        return err.rstrip("\n")

    return run


def printed_by(capsys, *words):
    assert main(words) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


@pytest.fixture(params=[80, 120])
def columns(request, monkeypatch):
    """The width of the terminal."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    return request.param


def names_in(listed):
    return re.findall(r"^  (\w+)  +\S", listed, re.MULTILINE)


def test_list_has_a_line_for_every_variant_by_place(capsys, columns):
    listed = printed_by(capsys, "list")
    assert names_in(listed) == list(pe.variants())
    heads = [line.split(".")[0] for line in listed.splitlines() if line[:1].isupper()]
    assert heads == ["Encodings", "Rotary embeddings", "Biases", "Scores"]
    assert "\n  kerple             a learned penalty logarithmic in" in listed
    assert max(map(len, listed.splitlines())) <= columns


def test_list_selects_by_place_and_by_word(capsys):
    of_place = names_in(printed_by(capsys, "list", "--place", "score"))
    assert of_place == [row.name for row in VARIANTS if row.place == "score"]
    assert names_in(printed_by(capsys, "list", "Gemma")) == ["proportional_rope"]
    both = names_in(printed_by(capsys, "list", "--place", "bias", "bucket"))
    assert both == ["t5", "t5_grid"]


def test_list_is_there_for_machines(capsys):
    rows = json.loads(printed_by(capsys, "list", "--json"))
    assert [row["name"] for row in rows] == list(pe.variants())
    (fire,) = json.loads(printed_by(capsys, "list", "--json", "fire"))
    assert fire["reference"].startswith("[Functional Interpolation for")
    assert fire | {"reference": ""} == {
        "name": "fire",
        "summary": "a learned function of the distance relative to the position",
        "place": "bias",
        "built_by": "eqx_posemb.FIRE",
        "traits": ["absolute", "causal"],
        "trained": True,
        "tested_against": "formula",
        "reference": "",
    }


def test_a_word_that_no_embedding_has_is_one_line(refused):
    assert refused("list", "sandwhich") == (
        "eqx-posemb list: no embedding has 'sandwhich' in its name, description or "
        "reference. Did you mean 'sandwich'? `eqx-posemb list` shows them all."
    )
    assert "no score has 'rope'" in refused("list", "--place", "score", "rope")


def test_list_finds_the_words_of_a_title(capsys):
    found = printed_by(capsys, "list", "extrapolation")
    assert "alibi" in found and "kerple" in found and "t5" not in found


def test_list_prints_the_page_of_variants(capsys):
    printed = printed_by(capsys, "list", "--markdown")
    assert printed == printed_by(capsys, "list", "--markdown", "page")
    assert printed == _catalogue.markdown_page() + "\n"
    lines = printed.splitlines()
    assert [line for line in lines if line.startswith("## ")] == [
        "## Encodings", "## Rotary embeddings", "## Biases", "## Scores",
    ]  # fmt: skip
    rows = [line for line in lines if line.startswith("| [`")]
    assert [row.split("`")[1] for row in rows] == list(pe.variants())
    assert all(row.count("|") == 5 for row in rows)
    (alibi,) = (row for row in rows if row.startswith("| [`alibi`]"))
    assert alibi == (
        "| [`alibi`][eqx_posemb.ALiBi] | a fixed penalty linear in the distance | "
        "transformers (Bloom, MPT) | "
        "[Train Short, Test Long: Attention with Linear Biases Enables Input Length "
        "Extrapolation](https://arxiv.org/abs/2108.12409) |"
    )


def test_list_prints_the_names_by_place(capsys):
    printed = printed_by(capsys, "list", "--markdown", "names")
    items = re.findall(
        r"^- \*\*(.*?)\*\*: ((?:.*?\n)(?:  .*\n)*)", printed, re.MULTILINE
    )
    names = {title: re.findall("`(.*?)`", names) for title, names in items}
    assert list(names) == ["Encodings", "Rotary embeddings", "Biases", "Scores"]
    assert [n for group in names.values() for n in group] == list(pe.variants())
    assert "alibi" in names["Biases"] and "shaw" in names["Scores"]
    assert max(map(len, printed.splitlines())) <= 88


def test_an_unknown_kind_of_markdown_is_one_line(refused):
    assert "invalid choice: 'tabel'" in refused("list", "--markdown", "tabel")


def test_the_version_is_printed(capsys):
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"eqx-posemb {pe.__version__}\n"


@pytest.mark.parametrize("name", pe.variants())
def test_show_says_what_an_embedding_is(name, capsys, columns):
    (row,) = (row for row in VARIANTS if row.name == name)
    shown = printed_by(capsys, "show", name)
    assert " ".join(shown.split()).startswith(f"{name}: {row.summary} place ")
    for setting in row.source.settings():
        if setting != "key":
            assert re.search(rf"\n    {setting} = .*\n {{8}}\S", shown), setting
    assert row.source.bibtex in shown
    assert "import eqx_posemb as pe" in shown and f"make({name!r}" in shown
    # A terminal has neither LaTeX nor Markdown.
    words = shown.replace(row.source.bibtex, "").replace(row.source.example, "")
    assert not set("\\$") & set(words)
    assert "][" not in shown and "](" not in shown and "```" not in shown
    title, _, address = row.source.reference[1:].partition("](")
    assert f"{title} <{address.split(')')[0]}>" in " ".join(words.split())
    prose = words.replace(textwrap.indent(row.source.example, "    "), "")
    assert max(map(len, prose.splitlines())) <= columns
    # Headings in bold are for the documentation; powers of Python are not in bold.
    assert not re.search(r"\*\*[A-Z]", shown)


def test_show_has_the_settings_of_the_registry_and_the_defaults(capsys):
    lines = printed_by(capsys, "show", "yarn").splitlines()
    assert "    original_length = 2048   (as `make` sets it)" in lines
    assert "    factor = 4.0   (as `make` sets it)" in lines
    assert "    beta_fast = 32.0   (the default)" in lines
    # The docstring refers to `rope` for it.
    assert "        The base. 10,000 in the paper" in "\n".join(lines)
    tupe = printed_by(capsys, "show", "tupe")
    assert "As in `eqx_posemb.TUPE`" not in tupe


def test_show_has_the_traits_with_their_meaning(capsys):
    shown = printed_by(capsys, "show", "fire")
    assert re.search(r"^traits +absolute: logits depend on more than", shown, re.M)
    assert re.search(r"^ +causal: meant for causal attention$", shown, re.MULTILINE)
    assert re.search(r"^ +trained: an optimizer trains its arrays$", shown, re.M)


@pytest.mark.parametrize(
    ("tex", "text"),
    [
        (r"\theta^{-2i/d}", "θ^(-2i/d)"),
        (r"\frac{a + b}{\sqrt{D}} \cdot x_{ij}", "(a + b)/√D · x_ij"),
        (r"r_\text{low} \qquad \bar d", "r_low\t" "d\u0304"),
        (r"\begin{cases} n & n < w \\ w & \text{else} \end{cases}",
         "{ n\t(n < w)\n{ w\t(else)"),
        (r"\big\lfloor \tfrac{p}{L} \big\rfloor", "⌊p/L⌋"),
    ],
)  # fmt: skip
def test_a_formula_is_plain_text(tex, text):
    assert plain(tex) == text


def test_cite_prints_each_entry_once_and_nothing_else(capsys):
    out = printed_by(capsys, "cite", "kerple", "kerple_power", "alibi")
    assert out.startswith("@inproceedings{chi2022kerple,")
    assert out.count("@") == 2 and out.rstrip().endswith("}")
    assert "@inproceedings{press2022train," in out


@pytest.mark.parametrize("command", ["show", "cite"])
def test_an_unknown_name_is_answered_by_what_is_close(command, refused):
    assert refused(command, "sandwhich") == (
        f"eqx-posemb {command}: there is no embedding 'sandwhich'. Did you mean "
        "'sandwich'? `eqx-posemb list` shows them all."
    )


def test_the_pages_of_all_embeddings_need_no_docstrings():
    code = (
        "from eqx_posemb import _catalogue, variants\n"
        "print(_catalogue.markdown_page())\n"
        "print(*(_catalogue.describe(name, 80) for name in variants()))"
    )
    run = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True
    )
    pages = " ".join(_catalogue.describe(name, 80) for name in pe.variants())
    assert run.stdout == f"{_catalogue.markdown_page()}\n{pages}\n"


@pytest.mark.parametrize(
    "words",
    [["--help"], ["list"], ["list", "--json"], ["show", "yarn"], ["cite", "t5"]],
)
def test_a_command_that_only_reads_starts_without_jax(words):
    code = (
        "import sys\n"
        "from eqx_posemb.__main__ import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "finally:\n"
        "    assert not {'jax', 'equinox', 'numpy'} & sys.modules.keys()"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_no_entry_is_printed_if_one_of_the_names_is_unknown(refused):
    assert "there is no embedding 'zzz'. `eqx" in refused("cite", "rope", "zzz")


def test_an_unknown_command_or_option_is_one_line(refused):
    assert "invalid choice: 'compair'" in refused("compair")
    assert "unrecognized arguments: --lenght" in refused("compare", "--lenght=3")
    assert "required" in refused()


def test_a_pipe_that_is_closed_early_leaves_no_traceback():
    command = [sys.executable, "-m", "eqx_posemb", "list"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


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
