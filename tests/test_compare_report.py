"""What a comparison prints and draws."""

import dataclasses
import signal

import numpy as np
import pytest

import eqx_posemb as pe


pytest.importorskip("matplotlib")
pytest.importorskip("optax")

from eqx_posemb._compare import _report, _tasks
from eqx_posemb._compare._entries import EMBEDDINGS
from eqx_posemb._compare._interrupt import Interrupt
from eqx_posemb._compare._progress import Progress
from eqx_posemb._compare._settings import Settings
from eqx_posemb.plot import _extrapolation, extrapolation
from tests.test_compare import TINY


def test_a_thinned_curve_has_the_means_of_stretches_of_steps():
    losses = [[1.0, 1.0], [2.0, 4.0], [5.0, 5.0], [7.0, 7.0], [float("nan"), 1.0]]
    curve = _report.thinned(losses, points=3)
    assert curve == {"step": [2, 4, 5], "bits": [2.0, 6.0, None]}
    assert _report.thinned([[1.0]], points=3) == {"step": [1], "bits": [1.0]}


def result(text, recall=None, hardly_learnt=()):
    scores = {"text": dict(zip("124", text, strict=True))}
    if recall is not None:
        scores["recall"] = dict(zip("124", recall, strict=True))
    return {
        "scores": scores,
        "hardly_learnt": list(hardly_learnt),
        "settings": {},
        "source": "",
    }


RESULTS = {
    "settings": {
        **dataclasses.asdict(TINY), "length": 128, "multiples": [1, 2, 4], "seeds": 2
    },
    "platform": {"dtype": "float32"},
    "tasks": {
        "text": {
            "measure": "bits per byte", "length": 128, "threshold": 4.2, "about": "T.",
        },
        "recall": {
            "measure": "accuracy", "length": 32, "threshold": 1.0, "about": "R.",
        },
    },
    "results": {
        "learned": result([[2.5, 2.7], None, None]),
        "rope": result(
            [[2.0, 2.0], [3.0, 3.2], [11.5, 11.5]],
            [[100.0, 100.0], [90.0, 80.0], [0.0, 1.0]],
            ["text"],
        ),
        "al,ibi": result([[2.1, 2.1], [2.0, 2.0], [1.9996, 1.9996]]),
    },
}  # fmt: skip


def test_the_table_has_means_with_deviations_marks_and_what_is_not_possible():
    assert _report.table(RESULTS).split("\n")[:7] == [
        "**text**: bits per byte, lower is better",
        "",
        "| embedding   |       1× (128) |       2× (256) |        4× (512) |".replace(
            "        4×", "       4×"
        ),
        "| ----------- | -------------: | -------------: | -------------: |",
        "| learned     |  2.600 ± 0.141 |   not possible |   not possible |",
        "| rope *      |  2.000 ± 0.000 |  3.100 ± 0.141 | 11.500 ± 0.000 |",
        "| al,ibi      |  2.100 ± 0.000 |  2.000 ± 0.000 |  2.000 ± 0.000 |",
    ]


def test_the_settings_stand_under_the_table():
    words = _report.table(RESULTS)
    assert "\\* This model has hardly learnt: a mean loss" in words
    assert "above 4.2 bits for text." in words
    assert "10 times that for the parameters of an embedding, seeds 0 to 1" in words


def test_a_line_of_csv_is_one_number():
    lines = _report.as_csv(RESULTS).splitlines()
    assert 'text,bits per byte,"rope",2,256,1,3.2' in lines
    assert 'recall,accuracy,"rope",4,128,0,0.0' in lines
    assert 'text,bits per byte,"al,ibi",1,128,0,2.1' in lines
    assert len(lines) == 1 + 2 + 6 + 6 + 6


def test_the_figure_has_a_panel_for_each_task_and_a_band_for_each_deviation():
    text, recall = extrapolation(RESULTS).axes
    drawn = [np.asarray(line.get_xdata()).tolist() for line in text.lines]
    assert [128] in drawn and drawn.count([128, 256, 512]) == 2
    assert [32, 64, 128] in [np.asarray(x.get_xdata()).tolist() for x in recall.lines]
    assert len(text.collections) == 2 and len(recall.collections) == 1
    assert text.get_ylim()[1] < 9
    words = [label.get_text() for label in text.texts]
    assert "al,ibi" in words and "rope (11.5)" in words
    assert any(word.startswith("learned") for word in words)


def test_the_figure_is_written_in_the_formats_that_papers_take(tmp_path):
    found = pe.Comparison(RESULTS, {})
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    for kind, start in starts.items():
        path = tmp_path / f"figure.{kind}"
        found.plot(path)
        written = path.read_bytes()
        assert written.startswith(start)
        # Equal results give equal files.
        found.plot(path)
        assert path.read_bytes() == written


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


def test_the_time_left_is_in_proportion_to_the_costs(monkeypatch):
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress(quiet=True)
    progress.expect([3.0, 1.0, 2.0, 1.0])
    assert progress.seconds_left() is None
    now += 30
    # Half of the first part took 30 s, so one unit takes 20 s.
    assert progress.seconds_left(0.5) == pytest.approx(20 * (1.5 + 1 + 2 + 1))
    now += 30
    progress.done()
    assert progress.seconds_left() == pytest.approx(20 * (1 + 2 + 1))
    progress.done(loaded=True)
    assert progress.seconds_left(0.5) == pytest.approx(60 / 4 * 2)


def test_a_token_costs_the_products_of_its_blocks_and_attention():
    small = Settings(tasks=("recall",), dim=8, depth=2, length=64, heads=2)
    (recall,) = _tasks.tasks(small, None)
    weights = 2 * (3 + 1 + 4 + 4) * 8 * 8 + 8 * recall.vocabulary
    assert recall.cost(small) == weights + 2 * 2 * 16 * 8


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
