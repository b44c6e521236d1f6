"""Stopping when it is asked for, between two steps."""

import signal
import threading


class Interrupt:
    """Takes note of Ctrl-C, and raises it where `check` is called.

    Python raises it at any place. JAX has a callback of the garbage collector that runs
    often, and an exception in it would be printed and dropped. A second Ctrl-C raises
    immediately.
    """

    def __init__(self):
        self._asked = False

    def __enter__(self) -> "Interrupt":
        # Only the main thread may handle signals, and only there do they arrive.
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *exception) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """Raises a `KeyboardInterrupt` if there was one."""
        if self._asked:
            raise KeyboardInterrupt

    def _note(self, number, frame):
        del number, frame
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True
