"""The loop over embeddings: it trains, evaluates, stores finished results, and
resumes."""

import argparse
import dataclasses
import os
import platform
import shlex
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from tqdm import tqdm

from .._catalogue import Refused
from . import _report, _text
from ._evaluate import evaluate
from ._interrupt import Interrupt
from ._plot import plot
from ._settings import build, known, MULTIPLES, read, trained_as
from ._train import train, untrained
from ._weights import Weights


def run(options: argparse.Namespace) -> int:
    """Runs `eqx-posemb compare`.

    **Arguments:**

    - `options`: what the command line has parsed.

    **Returns:** the exit code: 0, or 130 after Ctrl-C.

    **Raises:** a `Refused` for what cannot be done as asked.
    """
    settings, names = read(options), known(options.embeddings)
    text = _text.standard_library() if options.text is None else _text.own(options.text)
    _text.check_long_enough(text, length=settings.length, longest=settings.longest)
    folder = _writable(options.out)
    fresh = _nothing_yet(options, settings, text)
    results = _report.read_results(folder) or fresh
    _check_same(results, fresh, folder)
    _sort(results["results"], names)
    # Settings are written before the first training, so that an interrupted run has
    # them.
    _report.write_results(folder, results)
    missing = [name for name in names if name not in results["results"]]
    for name in missing:
        _check_runs(name, settings)
    if len(missing) < len(names):
        _say(f"{len(names) - len(missing)} of {len(names)} are finished in {folder}.")
    try:
        with Interrupt() as interrupt:
            for index, name in enumerate(missing, start=1):
                title = f"{index}/{len(missing)} {name}"
                results["results"][name] = _one(
                    name, title, settings, text, folder, interrupt
                )
                _sort(results["results"], names)
                _report.write_results(folder, results)
    except KeyboardInterrupt:
        _say(
            f"Stopped. {len(results['results'])} finished embeddings are kept in "
            f"{folder}; the same command goes on from there."
        )
        _finish(folder, results)
        return 130
    _finish(folder, results)
    print(_report.table(results))
    _say(f"Written to {folder}: results.json, table.md, plot.png, plot.svg, plot.pdf.")
    return 0


def _sort(finished, names):
    """Puts results in the requested order, and earlier results behind them."""
    for name in [*names, *(name for name in finished if name not in names)]:
        if name in finished:
            finished[name] = finished.pop(name)


def _one(name, title, settings, text, folder, interrupt):
    start = time.monotonic()
    with tqdm(
        total=settings.steps, desc=title, disable=not sys.stderr.isatty()
    ) as bar:  # fmt: skip
        model, curve = _trained(name, settings, text, folder, bar, interrupt)
        trained = time.monotonic()
        bits = {}
        for multiple in MULTIPLES:
            interrupt.check()
            bar.set_postfix_str(f"evaluating at {multiple}×")
            bits[multiple] = evaluate(model, name, settings, text, multiple)
        bar.set_postfix_str(
            f"{bits[1]:.3f} bits/byte" if _number(bits[1]) else "failed"
        )
    end = time.monotonic()
    if not sys.stderr.isatty():
        shown = ", ".join(
            f"{m}× {b:.3f}" if _number(b) else f"{m}× not possible"
            for m, b in bits.items()
        )
        _say(f"{title}: {shown} bits per byte; {end - start:.0f} s")
    return {
        "trained_as": trained_as(name),
        "parameters": _count(model),
        "position_parameters": _count(model.embedding),
        "training_loss": curve,
        "bits_per_byte": {str(m): b if _number(b) else None for m, b in bits.items()},
        "not_possible": {str(m): b for m, b in bits.items() if not _number(b)},
        "seconds": {
            "training": round(trained - start, 1),
            "evaluation": round(end - trained, 1),
        },
    }


def _trained(name, settings, text, folder, bar, interrupt):
    """The trained model, from the folder if it is there, and its loss curve."""
    base = trained_as(name)
    model = untrained(build(base, settings), settings)
    weights = Weights(folder / f"weights-{base}.eqx", _identity(settings, text))
    loaded = weights.load(model)
    if loaded is not None:
        return loaded
    recent = deque(maxlen=20)

    def report(loss):
        interrupt.check()
        recent.append(loss)
        bar.set_postfix_str(f"{sum(recent) / len(recent):.3f} bits/byte", refresh=False)
        bar.update()

    model, losses = train(model, settings, text, report)
    curve = _report.thinned(losses)
    weights.save(model, curve)
    return model, curve


def _identity(settings, text):
    """What has to be the same for results to stand in one table."""
    return {
        **dataclasses.asdict(settings),
        "text": text.sha256()[:16],
        **_report.versions(),
    }


def _nothing_yet(options, settings, text):
    return {
        "command": _command(options, settings),
        "identity": _identity(settings, text),
        "settings": {
            **dataclasses.asdict(settings),
            "multiples": list(MULTIPLES),
        },
        "versions": _report.versions(),
        "platform": {
            "system": platform.system(),
            "machine": platform.machine(),
            "cores": os.cpu_count(),
            "device": jax.devices()[0].device_kind,
        },
        "text": {
            "source": text.source,
            "sha256": text.sha256(),
            "training_bytes": len(text.training),
            "held_out_bytes": len(text.held_out),
            "evaluated_bytes": _text.evaluated(
                text, settings.longest, settings.passages
            ),
            "training_files": list(text.training_files),
            "held_out_files": list(text.held_out_files),
        },
        "results": {},
    }


def _command(options, settings):
    words = ["eqx-posemb", "compare"]
    if options.embeddings is not None:
        words += ["--embeddings", *options.embeddings]
    if options.text is not None:
        words += ["--text", *map(_text.shown, options.text)]
    for name in "length", "steps", "seed":
        words += [f"--{name}", str(getattr(settings, name))]
    return shlex.join(words + ["--quick"] * options.quick)


def _check_same(results, fresh, folder):
    before, now = results["identity"], fresh["identity"]
    differing = [
        f"{name} {before.get(name)} and not {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]
    if differing:
        raise Refused(
            f"{str(folder)!r} has results for {', '.join(differing)}. Ask for the same "
            "again, or give another folder by --out."
        )


def _check_runs(name, settings):
    """Finds out before the first training what would fail at the last."""
    base = trained_as(name)
    window = jnp.arange(settings.length)
    try:
        model = untrained(build(base, settings), settings)
        eqx.filter_eval_shape(model, window, window)
    except ValueError as error:
        raise Refused(f"{name} cannot be compared on text: {error}") from error


def _writable(out):
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused(
            f"cannot write to the folder {out!r}: {error.strerror}. Give another "
            "one by --out."
        ) from error
    return folder


def _finish(folder, results):
    if results["results"]:
        _report.write(folder / "table.md", _report.table(results) + "\n")
        for kind, content in plot(results, ("png", "svg", "pdf")).items():
            _report.write(folder / f"plot.{kind}", content)


def _count(tree):
    arrays = jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
    return sum(array.size for array in arrays)


def _number(bits):
    return isinstance(bits, float)


def _say(line):
    print(line, file=sys.stderr, flush=True)
