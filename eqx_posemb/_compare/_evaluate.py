"""Tests at lengths that the models were not trained on."""

from collections.abc import Callable

import equinox as eqx
import jax
import numpy as np

from .._positions._consecutive import consecutive
from . import _devices
from ._entries import bounded, Entry
from ._model import At, at, Decoder, forward, Score, score, Weights
from ._programs import Programs
from ._settings import Settings
from ._tasks import Task


BEYOND = "positions beyond the training length have no row in its table"
RAISES = "the embedding raises an error at this length"
NOT_FINITE = "the result is not a finite number"


class Evaluation:
    """Tests trained models at lengths that they were not trained on.

    The number of tokens in a test is equal at every multiple, which sets the context
    alone.
    """

    def __init__(self, settings: Settings, task: Task, programs: Programs):
        self._settings, self._task, self._programs = settings, task, programs
        self._length = task.length(settings)

    def prepare(self, models: Decoder, entry: Entry) -> None:
        """Compiles the programs for models like these."""
        for multiple in self._settings.multiples:
            there = self._there(models, entry, multiple)
            if not isinstance(there, str):
                empty = np.zeros((0, self._length * multiple), np.int32)
                arguments = self._arguments(models, there, empty, empty)
                self._programs.compiled(_score, *arguments)

    def run(
        self, models: Decoder, entry: Entry, multiple: int, check: Callable[[], None]
    ) -> list[float] | str:
        """The measure of the task at a multiple of the training length.

        **Arguments:**

        - `models`: the trained models of all seeds, along a first axis.
        - `entry`: the row of the table, which may extend the embedding.
        - `multiple`: of the training length.
        - `check`: called between parts of the test.

        **Returns:** a number for each seed, or the reason why there are none.
        """
        there = self._there(models, entry, multiple)
        if isinstance(there, str):
            return there
        total, examples = np.zeros((4, self._settings.seeds)), 0
        for tokens, answers in self._parts(multiple):
            check()
            arguments = self._arguments(models, there, tokens, answers)
            program = self._programs.compiled(_score, *arguments)
            # Sums in float64 do not depend on the order of the parts in their printed
            # digits.
            total += np.asarray(program(*arguments), np.float64)
            examples += len(tokens)
        bits, answers, right, complete = total
        # Where numbers are not finite, the likeliest token is not defined.
        if not np.isfinite(bits).all():
            return NOT_FINITE
        if self._task.whole:
            return (100 * complete / examples).tolist()
        if self._task.measure == "accuracy":
            return (100 * right / answers).tolist()
        return (bits / answers).tolist()

    def _there(self, models, entry, multiple):
        """The embedding at the positions of a test, or why there are none."""
        if multiple > 1 and (entry.bounded or bounded(models.embedding)):
            return BEYOND
        settings = self._settings
        embedding = entry.at(models.embedding, multiple, self._length)
        length = self._length * multiple
        try:
            there = _at(embedding, length, settings.dim, settings.seeds)
        except (RuntimeError, ValueError):
            return RAISES
        return _devices.replicated(there)

    def _parts(self, multiple):
        """The examples of a test, in batches that the devices share."""
        size = self._size(self._length * multiple)
        tests = zip(*self._task.tests(self._settings, multiple), strict=True)
        tokens, answers = map(np.concatenate, tests)
        for first in range(0, len(tokens), size):
            part = slice(first, first + size)
            yield tokens[part], answers[part]

    def _size(self, length):
        """The number of examples in a batch, whose number of tokens is equal at every
        length."""
        return self._settings.longest // length * jax.device_count()

    def _arguments(self, models, there, tokens, answers):
        # A part that is not full gets examples without an answer.
        size = self._size(tokens.shape[1])
        fill = lambda x, by: np.pad(x, [(0, size - len(x)), (0, 0)], constant_values=by)
        return (
            _devices.replicated(models.weights),
            there,
            _devices.sharded(fill(tokens, 0), 0, 0),
            _devices.sharded(fill(answers, -1), 0, -1),
            self._settings.heads,
            _devices.computing_dtype(),
        )


@eqx.filter_jit
def _at(embedding, length, dim, seeds) -> At:
    of_seed = lambda embedding: at(embedding, consecutive(length), dim)
    # An embedding without arrays has no axis of seeds.
    return eqx.filter_vmap(of_seed, axis_size=seeds)(embedding)


@eqx.filter_jit
def _score(weights: Weights, there: At, tokens, answers, heads, dtype) -> Score:
    # Embeddings share the program where their parts at given positions are alike.
    arrays, static = eqx.partition((weights, there), eqx.is_array)

    def of_seed(arrays):
        weights, there = eqx.combine(arrays, static)
        return score(forward(weights, there, tokens, heads, dtype), answers)

    return _devices.each_seed(of_seed, arrays)


def hardly_learnt(losses: list[list[float]], task: Task) -> bool:
    """Whether the last losses of some seed are above the threshold of the task."""
    # The mean over a twentieth of the steps smooths the noise of single batches.
    last = np.mean(losses[-max(1, len(losses) // 20) :], axis=0)
    return not bool(np.all(last < task.threshold))
