"""Programs that a thread compiles while others run."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import equinox as eqx
import jax


class Programs:
    """Compiled programs, one for arguments of each structure.

    Embeddings with arguments of one structure share a program. A compilation takes one
    core for seconds, and a small model does not fill the others.
    """

    def __init__(self):
        # Several hosts compile in the same order, without a thread.
        self._pool = ThreadPoolExecutor(1) if jax.process_count() == 1 else None
        self._programs: dict[Any, Future[Any]] = {}
        self._lock = Lock()

    def ahead(self, prepare: Callable[[], None]) -> None:
        """Calls a function that calls `compiled`, in a thread."""
        if self._pool is not None:
            self._pool.submit(prepare)

    def compiled(self, function: Any, *arguments: Any) -> Callable[..., Any]:
        """The program of a function of `eqx.filter_jit` for arguments like these."""
        leaves, structure = jax.tree.flatten(arguments)
        kinds = (
            (x.shape, x.dtype, x.sharding) if eqx.is_array(x) else x for x in leaves
        )
        key = function, structure, tuple(kinds)
        with self._lock:
            found = self._programs.get(key)
            if mine := found is None:
                # A second thread waits for a compilation that has begun, and starts no
                # other.
                found = self._programs[key] = Future()
        if mine:
            try:
                found.set_result(function.lower(*arguments).compile())
            except Exception as error:
                found.set_exception(error)
        return found.result()

    def close(self) -> None:
        """Drops programs that are not compiled yet."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
