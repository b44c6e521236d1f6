"""What is compared: names, embeddings, builders, and extensions after training."""

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from .._bundle import PositionalEmbedding
from .._catalogue import Refused, unknown
from .._make import make
from .._registry import resolved, Variant, variant, variants
from .._slots import KINDS
from ._extensions import Extend, EXTENSIONS, of_rotary
from ._settings import Settings


EMBEDDINGS = (
    "nope",
    "sinusoidal",
    "learned",
    "rope",
    "rope+linear",
    "rope+ntk",
    "rope+yarn",
    "xpos",
    "alibi",
    "t5",
    "kerple",
)
QUICK = ("nope", "rope", "rope+yarn", "alibi", "t5")


class Sizes(NamedTuple):
    """The sizes of the model, which a builder reads."""

    heads: int
    head_dim: int
    dim: int
    length: int

    @classmethod
    def of(cls, settings: Settings, length: int) -> "Sizes":
        """The sizes of a model that is trained on examples of a length."""
        dim, heads = settings.dim, settings.heads
        return cls(heads, dim // heads, dim, length)


Builder = Callable[[Sizes, PRNGKeyArray], PositionalEmbedding]


@dataclass(frozen=True)
class Entry:
    """A row of the table."""

    name: str
    base: str
    """The name of the entry whose trained model it evaluates: itself, unless it is an
    extension."""
    build: Builder
    extend: Extend | None = None
    bounded: bool = False
    """Whether positions end with the training length."""
    settings: Callable[[Sizes], dict[str, Any]] = field(default=lambda sizes: {})
    source: str = ""
    """Where the settings are from."""

    def at(
        self, embedding: PositionalEmbedding, multiple: int, length: int
    ) -> PositionalEmbedding:
        """The trained embedding for a test at a multiple of the training length."""
        if self.extend is None:
            return embedding
        return self.extend(embedding, float(multiple), length)


def fingerprint(embedding: PositionalEmbedding) -> str:
    """What tells an embedding before training from others."""
    arrays, structure = jax.tree.flatten(embedding)
    digest = hashlib.sha256(str(structure).encode())
    for array in arrays:
        digest.update(np.asarray(array).tobytes())
    return digest.hexdigest()[:16]


def entries(
    given: Mapping[str, Any] | Sequence[str] | str | None, quick: bool = False
) -> tuple[Entry, ...]:
    """The rows of the table, in the order that they are given in.

    **Raises:** a `Refused` for the first name that is unknown.
    """
    if given is None:
        given = QUICK if quick else EMBEDDINGS
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, Mapping):
        # Names on a command line may be separated by commas.
        words = [name for word in given for name in str(word).split(",") if name]
        given = {name: name for name in words}
    if not given:
        raise Refused("there is no embedding to compare. Give one or more names.")
    return tuple(_entry(name, value, given) for name, value in given.items())


def _entry(name, value, given):
    # A line break would end the row of a table.
    if "\n" in name or not name.strip():
        raise Refused(f"a name must be one line of text, but got {name!r}.")
    if isinstance(value, str):
        base, _, extension = value.partition("+")
        value = (base, extension) if extension else value
    if isinstance(value, tuple):
        return _extension(name, value, given)
    if isinstance(value, str):
        return _named(name, value)
    embedding = _bundled(value)
    if embedding is not None:
        return Entry(name, name, lambda sizes, key: embedding)
    if callable(value):
        return Entry(name, name, _checked(name, value))
    raise Refused(
        f"{name!r} must be a name, an embedding, a function of (sizes, key) that "
        "returns an embedding, or a pair (trained embedding, extension), but got "
        f"{type(value).__name__}."
    )


def _bundled(value: Any) -> PositionalEmbedding | None:
    """An embedding as it is, a part in its slot, and `None` for any other value."""
    if isinstance(value, PositionalEmbedding):
        return value
    slot = next((slot for slot, kinds in KINDS if isinstance(value, kinds)), None)
    return None if slot is None else PositionalEmbedding(**{slot: value})


def bounded(embedding: PositionalEmbedding) -> bool:
    """Whether a part of the embedding, or of a sum, ends at some position."""
    ends = lambda part: "bounded" in getattr(part, "traits", ())
    return any(map(ends, jax.tree.leaves(embedding, is_leaf=ends)))


def _checked(name, builder):
    count = len(inspect.signature(builder).parameters)
    if count != 2:
        raise Refused(
            f"{name!r} must be a function of two arguments, (sizes, key), but takes "
            f"{count}."
        )

    def build(sizes, key):
        built = builder(sizes, key)
        embedding = _bundled(built)
        if embedding is not None:
            return embedding
        raise Refused(
            f"the function of {name!r} must return an embedding, but got "
            f"{type(built).__name__}."
        )

    return build


def _extension(name, pair, given):
    base, extension = pair
    # A row may redefine a name, but not in terms of its own name.
    of = given.get(base, base) if base != name else base
    if isinstance(of, tuple) or (isinstance(of, str) and "+" in of):
        raise Refused(
            f"{name!r} must extend a trained embedding, but {base!r} is an extension."
        )
    if isinstance(of, str) and of not in variants():
        raise _unknown(f"{base}+{extension}")
    trained = _entry(base, of, given)
    if callable(extension):
        stretch: Callable[..., Any] = extension
        extend, source = lambda trained, factor, length: stretch(trained, factor), ""
    elif extension in EXTENSIONS:
        change, source = EXTENSIONS[extension]
        extend = of_rotary(change)
    else:
        raise _unknown(f"{base}+{extension}")
    return dataclasses.replace(trained, name=name, extend=extend, source=source)


def _unknown(name):
    extended = [f"rope+{extension}" for extension in EXTENSIONS]
    return unknown(name, [*variants(), *extended])


def _named(name, of):
    if of not in variants():
        raise _unknown(of)
    row = variant(of)
    # Positions that a gate makes of tokens have as many numbers as the model needs.
    if isinstance(row.axes, int) and row.axes != 1:
        raise Refused(
            f"{of!r} takes positions of several numbers, and text has one each."
        )
    fitted, source = _FITTED.get(of, (lambda length: {}, ""))

    def settings(sizes):
        given = {
            key: resolved(value, sizes._asdict())
            for key, value in row.settings.items()
            if not isinstance(value, Variant)
        }
        return {**given, **fitted(sizes.length)}

    def build(sizes, key):
        return make(of, key=key, **sizes._asdict(), **fitted(sizes.length))

    return Entry(
        name, name, build, bounded=row.has("bounded"), settings=settings, source=source
    )


def _t5(length):
    # The last bucket must start within the training length, or its value stays random.
    buckets = min(32, length)
    return dict(
        bidirectional=False,
        num_buckets=buckets,
        max_distance=max(length // 4, buckets // 2 + 1),
    )


# Settings that papers fit to the training length, and where they say so.
_FITTED = {
    "t5": (
        _t5,
        "Raffel et al. (2020), Section 2.1: 32 buckets, the last one from a distance "
        "of 128, for a length of 512",
    ),
    "xpos": (
        lambda length: dict(scale_base=length / 2),
        "Sun et al. (2023), Section 3.2: 512 for a length of 1,024",
    ),
}
