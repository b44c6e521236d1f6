"""What is done now, and how long it all takes."""

import sys
import time
from collections import defaultdict
from collections.abc import Mapping


_EVERY = 30.0  # Seconds between lines in a log.


class Progress:
    """The current step and the time left: a line on a terminal, or lines in a log.

    The time left is a sum over the parts that are not done. Each part counts as the
    mean of its kind, or of the kind in another task in proportion to the costs.
    """

    def __init__(self, quiet: bool = False):
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._taken: dict[tuple[str, str], list[float]] = defaultdict(list)
        self._left: list[tuple[str, str]] = []
        self._costs: Mapping[str, float] = {}
        self._begun = self._logged = time.monotonic()
        self._stage = ""

    def expect(self, parts: list[tuple[str, str]], costs: Mapping[str, float]) -> None:
        """All parts, each a task and a kind: `"training"`, `"test"` or
        `"extension"`; and the relative costs of the tasks."""
        self._left, self._costs = list(parts), costs

    def begin(self) -> None:
        """The first part that is left begins."""
        self._begun = time.monotonic()

    def done(self, *, record: bool = True) -> None:
        """The first part that is left is done; its time counts if it is of its kind."""
        part = self._left.pop(0)
        if record:
            self._taken[part].append(time.monotonic() - self._begun)

    def show(self, stage: str, detail: str = "", fraction: float = 0.0) -> None:
        """Shows the current step.

        **Arguments:**

        - `stage`: what is done now.
        - `detail`: more of it, which changes often.
        - `fraction`: how much of the current part is done.
        """
        now = time.monotonic()
        if self._live:
            line = f"{stage} {detail}".rstrip() + self._remaining(fraction)
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
        elif not self._quiet and (stage != self._stage or now - self._logged > _EVERY):
            # A log has no detail of a step that has only begun.
            shown = f"{stage} {detail}".rstrip() if stage == self._stage else stage
            print(f"{shown}{self._remaining(fraction)}", file=sys.stderr, flush=True)
            self._logged = now
        self._stage = stage

    def clear(self) -> None:
        """Makes room for a line of results."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def say(self, line: str) -> None:
        """A line that stays."""
        self.clear()
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)

    def seconds_left(self, fraction: float = 0.0) -> float | None:
        """An estimate for all remaining parts. The first part has begun."""
        elapsed = time.monotonic() - self._begun
        # An estimate from fewer steps would change too much from line to line.
        guess = elapsed / fraction if fraction > 0.05 else None
        total = 0.0
        for index, part in enumerate(self._left):
            seconds = self._usual(part, guess)
            if seconds is None:
                return None
            if index == 0 and guess is not None:
                seconds = guess
            total += max(seconds - elapsed, 0.0) if index == 0 else seconds
        return total

    def _usual(self, part, guess):
        task, kind = part
        of_kind = [
            seconds * self._costs[task] / self._costs[other]
            for (other, k), taken in self._taken.items()
            if k == kind
            for seconds in taken
        ]
        taken = self._taken.get((task, kind)) or of_kind
        if taken:
            return sum(taken) / len(taken)
        if kind == "training":
            costs = self._costs[task] / self._costs[self._left[0][0]]
            return None if guess is None else guess * costs
        # A test takes a third of a training, and an extension compiles nothing.
        before = {"test": "training", "extension": "test"}[kind]
        seconds = self._usual((task, before), guess)
        return None if seconds is None else seconds / (3 if kind == "test" else 1.5)

    def _remaining(self, fraction):
        seconds = self.seconds_left(fraction) if self._left else None
        if seconds is None:
            return ""
        if seconds < 60:
            return f" · {max(1, round(seconds))} s left"
        return f" · {round(seconds / 60)} min left"
