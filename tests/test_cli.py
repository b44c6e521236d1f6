"""The command line, as a user meets it."""

import json
import re
import subprocess
import sys
import textwrap

import pytest

import eqx_posemb as pe
from eqx_posemb import _catalogue
from eqx_posemb.__main__ import main
from eqx_posemb._formula import plain
from eqx_posemb._registry import VARIANTS


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
    # Not a part of another word, such as "along".
    assert "gaussian_fourier" not in names_in(printed_by(capsys, "list", "long"))
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
    found = names_in(printed_by(capsys, "list", "train", "short"))
    assert "alibi" in found and "kerple" not in found


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
