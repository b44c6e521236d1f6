"""The loop over tasks and embeddings: it trains, tests, stores results, and resumes."""

import hashlib
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._catalogue import Refused
from . import _devices, _report, _text
from ._about import count, fresh, identity, of_entry
from ._comparison import Comparison
from ._entries import entries, Entry
from ._evaluate import Evaluation, hardly_learnt
from ._interrupt import Interrupt
from ._model import Decoder
from ._programs import Programs
from ._progress import Progress
from ._settings import Settings, settings
from ._tasks import Task, tasks
from ._text import Text
from ._train import Training, untrained
from ._weights import Weights


_CHECKPOINT = 30.0  # Seconds between states on disk.


class Run:
    """A comparison while it runs."""

    def __init__(
        self,
        entries: Sequence[Entry],
        settings: Settings,
        tasks: Sequence[Task],
        text: Text | None,
        *,
        folder: Path | None,
        command: str | None,
        progress: Progress,
        show: Callable[[str], None],
    ):
        self._entries, self._settings, self._tasks = entries, settings, tasks
        self._folder, self._progress, self._show = folder, progress, show
        self._identity = identity(settings, text)
        # Extensions are rows of their own, and have the trained model of their base.
        self._bases = list(dict.fromkeys(entry.base for entry in entries))
        self.trained: dict[tuple[str, str], tuple[Decoder, list[list[float]]]] = {}
        self.results = fresh(settings, tasks, text, command, self._identity)
        if folder is not None:
            self._keep(folder)
        self._programs = Programs()
        self._add_entries()

    def all(self) -> None:
        """Trains and tests all that is missing.

        **Raises:** a `KeyboardInterrupt` after Ctrl-C, with finished parts kept.
        """
        missing = [
            (task, entry)
            for task in self._tasks
            for entry in self._entries
            if not self._finished(task, entry)
        ]
        total = len(self._entries) * len(self._tasks)
        if self._folder is not None and len(missing) < total:
            self._progress.say(
                f"{total - len(missing)} of {total} are finished in {self._folder}."
            )
        self._progress.expect(_costs(missing, self._settings))
        # Settings are written before the first training, so that an interrupted run can
        # be resumed.
        self._write()
        with Interrupt() as interrupt:
            try:
                for task in self._tasks:
                    self._of_task(task, interrupt.check)
            finally:
                self._programs.close()

    def _of_task(self, task, check):
        training = Training(self._settings, task, self._programs)
        test = Evaluation(self._settings, task, self._programs)
        self._show(_report.title(self.results, task.name))
        for line in ("", *_report.head(self.results, task.name)):
            self._show(line)
        for entry in self._entries:
            if self._finished(task, entry):
                start = self._start(task, entry, training)
                state = self._weights(task, entry).load(start)
                if state is not None:
                    self.trained[entry.base, task.name] = state.model, state.losses
            else:
                self._one(task, entry, training, test, check)
                self._write()
            self._progress.clear()
            self._show(_report.row(self.results, task.name, entry.name))
        self._show("")

    def _one(self, task, entry, training, test, check):
        result = self.results["results"][entry.name]
        begin = time.monotonic()
        key = entry.base, task.name
        if key not in self.trained:
            self.trained[key] = self._train(task, entry, training, test, check)
        model, losses = self.trained[key]
        middle = time.monotonic()
        scores, reasons = {}, {}
        for index, multiple in enumerate(self._settings.multiples):
            check()
            self._progress.show(
                f"{task.name}, {entry.name}: testing at "
                f"{multiple * task.length(self._settings):,}",
                fraction=index / len(self._settings.multiples),
            )
            found = test.run(model, entry, multiple, check)
            failed = isinstance(found, str)
            scores[str(multiple)] = None if failed else found
            if failed:
                reasons[str(multiple)] = found
        self._progress.done()
        seeds, gate = self._settings.seeds, model.weights.gate
        result["parameters"] = count(model) // seeds
        result["position_parameters"] = count((model.embedding, gate)) // seeds
        if hardly_learnt(losses, task):
            result["hardly_learnt"].append(task.name)
        result["training_loss"][task.name] = _report.thinned(losses)
        result["not_possible"][task.name] = reasons
        result["seconds"][task.name] = {
            "training": round(middle - begin, 1),
            "test": round(time.monotonic() - middle, 1),
        }
        # Scores are stored last, since a stored score marks a finished part.
        result["scores"][task.name] = scores

    def _train(self, task, entry, training, test, check):
        """The trained models and their losses, from the folder if they are there."""
        steps, weights = self._settings.steps, self._weights(task, entry)
        place = f"{self._bases.index(entry.base) + 1} of {len(self._bases)}"
        title = f"{task.name}, {entry.base}: training {place}"
        self._progress.show(f"{task.name}, {entry.base}: compiling {place}")
        start = self._start(task, entry, training)
        loaded = weights.load(start)
        state = start if loaded is None else loaded
        first, saved = len(state.losses), time.monotonic()
        self._ahead(task, entry, state.model, training, test)

        def after(state):
            nonlocal saved
            done = len(state.losses)
            self._progress.show(
                title,
                f"· step {done:,} of {steps:,} · {np.mean(state.losses[-9:]):.3f} bits",
                fraction=(done - first) / (steps - first),
            )
            try:
                check()
            except KeyboardInterrupt:
                # After Ctrl-C the state is saved before the run ends.
                weights.save(state, finished=False)
                raise
            if time.monotonic() - saved > _CHECKPOINT:
                weights.save(state, finished=False)
                saved = time.monotonic()

        if first < steps:
            state = training.run(state, after)
            weights.save(state, finished=True)
        self._progress.done(loaded=loaded is not None)
        return state.model, state.losses

    def _ahead(self, task, entry, model, training, test):
        """Compiles what comes next, while the model is trained."""
        after = self._bases[self._bases.index(entry.base) + 1 :]

        def prepare():
            for other in self._entries:
                if other.base == entry.base:
                    test.prepare(model, other)
            for other in self._entries:
                if other.base in after and not self._finished(task, other):
                    training.prepare(self._start(task, other, training))
                    return

        self._programs.ahead(prepare)

    def _start(self, task, entry, training):
        return training.start(untrained(entry.build, self._settings, task))

    def _weights(self, task, entry):
        print_of = self.results["results"][entry.name]["trained_from"]
        path = None
        if self._folder is not None:
            path = self._folder / f"weights-{task.name}-{_file_name(entry.base)}.eqx"
        return Weights(path, {**self._identity, "embedding": print_of})

    def _finished(self, task, entry):
        return task.name in self.results["results"][entry.name]["scores"]

    def _keep(self, folder):
        """Adds the results that the folder has, on every process."""
        # Other processes may have no access to the folder.
        found = _devices.agreed(
            _report.read_results(folder) if _devices.writes() else None
        )
        if found is None:
            return
        before = found["identity"]
        differing = [
            f"{name} {before[name]} and not {value}"
            for name, value in self._identity.items()
            if name in before and before[name] != value
        ]
        if differing:
            raise Refused(
                f"{str(folder)!r} has results for {', '.join(differing)}. Ask for the "
                "same again, or give another folder by `out`."
            )
        # Parts of this run replace stored parts with the same name.
        for name in "identity", "tasks", "results":
            self.results[name] = {**found[name], **self.results[name]}

    def _add_entries(self):
        """Puts requested results first, in order. What changed is done again."""
        before = self.results["results"]
        found = {}
        for entry in self._entries:
            fresh = of_entry(entry, self._settings)
            kept = before.pop(entry.name, None)
            # A name may stand for another embedding than in the run before.
            same = kept is not None and kept["fingerprint"] == fresh["fingerprint"]
            if kept is not None and not same:
                self._progress.say(f"{entry.name} has changed, and is done again.")
            found[entry.name] = kept if same else fresh
        self.results["results"] = {**found, **before}

    def _write(self):
        if self._folder is not None and _devices.writes():
            _report.write(self._folder / "results.json", _report.as_json(self.results))


def run(
    embeddings: Mapping[str, Any] | Sequence[str] | str | None,
    text: Any,
    *,
    quick: bool,
    out: str | Path | None,
    progress: bool,
    show: Callable[[str], None] | None = None,
    command: str | None = None,
    **given: Any,
) -> Comparison:
    """What [`eqx_posemb.compare`][] does, with the command that results are kept with,
    and with `show`, which gets each line of a table as soon as it is known."""
    reported = Progress(quiet=not progress or not _devices.writes())
    reported.show("Reading")
    chosen, rows = settings(quick, **given), entries(embeddings, quick)
    read = _text.read(text) if "text" in chosen.tasks else None
    if read is not None:
        _text.check_long_enough(read, length=chosen.length, longest=chosen.longest)
    folder = None if out is None else _writable(out)
    started = Run(
        rows,
        chosen,
        tasks(chosen, read),
        read,
        folder=folder,
        command=command,
        progress=reported,
        show=(show or reported.say) if _devices.writes() else lambda line: None,
    )
    found = Comparison(started.results, started.trained)
    try:
        started.all()
    except KeyboardInterrupt:
        kept = (
            f"is kept in {folder}; the same command goes on from there"
            if folder
            else "is lost without a folder"
        )
        reported.say(f"Stopped. What is finished {kept}.")
        raise
    finally:
        # Tables and figures are also written after an interruption.
        if folder is not None and _devices.writes():
            _finish(folder, found)
    return found


def _finish(folder, found):
    if not any(result["scores"] for result in found.results["results"].values()):
        return
    _report.write(folder / "table.md", found.table() + "\n")
    _report.write(folder / "results.csv", found.to_csv())
    for kind in "png", "svg", "pdf":
        path = folder / f"plot.{kind}"
        _report.write(path, lambda file, kind=kind: found.plot(file, kind))


def _writable(out):
    """The folder to write to, or a `Refused`."""
    folder = Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A test file reveals a missing permission before the training.
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise Refused(
            f"cannot write to the folder {str(out)!r}: {error.strerror}. Give another "
            "one by `out`."
        ) from error
    return folder


def _costs(missing, settings):
    """The relative cost of each training and of each test, in order."""
    trained, costs = set(), []
    for task, entry in missing:
        cost = task.cost(settings)
        if (task.name, entry.base) not in trained:
            costs.append(cost)
            trained.add((task.name, entry.base))
        # A test takes a third of a training, and an extension compiles nothing.
        costs.append(cost * (1 / 3 if entry.extend is None else 2 / 9))
    return costs


def _file_name(name):
    """A name without what file systems refuse, and still one of its own."""
    plain = re.sub(r"[^\w+-]", "_", name)[:60]
    # Names that differ in replaced characters alone differ in the digest.
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return plain if plain == name else f"{plain}-{digest}"
