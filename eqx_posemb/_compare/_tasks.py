"""What models are trained on and tested on: text, and three tasks of retrieval."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ._settings import Settings
from ._text import passages, Text, windows


Examples = tuple[np.ndarray, np.ndarray]
"""Tokens, and the token that should follow each token, or -1; both [batch, seq]."""
Make = Callable[[np.random.Generator, int, int], Examples]
"""Examples from a generator, their number and their length."""

# A model learns to recall when it has seen each symbol often: with 16 symbols a model
# of 64 channels needs thousands of steps, with 4 it needs hundreds.
_PAIRS = _VALUES = 4
_SYMBOLS = 16
_DIGITS, _KEY = 10, 5
# A generated example has this part of the tokens of a text.
_SHORTER = 4
# Seeds of training are less, so that no test is trained on.
_TEST = 2**32


@dataclass(frozen=True)
class Task:
    """What a model is trained on, and tested on at every length."""

    name: str
    vocabulary: int
    measure: str
    """What the table has: `"bits per byte"`, or `"accuracy"` in percent."""
    threshold: float
    """A model with a larger loss, in bits for each answer, has hardly learnt."""
    about: str
    """The task in a sentence."""
    make: Make
    whole: bool = False
    """Whether all answers of an example count as one."""
    text: Text | None = None

    def length(self, settings: Settings) -> int:
        """The training length. Generated examples are shorter, and a batch has more of
        them."""
        return settings.length // (1 if self.text else _SHORTER)

    def cost(self, settings: Settings) -> float:
        """The multiplications of the model for a token of a training example."""
        dim = settings.dim
        block = 12 * dim + 2 * self.length(settings)
        return dim * (settings.depth * block + self.vocabulary)

    def batch(self, settings: Settings, seed: int, step: int) -> Examples:
        """The examples of a training step: a function of the seed and the step."""
        # Every embedding trains on the same examples, since the step and the seed
        # determine them.
        random = np.random.default_rng((seed, step))
        size = settings.batch * (1 if self.text else _SHORTER)
        return self.make(random, size, self.length(settings))

    def tests(self, settings: Settings, multiple: int) -> Iterator[Examples]:
        """The examples of a test, in batches with equal numbers of tokens at every
        length."""
        if self.text is not None:
            longest, most = settings.longest, settings.passages
            for passage in passages(self.text, length=longest, most=most):
                yield windows(passage, settings.length * multiple)
            return
        random = np.random.default_rng((_TEST, multiple))
        # Longer examples have no more answers, and a test has many of them.
        size = settings.multiples[-1] // multiple
        for _ in range(2 * _SHORTER * settings.passages):
            yield self.make(random, size, self.length(settings) * multiple)


def tasks(settings: Settings, text: Text | None) -> tuple[Task, ...]:
    """The tasks of a comparison, in order."""
    made = [_text(text)] if text is not None else []
    every = {task.name: task for task in (*made, _RECALL, _COPY, _PASSKEY)}
    return tuple(every[name] for name in settings.tasks)


def _text(text):
    def make(random, size, length):
        starts = random.integers(len(text.training) - length, size=size)
        found = text.training[starts[:, None] + np.arange(length + 1)].astype(np.int32)
        return found[:, :-1], found[:, 1:]

    about = f"text: the model predicts the next byte of held-out {text.source}."
    # Bytes without their context have about 4.5 bits in source code, and 4.2 in prose.
    return Task("text", 256, "bits per byte", 4.2, about, make, text=text)


def _recall(random, size, length):
    """Multi-query associative recall: pairs of a key and a value, then keys alone."""
    keys, values = (
        random.random((size, _VALUES)).argsort(axis=1)[:, :_PAIRS] + first
        for first in (1, 1 + _VALUES)
    )
    # Queries at distances of a power law, so that most are near: slots with the largest
    # logarithm of a probability plus Gumbel noise are a sample without replacement.
    slots = length // 2 - _PAIRS
    logs = (0.01 - 1) * np.log(np.arange(1, slots + 1))
    noisy = logs + random.gumbel(size=(size, slots))
    asked = 2 * (_PAIRS + noisy.argsort(axis=1)[:, ::-1][:, :_PAIRS])
    tokens, answers = _empty(size, length)
    rows, pairs = np.arange(size)[:, None], 2 * np.arange(_PAIRS)
    tokens[rows, pairs] = tokens[rows, asked] = keys
    tokens[rows, pairs + 1] = tokens[rows, asked + 1] = answers[rows, asked] = values
    return tokens, answers


def _copy(random, size, length):
    """A string of random symbols, a mark, and the string once more."""
    half = length // 2
    string = random.integers(2, 2 + _SYMBOLS, size=(size, half))
    tokens, answers = _empty(size, length)
    tokens[:, :half], tokens[:, half] = string, 1
    tokens[:, half + 1 : 2 * half] = string[:, :-1]
    answers[:, half : 2 * half] = string
    return tokens, answers


def _passkey(random, size, length):
    """A key of five digits behind a mark, anywhere in noise, and asked for at the
    end."""
    noise = 2 + _DIGITS
    tokens = random.integers(noise, noise + _SYMBOLS, size=(size, length))
    tokens, answers = tokens.astype(np.int32), _empty(size, length)[1]
    digits = random.integers(2, 2 + _DIGITS, size=(size, _KEY))
    end = length - _KEY
    place = random.integers(0, end - _KEY - 1, size=(size, 1))
    rows, steps = np.arange(size)[:, None], np.arange(_KEY)
    tokens[rows, place] = 1
    tokens[rows, place + 1 + steps] = digits
    tokens[:, end - 1] = 1
    tokens[:, end:] = digits
    answers[:, end - 1 : -1] = digits
    return tokens, answers


def _empty(size, length):
    shape = size, length
    return np.zeros(shape, np.int32), np.full(shape, -1, np.int32)


# A model has hardly learnt if it does not halve the cost of a guess.
_RECALL = Task(
    "recall",
    1 + 2 * _VALUES,
    "accuracy",
    math.log2(_VALUES) / 2,
    "recall: the model reads 4 pairs of a key and a value, and then recalls the value "
    "of each key, at distances of a power law (multi-query associative recall; Arora "
    "et al., 2023).",
    _recall,
)
_COPY = Task(
    "copy",
    2 + _SYMBOLS,
    "accuracy",
    math.log2(_SYMBOLS) / 2,
    "copy: the model copies a random string of half the length, and each symbol is an "
    "answer.",
    _copy,
)
_PASSKEY = Task(
    "passkey",
    2 + _DIGITS + _SYMBOLS,
    "accuracy",
    math.log2(_DIGITS) / 2,
    "passkey: the model finds a key of five digits in noise, and the whole key must be "
    "right (after Mohtashami and Jaggi, 2023).",
    _passkey,
    whole=True,
)
