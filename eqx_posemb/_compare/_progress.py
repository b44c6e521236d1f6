"""What is done now, and how long it all takes."""

import sys
import time
from collections.abc import Sequence


_EVERY = 30.0  # Seconds between lines in a log.


class Progress:
    """The current step and the time left: a line on a terminal, or lines in a log."""

    def __init__(self, quiet: bool = False):
        self._quiet = quiet
        self._live = not quiet and sys.stderr.isatty()
        self._left: list[float] = []
        self._done = 0.0
        self._begun = self._logged = time.monotonic()
        self._stage = ""

    def expect(self, parts: Sequence[float]) -> None:
        """The relative costs of all parts, in order. The first part begins."""
        self._left, self._begun = list(parts), time.monotonic()

    def done(self, *, loaded: bool = False) -> None:
        """The first part that is left is done. A part that was loaded took no time."""
        cost = self._left.pop(0)
        self._done += 0 if loaded else cost

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
        """The time so far, in proportion to the costs of all parts that are left."""
        here = fraction * self._left[0] if self._left else 0.0
        done = self._done + here
        # An estimate from fewer steps would change too much from line to line.
        if not self._left or done <= 0.05 * self._left[0]:
            return None
        elapsed = time.monotonic() - self._begun
        return elapsed / done * (sum(self._left) - here)

    def _remaining(self, fraction):
        seconds = self.seconds_left(fraction)
        if seconds is None:
            return ""
        if seconds < 60:
            return f" · {max(1, round(seconds))} s left"
        return f" · {round(seconds / 60)} min left"
