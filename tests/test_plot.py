"""The pictures show the numbers, and are fit to be printed."""

import decimal
import itertools
import json
import math
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest


pytest.importorskip("matplotlib")

import matplotlib as mpl
from matplotlib._pylab_helpers import Gcf
from matplotlib.backends.backend_agg import FigureCanvasAgg

import eqx_posemb as pe
from eqx_posemb import plot
from eqx_posemb.__main__ import main
from eqx_posemb.plot._style import STYLES


SIZES = dict(heads=4, head_dim=8, length=32)
LLAMA3 = pe.llama3_rope(32, factor=8.0, original_length=512).frequencies
WAVES = 2 * math.pi * 10_000.0 ** (np.arange(16) / 16)


def made(name):
    return pe.make(name, dim=32, key=jax.random.key(0), **SIZES)


RESULTS = {
    "settings": {"multiples": [1, 2]},
    "tasks": {"text": {"measure": "bits per byte", "length": 8}},
    "results": {
        "rope": {"scores": {"text": {"1": [2.0, 2.2], "2": [3.0, 3.1]}}},
        "learned": {"scores": {"text": {"1": [2.5, 2.5], "2": []}}},
    },
}
FIGURES = {
    "wavelengths": lambda: plot.wavelengths(LLAMA3, context=4096),
    "wavelengths without a stretch": lambda: plot.wavelengths(
        pe.frequencies.Geometric(32), context=1024
    ),
    "schedule": lambda: plot.schedule(LLAMA3, context=4096),
    "schedule by search": lambda: plot.schedule(
        pe.longrope(
            8,
            short_factor=(1.0,) * 4,
            long_factor=(1.0, 3.0, 8.0, 64.0),
            original_length=256,
            factor=8.0,
        ).frequencies,
        context=2048,
    ),
    "decay": lambda: plot.decay(
        {name: made(name) for name in ("rope", "alibi", "shaw")}, **SIZES
    ),
    "bias": lambda: plot.bias(pe.ALiBi(heads=10), shape=(40,), causal=True),
    "bias on a grid": lambda: plot.bias(made("swin").bias, shape=(5, 5)),
    "similarity": lambda: plot.similarity(made("axial_rope"), shape=(6, 9), head_dim=8),
    "similarity in a row": lambda: plot.similarity(made("sinusoidal"), shape=(20,)),
    "similarity of frames": lambda: plot.similarity(
        made("sinusoidal_video"), shape=(3, 4, 5)
    ),
    "extrapolation": lambda: plot.extrapolation(RESULTS),
}


@pytest.fixture(scope="module")
def drawn():
    """All figures, made once, with what they left behind."""
    before = dict(mpl.rcParams)
    figures = {name: draw() for name, draw in FIGURES.items()}
    assert dict(mpl.rcParams) == before
    assert not Gcf.figs
    return figures


def images(figure):
    return [np.ma.filled(a.images[0].get_array(), np.nan) for a in panels(figure)]


def panels(figure):
    return [axes for axes in figure.axes if axes.images and axes.get_title() != ""] or [
        axes for axes in figure.axes if axes.images
    ]


def marked(axes, label):
    (line,) = (line for line in axes.lines if line.get_label() == label)
    return np.asarray(line.get_xdata()), np.asarray(line.get_ydata())


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_and_no_words_lie_on_others(name, drawn):
    figure = drawn[name]
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    width, height = figure.get_size_inches() * figure.dpi
    box = figure.get_tightbbox(renderer).transformed(figure.dpi_scale_trans)
    assert box.x0 >= -1 and box.y0 >= -1
    assert box.x1 <= width + 1 and box.y1 <= height + 1
    for axes in figure.axes:
        words = [text for text in axes.texts if text.get_text()]
        if axes.get_legend() is not None:
            words.append(axes.get_legend())
        boxes = [each.get_window_extent(renderer) for each in words]
        for one, other in itertools.combinations(boxes, 2):
            assert not one.overlaps(other), name


@pytest.mark.parametrize("name", FIGURES)
def test_axes_have_names_with_units(name, drawn):
    figure = drawn[name]
    names = [a.get_xlabel() + a.get_ylabel() for a in figure.axes if a.get_visible()]
    over = [text.get_text() for text in (figure._supxlabel, figure._supylabel) if text]
    assert all(names) or len(over) == 2
    assert any("(" in each or "column" in each for each in [*names, *over])


def test_curves_differ_without_color():
    assert len({style.marker for style in STYLES}) == len(STYLES)
    assert len({str(style.line) for style in STYLES}) >= len(STYLES) - 1


def test_wavelengths_are_those_of_the_formula_in_three_fates(drawn):
    axes = drawn["wavelengths"].axes[0]
    turns = 512 / WAVES
    kept = turns > 4
    divided = turns < 1
    for label, which, factor in ("kept", kept, 1), ("interpolated", divided, 8):
        index, waves = marked(axes, label)
        assert index.tolist() == np.flatnonzero(which).tolist()
        # A float64 power, and a division.
        assert np.allclose(waves, factor * WAVES[which], rtol=1e-12, atol=0)
    assert len(marked(axes, "blended")[0]) == (~kept & ~divided).sum()
    assert np.allclose(marked(axes, "before scaling")[1], WAVES, rtol=1e-12)
    levels = [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    assert [4096, 4096] in levels and [512, 512] in levels


def test_a_scaling_of_the_users_own_is_told_as_any_other():
    class Slowest(pe.frequencies.AbstractScaledFrequencies):
        base: pe.frequencies.AbstractStaticFrequencies
        factor: float = eqx.field(static=True)

        def exact(self):
            kept, last = np.split(self.base.exact(), [-1])
            return np.concatenate([kept, last / decimal.Decimal(self.factor)])

    schedule = Slowest(pe.frequencies.Geometric(8), 4.0)
    axes = plot.wavelengths(schedule, context=4096).axes[0]
    assert marked(axes, "kept")[0].tolist() == [0, 1, 2]
    assert marked(axes, "interpolated")[0].tolist() == [3]
    waves = 2 * math.pi / pe.frequencies.Geometric(8)()
    assert np.allclose(marked(axes, "before scaling")[1], waves, rtol=1e-12)


def test_a_schedule_has_the_ramp_from_one_to_the_factor(drawn):
    left, right = drawn["schedule"].axes
    after = np.asarray(LLAMA3())
    assert np.allclose(marked(left, "after")[1], 2 * math.pi / after, rtol=1e-12)
    slowed = np.asarray(right.lines[0].get_ydata())
    assert slowed[0] == 1 and np.isclose(slowed[-1], 8, rtol=1e-12)
    assert (np.diff(slowed) >= -1e-12).all()


def logits_of_rope(distance):
    frequencies = 10_000.0 ** (-np.arange(4) / 4)
    return 2 * np.cos(np.outer(distance, frequencies)).sum(axis=1) / math.sqrt(8)


def test_far_distances_are_drawn_in_steps():
    figure = plot.decay({"rope": made("rope")}, heads=4, head_dim=8, length=600)
    axes = figure.axes[0]
    places, rope = marked(axes, "rope")
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    start, sizes = 0, []
    for place, mean in zip(places, rope, strict=True):
        # A step of this length has every distance, and its place is their middle.
        step = np.arange(start, 2 * place - start + 1)
        start, sizes = step[-1] + 1, [*sizes, step.size]
        logits = logits_of_rope(step) - logits_of_rope([0])
        edges = band[band[:, 0] == place, 1]
        found, expected = (
            (mean, edges.min(), edges.max()),
            (logits.mean(), logits.min(), logits.max()),
        )
        # Angles up to 600 in the expectation, and ulps of logits of size 3.
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-6)
    assert start == 600 and len(sizes) < 100 and max(sizes) > 20


def test_decay_is_the_mean_over_content(drawn):
    axes = drawn["decay"].axes[0]
    distance, rope = marked(axes, "rope")
    assert distance.tolist() == [*range(SIZES["length"])]
    expected = logits_of_rope(distance)
    # A few ulps of float32 of logits of size 3.
    assert np.allclose(rope, expected - expected[0], rtol=0, atol=3e-6)
    slopes = 2.0 ** -np.array([2, 4, 6, 8])
    alibi = -np.median(np.outer(slopes, distance), axis=0)
    assert np.allclose(marked(axes, "alibi")[1], alibi, rtol=0, atol=3e-6)
    # What a score adds is of the query alone, and its mean zero.
    assert np.allclose(marked(axes, "shaw")[1], 0, rtol=0, atol=3e-6)
    assert axes.get_ylim()[0] >= -13


def test_biases_are_drawn_as_they_are(drawn):
    pictures = images(drawn["bias"])
    slopes = np.asarray(pe.ALiBi(heads=10)(jnp.array([1]), jnp.array([0])))[:, 0, 0]
    rows, columns = np.indices((40, 40))
    chosen = [0, 1, 3, 4, 5, 6, 8, 9]
    titles = [axes.get_title() for axes in panels(drawn["bias"])]
    assert titles == [f"head {head}" for head in chosen]
    for head, picture in zip(chosen, pictures, strict=True):
        seen = columns <= rows
        assert np.isnan(picture[~seen]).all()
        assert np.allclose(picture[seen], (slopes[head] * (rows - columns))[seen])


def test_a_grid_of_biases_is_that_of_the_query_in_the_middle(drawn):
    pictures = images(drawn["bias on a grid"])
    bias = made("swin").bias(jnp.array([[2, 2]]), pe.positions.grid_positions((5, 5)))
    assert np.array_equal(np.stack(pictures).reshape(4, 25), bias[:, 0])


def test_a_position_is_most_like_itself(drawn):
    figure = drawn["similarity"]
    for axes, picture in zip(panels(figure), images(figure), strict=True):
        row, column = eval(axes.get_title().removeprefix("from "))
        cross = axes.lines[0]
        assert (cross.get_xdata()[0], cross.get_ydata()[0]) == (column, row)
        assert np.isclose(picture[row, column], picture.max())
        assert np.isclose(picture.max(), math.sqrt(8))
    frames = np.stack(images(drawn["similarity of frames"]))
    assert np.unravel_index(frames.argmax(), frames.shape) == (1, 2, 2)
    crosses = [len(axes.lines) for axes in panels(drawn["similarity of frames"])]
    assert crosses == [0, 1, 0]
    (picture,) = images(drawn["similarity in a row"])
    assert np.allclose(np.diag(picture), 1) and picture.max() <= 1 + 1e-12


def test_a_curve_ends_where_its_embedding_does(drawn):
    axes = drawn["extrapolation"].axes[0]
    lengths = [np.asarray(line.get_xdata()).tolist() for line in axes.lines]
    assert lengths[:2] == [[8, 16], [8]]


MESSAGES = {
    "`context` must be positive": lambda: plot.wavelengths(LLAMA3, context=0),
    "`frequencies` must be a schedule that is not learned, but got Learned": (
        lambda: plot.schedule(made("mixed_rope").rotary.frequencies, context=9)
    ),
    "`embeddings` must have at least one, but got none": lambda: plot.decay(
        {}, **SIZES
    ),
    "`length` must be at least 2": lambda: plot.decay(
        {"rope": made("rope")}, heads=1, head_dim=8, length=1
    ),
    "must change logits, to be drawn over the distance, but got Sinusoidal": (
        lambda: plot.decay({"sinusoidal": made("sinusoidal")}, **SIZES)
    ),
    "must not read q_state, which only a model has": lambda: plot.decay(
        {"inkling": made("inkling")}, **SIZES
    ),
    "`most` must be at least 1": lambda: plot.bias(
        pe.ALiBi(heads=2), shape=(4,), most=0
    ),
    "`shape` must be one or two sizes, but got \\(2, 2, 2\\)": lambda: plot.bias(
        made("swin").bias, shape=(2, 2, 2)
    ),
}


@pytest.mark.parametrize("message", MESSAGES)
def test_what_cannot_be_drawn_is_an_error(message):
    with pytest.raises(ValueError, match=message):
        MESSAGES[message]()


def files(capsys, folder, *words, code=0):
    assert main(["plot", *words, "--out", str(folder)]) == code
    printed = capsys.readouterr()
    if code:
        return printed.err
    paths = [folder / line.rsplit("/")[-1] for line in printed.out.splitlines()]
    assert all(path.stat().st_size > 1000 for path in paths)
    return [path.name for path in paths]


def test_a_name_is_drawn_by_what_it_has(tmp_path, capsys):
    assert files(capsys, tmp_path, "mrope", "--format", "svg") == [
        "mrope-wavelengths.svg",
        "mrope-similarity.svg",
    ]
    assert files(capsys, tmp_path, "sinusoidal") == ["sinusoidal-similarity.png"]
    assert files(capsys, tmp_path, "tupe", "--length", "16") == [
        "tupe-bias.png", "tupe-decay.png",
    ]  # fmt: skip


def test_a_configuration_is_drawn_by_kind_of_layer(tmp_path, capsys):
    path = tmp_path / "config.json"
    config = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4}
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16}
    config |= {"max_position_embeddings": 64, "num_hidden_layers": 2}
    path.write_text(json.dumps({**config, "rope_scaling": yarn}))
    kinds = ["wavelengths", "schedule", "decay"]
    assert files(capsys, tmp_path, str(path)) == [f"config-{k}.png" for k in kinds]
    both = ["full_attention", "sliding_attention"]
    path.write_text(
        json.dumps({**config, "model_type": "gemma3_text", "layer_types": both})
    )
    words = str(path), "--layer-type"
    assert files(capsys, tmp_path, *words, both[1]) == [
        "config-wavelengths.png", "config-decay.png",
    ]  # fmt: skip
    assert files(capsys, tmp_path, *words, "full", code=2).endswith(
        "has no layers of the type 'full' with attention: it has full_attention, "
        "sliding_attention.\n"
    )
    grid = {"model_type": "vit", "image_size": 64, "hidden_size": 8}
    path.write_text(json.dumps(grid))
    assert files(capsys, tmp_path, str(path)) == ["config-similarity.png"]
    path.write_text(json.dumps({"model_type": "lama"}))
    assert "such as llama" in files(capsys, tmp_path, str(path), code=2)


def test_results_are_drawn_as_curves(tmp_path, capsys):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(RESULTS))
    assert files(capsys, tmp_path, str(path)) == ["results-extrapolation.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sandwhich"], "there is no embedding 'sandwhich'. Did you mean 'sandwich'?"),
        (["learned_box"], "there is no picture of 'learned_box': its positions have m"),
        (["rope", "--layer-type", "a"], "--part, --model-type and --layer-type choose"),
        (["rope", "--length", "1"], "--length must be at least 2, but got 1."),
        (["missing.json"], "`config` must be a path to a config.json or its folder"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(words, message, tmp_path, capsys):
    text = files(capsys, tmp_path, *words, code=2)
    assert text.startswith(f"eqx-posemb plot: {message}") and text.count("\n") == 1


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").touch()
    text = files(capsys, tmp_path / "file" / "folder", "rope", code=2)
    assert "cannot write to the folder" in text and "another one by --out." in text


def test_a_missing_package_is_named_with_its_cure(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert files(capsys, tmp_path, "rope", code=2) == (
        "eqx-posemb plot: a picture needs the package matplotlib, which is not "
        'installed: pip install "eqx-posemb[plot]".\n'
    )


def test_several_names_are_one_picture(tmp_path, capsys):
    words = ["plot", "alibi", "kerple", "--out", str(tmp_path), "--format", "svg"]
    assert main(words) == 0
    (path,) = tmp_path.iterdir()
    assert path.name == "alibi-kerple-decay.svg"
    assert str(path) in capsys.readouterr().out


def test_a_name_without_a_curve_is_refused_among_several(capsys):
    assert main(["plot", "alibi", "swin"]) != 0
    assert "'swin' has no curve over the distance" in capsys.readouterr().err
