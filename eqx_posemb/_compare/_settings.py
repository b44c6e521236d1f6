"""How large the model is, how long it is trained, and on what."""

import dataclasses
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from .._catalogue import Refused


TASKS = ("text", "recall", "copy", "passkey")


def _setting(default: Any, meaning: str) -> Any:
    """A setting with its help on the command line."""
    return field(default=default, metadata={"help": meaning})


@dataclass(frozen=True)
class Settings:
    """All that a result depends on, but for the text and the embeddings."""

    tasks: tuple[str, ...] = _setting(("text", "recall"), f"some of {', '.join(TASKS)}")
    length: int = _setting(128, "tokens in a training example")
    # Three lengths show a trend, and each is a program to compile.
    multiples: tuple[int, ...] = _setting(
        (1, 4, 16), "lengths of tests, in training lengths"
    )
    steps: int = _setting(300, "training steps")
    batch: int = _setting(8, "training examples in a step")
    dim: int = _setting(96, "channels of a token")
    heads: int = _setting(4, "heads of attention")
    depth: int = _setting(3, "blocks of the model")
    learning_rate: float = _setting(3e-3, "the largest learning rate")
    position_rate: float = _setting(
        10.0, "how much faster the parameters of an embedding learn; 1 is an ablation"
    )
    seed: int = _setting(0, "the first seed")
    seeds: int = _setting(1, "seeds, for a mean and a standard deviation")
    passages: int = _setting(8, "passages of the longest length in a test")

    def __post_init__(self):
        least = dict(length=8, steps=1, batch=1, dim=1, heads=1, depth=1, seeds=1)
        for name, bound in {**least, "seed": 0, "passages": 1}.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise Refused(f"`{name}` must be at least {bound}, but got {value}.")
        # Tests have seeds from 2**32 on, so no test is trained on.
        if self.seed + self.seeds > 2**32:
            raise Refused(f"`seed` must be less than 2**32, but got {self.seed}.")
        if self.dim % self.heads:
            raise Refused(
                f"`dim` must be a multiple of `heads`, {self.heads}, but got "
                f"{self.dim}."
            )
        for name in "learning_rate", "position_rate":
            if not 0 < getattr(self, name) < float("inf"):
                raise Refused(
                    f"`{name}` must be positive, but got {getattr(self, name)}."
                )
        self._check_multiples()
        self._check_tasks()

    def _check_multiples(self):
        given = self.multiples
        ascending = all(a < b for a, b in pairwise(given))
        if not given or not ascending or given[0] < 1:
            raise Refused(
                "`multiples` must be ascending positive integers, but got "
                f"{_listed(given)}."
            )
        if any(given[-1] % multiple for multiple in given):
            raise Refused(
                "`multiples` must divide the largest of them, so that tests of all "
                f"lengths have the same number of tokens, but got {_listed(given)}."
            )

    def _check_tasks(self):
        unknown = [task for task in self.tasks if task not in TASKS]
        if unknown or not self.tasks:
            raise Refused(
                f"`tasks` must be some of {', '.join(TASKS)}, but got "
                f"{_listed(unknown)}."
            )
        # The shortest passkey has five digits twice, two marks and some noise.
        if self.length < 64 and self.tasks != ("text",):
            raise Refused(
                "`length` must be at least 64 for tasks other than text, which have "
                f"examples of a quarter of it, but got {self.length}."
            )

    @property
    def longest(self) -> int:
        """The greatest length of a test."""
        return self.length * self.multiples[-1]

    @property
    def every_seed(self) -> range:
        """The seeds of the models of an embedding."""
        return range(self.seed, self.seed + self.seeds)

    def as_json(self) -> dict[str, Any]:
        """The settings as `results.json` has them."""
        values = dataclasses.asdict(self)
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}


# Compilation dominates a quick run, so it has one task.
QUICK = Settings(tasks=("text",), length=64, steps=150, dim=64, depth=2)


def settings(quick: bool = False, **given: Any) -> Settings:
    """The settings with those that are given; `None` stands for the default."""
    given = {name: value for name, value in given.items() if value is not None}
    for name in "tasks", "multiples":
        if isinstance(given.get(name), str):
            # Its letters would be names.
            raise ValueError(
                f"`{name}` must be a list, but got {given[name]!r}. Write "
                f"`{name}=[{given[name]!r}]`."
            )
        if name in given:
            given[name] = tuple(given[name])
    return dataclasses.replace(QUICK if quick else Settings(), **given)


def _listed(values):
    return ", ".join(map(str, values)) or "none"
