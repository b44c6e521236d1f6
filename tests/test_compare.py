"""The experiment behind `eqx-posemb compare`, piece by piece."""

import dataclasses
import signal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import eqx_posemb as pe
from eqx_posemb._catalogue import Refused
from eqx_posemb._registry import VARIANTS


pytest.importorskip("matplotlib")
pytest.importorskip("optax")
pytest.importorskip("tqdm")

from eqx_posemb._compare import _plot, _report, _text, _train
from eqx_posemb._compare._evaluate import evaluate, windows
from eqx_posemb._compare._interrupt import Interrupt
from eqx_posemb._compare._model import bits_per_byte
from eqx_posemb._compare._settings import (
    build,
    EMBEDDINGS,
    extended,
    known,
    MULTIPLES,
    Settings,
)
from eqx_posemb._compare._weights import Weights
from eqx_posemb.plot import _extrapolation, extrapolation


TINY = Settings(length=8, steps=3, batch=2, dim=16, heads=2, depth=2, passages=2)
TRAINED = [name for name in EMBEDDINGS if "+" not in name]


def tiny(name, **changes):
    settings = dataclasses.replace(TINY, **changes)
    return _train.untrained(build(name, settings), settings)


@pytest.fixture(scope="module")
def text():
    content = np.random.default_rng(0).integers(256, size=2000, dtype=np.uint8)
    return _text.Text(content[:1500], content[1500:], "noise", ("a",), ("b",))


@pytest.mark.parametrize("name", TRAINED)
def test_permuting_tokens_with_their_positions_permutes_the_logits(name):
    model = eqx.filter_jit(tiny(name))
    content, positions = jr.randint(jr.key(0), (8,), 0, 256), jnp.arange(8)
    order = jnp.array([5, 2, 7, 0, 1, 6, 3, 4])
    logits = model(content, positions)
    permuted = model(content[order], positions[order])
    # Two blocks of sums over 16 and 64 channels, in another order.
    np.testing.assert_allclose(permuted, logits[order], atol=2e-5)
    unmoved = model(content[order], positions)
    assert jnp.max(jnp.abs(unmoved - logits[order])) > 0.05


def test_no_logit_depends_on_a_byte_that_comes_later():
    model = eqx.filter_jit(tiny("rope"))
    content = jr.randint(jr.key(0), (8,), 0, 256)
    other = content.at[5].set((content[5] + 1) % 256)
    a, b = (model(x, jnp.arange(8)) for x in (content, other))
    np.testing.assert_array_equal(a[:5], b[:5])
    assert jnp.max(jnp.abs(a[5:] - b[5:]), axis=1).min() > 1e-3


@pytest.mark.parametrize("name", TRAINED)
def test_the_first_weights_are_the_same_around_every_embedding(name):
    model, rope = tiny(name), tiny("rope")
    np.testing.assert_array_equal(model.tokens, rope.tokens)
    np.testing.assert_array_equal(model.readout.weight, rope.readout.weight)
    np.testing.assert_array_equal(model.blocks.narrow.weight, rope.blocks.narrow.weight)
    scale = 8**-0.5 if model.embedding.scale is None else model.embedding.scale
    np.testing.assert_allclose(
        scale * model.blocks.query.weight, 8**-0.5 * rope.blocks.query.weight, rtol=1e-6
    )


def test_a_model_that_knows_nothing_pays_eight_bits():
    model = tiny("nope")
    silent = eqx.tree_at(
        lambda model: model.readout.weight, model, jnp.zeros((256, 16))
    )
    content = jr.randint(jr.key(0), (3, 9), 0, 256)
    assert float(bits_per_byte(silent, content)) == pytest.approx(8, rel=1e-6)


def test_every_embedding_is_trained_on_the_same_windows_in_the_same_order(
    text, monkeypatch
):
    seen = []
    batch = _train.batch

    def recording(*args, **kwargs):
        seen.append(batch(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(_train, "batch", recording)
    reported = []
    for name in "nope", "alibi":
        trained, losses = _train.train(tiny(name), TINY, text, reported.append)
        assert len(losses) == TINY.steps
        change = trained.readout.weight - tiny(name).readout.weight
        assert jnp.max(jnp.abs(change)) > 1e-4
    assert len(reported) == 2 * TINY.steps
    np.testing.assert_array_equal(seen[:3], seen[3:])
    assert not np.array_equal(seen[0], seen[1])


def test_the_parameters_of_an_embedding_learn_ten_times_faster(text):
    settings = dataclasses.replace(TINY, steps=1)
    model = tiny("t5")
    trained, _ = _train.train(model, settings, text, lambda loss: None)
    weights = [lambda m: m.embedding.bias.weight, lambda m: m.readout.weight]
    moved = [jnp.max(jnp.abs(w(trained) - w(model))) for w in weights]
    # The first step of Adam is the learning rate, but for its epsilon.
    np.testing.assert_allclose(moved, [0.03, 0.003], rtol=1e-2)


def test_a_batch_is_windows_of_the_training_text(text):
    windows = _text.batch(text, size=5, length=8, seed=3, step=1)
    assert windows.shape == (5, 9)
    content = text.training.tobytes()
    assert all(bytes(window.tolist()) in content for window in windows)
    other = _text.batch(text, size=5, length=8, seed=4, step=1)
    assert not np.array_equal(windows, other)


@pytest.mark.parametrize("multiple", MULTIPLES)
def test_the_predicted_bytes_are_the_same_at_every_length(text, multiple):
    (passage, _) = _text.passages(text, length=128, most=2)
    cut = windows(passage, TINY, multiple)
    assert cut.shape == (16 // multiple, 8 * multiple + 1)
    np.testing.assert_array_equal(cut[:, 1:].reshape(-1), passage[1:])
    np.testing.assert_array_equal(cut[:, 0], passage[:-1][:: 8 * multiple])


def test_passages_are_spread_over_the_held_out_text(text):
    passages = _text.passages(text, length=128, most=2)
    np.testing.assert_array_equal(passages[0], text.held_out[:129])
    np.testing.assert_array_equal(passages[1], text.held_out[-129:])
    assert _text.evaluated(text, 128, 2) == 256
    # 500 bytes have three passages of 128.
    assert _text.passages(text, length=128, most=100).shape == (3, 129)


def test_learned_positions_are_not_evaluated_beyond_their_table(text):
    model = tiny("learned")
    assert isinstance(evaluate(model, "learned", TINY, text, 1), float)
    for multiple in MULTIPLES[1:]:
        reason = evaluate(model, "learned", TINY, text, multiple)
        assert reason == "positions beyond the training length have no row in its table"


@pytest.mark.parametrize(
    ("name", "recipe"),
    [
        ("rope+linear", lambda: pe.linear_rope(8, factor=4.0)),
        ("rope+ntk", lambda: pe.ntk_rope(8, factor=4.0)),
        ("rope+yarn", lambda: pe.yarn(8, factor=4.0, original_length=8)),
    ],
)
def test_an_extension_changes_only_the_rotation_of_a_trained_rope(text, name, recipe):
    model = tiny("rope")
    plain = evaluate(model, "rope", TINY, text, 4)
    at_training_length = evaluate(model, name, TINY, text, 1)
    assert at_training_length == evaluate(model, "rope", TINY, text, 1)
    assert extended(name, TINY, 4) == recipe()
    stretched = eqx.tree_at(lambda model: model.embedding.rotary, model, recipe())
    bits = evaluate(model, name, TINY, text, 4)
    assert bits == evaluate(stretched, "rope", TINY, text, 4)
    assert bits != plain


def test_a_result_that_is_not_finite_is_not_a_number_in_the_table(text):
    broken = eqx.tree_at(
        lambda model: model.readout.weight,
        tiny("nope"),
        jnp.full((256, 16), jnp.nan),
    )
    assert "not a finite number" in str(evaluate(broken, "nope", TINY, text, 1))


@pytest.mark.parametrize("length", [8, 32, 64, 128, 512])
def test_no_distance_falls_into_a_bucket_of_t5_that_was_not_trained(length):
    bias = build("t5", dataclasses.replace(TINY, length=length)).bias
    assert isinstance(bias, pe.T5Bias)
    trained = set(bias.buckets(-jnp.arange(length)).tolist())
    assert set(bias.buckets(-jnp.arange(16 * length)).tolist()) == trained
    assert len(trained) > length // 8 or length > 128


def test_names_may_be_separated_by_commas_and_are_not_repeated():
    assert known(["rope,alibi", "rope", "rope+yarn"]) == ("rope", "alibi", "rope+yarn")
    assert known(None) == EMBEDDINGS
    # Text has one number for a position, and no grid.
    of_text = [row.name for row in VARIANTS if row.axes == 1]
    assert known(of_text) == tuple(of_text)
    with pytest.raises(
        Refused, match=r"no embedding 'rope\+yam'. Did you mean 'rope\+ya"
    ):
        known(["rope+yam"])


def test_the_standard_library_is_split_by_files():
    text = _text.standard_library()
    files = sorted([*text.training_files, *text.held_out_files])
    assert list(text.held_out_files) == files[9::10]
    assert set(text.training_files).isdisjoint(text.held_out_files)
    assert "argparse.py" in files and "json/decoder.py" in files
    parts = {part for file in files for part in file.split("/")}
    assert parts.isdisjoint({"site-packages", "test", "tests", "idlelib"})
    assert len(text.training) > 3_000_000 and len(text.held_out) > 300_000
    assert text.sha256() == _text.standard_library().sha256()


def test_the_last_tenth_of_each_own_file_is_held_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_bytes(b"0123456789" * 2)
    (tmp_path / "b").write_bytes(b"abcdefghij")
    text = _text.own(["a", str(tmp_path / "b")])
    assert text.training.tobytes() == b"012345678901234567abcdefghi"
    assert text.held_out.tobytes() == b"89j"
    # No paths of the machine.
    assert text.training_files == ("a", "b")
    assert text.sha256() != _text.own(["b", "a"]).sha256()


def test_a_thinned_curve_has_the_means_of_stretches_of_steps():
    curve = _report.thinned([1.0, 3.0, 5.0, 7.0, float("nan")], points=3)
    assert curve == {"step": [2, 4, 5], "bits_per_byte": [2.0, 6.0, None]}
    assert _report.thinned([1.0], points=3) == {"step": [1], "bits_per_byte": [1.0]}


RESULTS = {
    "settings": {"length": 128, "multiples": [1, 2, 4, 8, 16]},
    "results": {
        "learned": {"bits_per_byte": {"1": 2.5} | dict.fromkeys(["2", "4", "8", "16"])},
        "rope": {"bits_per_byte": {"1": 2.0, "2": 3.0, "4": 4.0, "8": 5.0, "16": 11.5}},
        "alibi": {"bits_per_byte": {"1": 2.1, "2": 2, "4": 2, "8": 2, "16": 1.9996}},
    },
}


def test_the_table_says_what_is_not_possible():
    assert _report.table(RESULTS).split("\n") == [
        "| embedding | 1× (128) |     2× (256) |     4× (512) |   8× (1,024) |"
        "  16× (2,048) |",
        "| --------- | -------: | -----------: | -----------: | -----------: |"
        " -----------: |",
        "| learned   |    2.500 | not possible | not possible | not possible |"
        " not possible |",
        "| rope      |    2.000 |        3.000 |        4.000 |        5.000 |"
        "       11.500 |",
        "| alibi     |    2.100 |        2.000 |        2.000 |        2.000 |"
        "        2.000 |",
    ]


def test_the_plot_has_a_curve_for_each_and_says_what_is_out_of_range():
    figure = extrapolation(RESULTS)
    (axes,) = figure.axes
    drawn = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert [128] in drawn and drawn.count([128, 256, 512, 1024, 2048]) == 2
    assert axes.get_ylim()[1] < 9
    words = [label.get_text() for label in axes.texts]
    assert "alibi" in words and "rope (11.5)" in words
    assert any(word.startswith("learned") for word in words)


def test_the_plot_is_written_in_the_formats_that_papers_take():
    files = _plot.plot(RESULTS, ("png", "svg", "pdf"))
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert {
        kind: files[kind].startswith(starts[kind]) for kind in files
    } == dict.fromkeys(starts, True)


def test_styles_of_the_default_embeddings_differ_without_color():
    styles = [
        (_extrapolation._STYLES[n].marker, str(_extrapolation._STYLES[n].line))
        for n in EMBEDDINGS
    ]
    assert len({marker for marker, _ in styles}) == len(EMBEDDINGS)


def test_labels_are_moved_apart_and_kept_in_order():
    places = _extrapolation._apart([1.0, 1.0, 1.0, 1.0], gap=0.25, low=0.0, high=1.0)
    np.testing.assert_allclose(places, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(
        _extrapolation._apart([0.1, 0.9], 0.25, 0.0, 1.0), [0.1, 0.9]
    )


def test_weights_are_of_use_only_to_what_they_were_trained_for(tmp_path):
    weights = Weights(tmp_path / "w.eqx", {"seed": 0})
    model, other = tiny("t5"), tiny("t5", seed=1)
    assert weights.load(other) is None
    curve = {"step": [1], "bits_per_byte": [2.0]}
    weights.save(model, curve)
    loaded = weights.load(other)
    assert loaded is not None and loaded[1] == curve
    assert eqx.tree_equal(loaded[0], model)
    assert Weights(weights.path, {"seed": 1}).load(other) is None
    weights.path.write_bytes(b"not weights\n")
    assert weights.load(other) is None


def test_ctrl_c_is_not_lost_where_exceptions_are():
    class Dying:
        def __del__(self):
            # As in a callback of the garbage collector: what is raised here is lost.
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with Interrupt() as interrupt:
        interrupt.check()
        Dying()
        with pytest.raises(KeyboardInterrupt):
            interrupt.check()
        with pytest.raises(KeyboardInterrupt):  # The second one is raised at once.
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
