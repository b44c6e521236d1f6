"""Real text to train on, that is always there: the standard library's sources."""

import errno
import functools
import hashlib
import platform
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .._catalogue import Refused


# Tests and third-party code are not on every machine; `_sysconfigdata` is written by
# the build; the rest is tables, which any model learns to copy.
_LEFT_OUT = {
    "__phello__",
    "__pycache__",
    "dist-packages",
    "encodings",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "turtledemo",
}
# The limit bounds memory, and a comparison reads far less.
_MOST = 64 * 2**20


@dataclass(frozen=True)
class Text:
    """Bytes to train on, bytes to evaluate on, and where they are from."""

    training: np.ndarray
    held_out: np.ndarray
    source: str
    training_files: tuple[str, ...]
    held_out_files: tuple[str, ...]

    @functools.cached_property
    def sha256(self) -> str:
        """What tells this text from any other."""
        digest = hashlib.sha256(len(self.training).to_bytes(8, "big"))
        digest.update(self.training.tobytes())
        digest.update(self.held_out.tobytes())
        return digest.hexdigest()


def read(text: bytes | str | Path | Sequence[str | Path] | None) -> Text:
    """The text that is asked for, where `None` is the standard library."""
    if text is None:
        return standard_library()
    if isinstance(text, bytes):
        return _split({"bytes": text}, "bytes")
    files = [text] if isinstance(text, str | Path) else list(text)
    if not files:
        raise Refused("`text` must have one or more files, but got none.")
    most = _MOST // len(files)
    return _split({str(file): _read(str(file), most) for file in files}, "own files")


@functools.cache
def standard_library() -> Text:
    """The sources of the Python that runs this; every tenth file is held out."""
    root = Path(sysconfig.get_path("stdlib"))
    # POSIX paths have one order on every platform, so all machines hold out the same
    # files.
    paths = sorted(
        filter(_is_source, (path.relative_to(root) for path in root.rglob("*.py"))),
        key=Path.as_posix,
    )
    if len(paths) < 10:
        raise Refused(
            "this Python has no sources of its standard library to train on. Give your "
            "own text by `text`."
        )
    held_out = paths[9::10]
    training = [path for path in paths if path not in held_out]
    return Text(
        training=_joined((root / path).read_bytes() for path in training),
        held_out=_joined((root / path).read_bytes() for path in held_out),
        source=f"standard library of Python {platform.python_version()}",
        training_files=tuple(map(Path.as_posix, training)),
        held_out_files=tuple(map(Path.as_posix, held_out)),
    )


def _split(contents, source):
    training, held_out = [], []
    for content in contents.values():
        # Each file gives its last tenth, so the held-out text has every kind of text.
        cut = len(content) - len(content) // 10
        training.append(content[:cut])
        held_out.append(content[cut:])
    names = tuple(map(shown, contents))
    return Text(_joined(training), _joined(held_out), source, names, names)


def shown(file: str) -> str:
    """A name to be published: an absolute path tells of the machine, not the text."""
    return Path(file).name if Path(file).is_absolute() else file


def passages(text: Text, *, length: int, most: int) -> np.ndarray:
    """Up to `most` passages of the held-out text, spread evenly over all of it.

    Each has `length + 1` bytes. The first byte is input alone.
    """
    count = evaluated(text, length, most) // length
    starts = np.linspace(0, len(text.held_out) - length - 1, count).astype(int)
    return text.held_out[starts[:, None] + np.arange(length + 1)].astype(np.int32)


def evaluated(text: Text, length: int, most: int) -> int:
    """How many bytes `passages` gives to predict."""
    return min(most, (len(text.held_out) - 1) // length) * length


def windows(passage: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """The windows of a passage, [count, length], and the byte that follows each byte.

    All lengths predict the same bytes.
    """
    count = (len(passage) - 1) // length
    cut = lambda x: x[: count * length].reshape(count, length)
    return cut(passage[:-1]), cut(passage[1:])


def check_long_enough(text: Text, *, length: int, longest: int) -> None:
    """Refuses a text that cannot fill one window."""
    if not len(text.training):
        raise Refused("the text is empty. Give some by `text`.")
    if len(text.training) <= length or len(text.held_out) <= longest:
        raise Refused(
            f"the text is too short: evaluation needs more than {longest:,} bytes held "
            f"out, and there are {len(text.held_out):,} (a tenth). Give more text by "
            "`text`, or a smaller `length`."
        )


def _is_source(path):
    generated = path.name.startswith("_sysconfigdata")
    return _LEFT_OUT.isdisjoint(path.parts) and not generated


def _read(file, most):
    try:
        with open(file, "rb") as opened:
            return opened.read(most)
    except OSError as error:
        shown = file if len(file) <= 300 else f"{file[:300]}…"
        long = error.errno == errno.ENAMETOOLONG
        cure = " Give text itself as bytes." if long else ""
        raise Refused(
            f"cannot read the text {shown!r}: {error.strerror}.{cure}"
        ) from error


def _joined(contents):
    return np.frombuffer(b"".join(contents), dtype=np.uint8)
