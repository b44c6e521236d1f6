"""What is compared, and how large and how long."""

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import jax.random as jr

from .._bundle import PositionalEmbedding
from .._catalogue import Refused, unknown
from .._make import make
from .._registry import variant, variants
from .._rotary import linear_rope, ntk_rope, rope, Rotary, yarn


MULTIPLES = (1, 2, 4, 8, 16)
EXTENSIONS = ("rope+linear", "rope+ntk", "rope+yarn")
EMBEDDINGS = (
    "nope",
    "sinusoidal",
    "learned",
    "rope",
    *EXTENSIONS,
    "xpos",
    "alibi",
    "t5",
    "kerple",
)


@dataclass(frozen=True)
class Settings:
    """All that the result depends on, but for the text and the embeddings."""

    length: int = 128
    steps: int = 600
    seed: int = 0
    batch: int = 8
    dim: int = 96
    heads: int = 4
    depth: int = 3
    learning_rate: float = 3e-3
    position_rate: float = 10.0
    """How much faster the parameters of the embedding learn."""
    passages: int = 16
    """How many passages of 16 lengths are evaluated."""

    @property
    def head_dim(self) -> int:
        """The number of channels of a head."""
        return self.dim // self.heads

    @property
    def longest(self) -> int:
        """The greatest length that is evaluated."""
        return self.length * MULTIPLES[-1]


QUICK = Settings(length=64, steps=150, dim=64, depth=2, passages=8)


def read(options: argparse.Namespace) -> Settings:
    """The settings that the command line asks for."""
    given = {
        name: getattr(options, name)
        for name in ("length", "steps", "seed")
        if getattr(options, name) is not None
    }
    for name, least in ("length", 8), ("steps", 1), ("seed", 0):
        if given.get(name, least) < least:
            raise Refused(f"--{name} must be at least {least}, but got {given[name]}.")
    if given["seed"] >= 2**32:
        raise Refused(f"--seed must be less than 2**32, but got {given['seed']}.")
    return dataclasses.replace(QUICK if options.quick else Settings(), **given)


def known(names: Sequence[str] | None) -> tuple[str, ...]:
    """The names without repetition, or a `Refused` for the first that is unknown."""
    if names is None:
        return EMBEDDINGS
    every = (*variants(), *EXTENSIONS)
    names = [name for word in names for name in word.split(",") if name]
    for name in names:
        if name not in every:
            raise unknown(name, every)
        if name in variants() and variant(name).axes != 1:
            raise Refused(
                f"{name!r} takes positions of several numbers, and text has one each."
            )
    return tuple(dict.fromkeys(names))


def trained_as(name: str) -> str:
    """The embedding that is trained. Extensions use the same model."""
    return name.split("+")[0]


def impossible(name: str, multiple: int) -> str | None:
    """Why the embedding cannot be evaluated at that multiple, if it cannot."""
    if multiple > 1 and variant(trained_as(name)).has("bounded"):
        return "positions beyond the training length have no row in its table"
    return None


def build(name: str, settings: Settings) -> PositionalEmbedding:
    """The embedding to train, fitted to the training length where papers do so."""
    length, fitted = settings.length, {}
    if name == "t5":
        # T5 was trained on 512 positions, and its last bucket starts at 128. The last
        # bucket must start within the training length, or its value stays random.
        buckets = min(32, length)
        fitted = dict(
            bidirectional=False,
            num_buckets=buckets,
            max_distance=max(length // 4, buckets // 2 + 1),
        )
    if name == "xpos":
        # The paper's 512, for a training length of 1024.
        fitted = dict(scale_base=length / 2)
    return make(
        name,
        heads=settings.heads,
        head_dim=settings.head_dim,
        dim=settings.dim,
        length=length,
        key=jr.fold_in(jr.key(settings.seed), 1),
        **fitted,
    )


def extended(name: str, settings: Settings, multiple: int) -> Rotary:
    """The rotary embedding that replaces a trained `rope` at that multiple."""
    dim, factor = settings.head_dim, float(multiple)
    if multiple == 1:
        return rope(dim)
    if name == "rope+linear":
        return linear_rope(dim, factor=factor)
    if name == "rope+ntk":
        return ntk_rope(dim, factor=factor)
    return yarn(dim, factor=factor, original_length=settings.length)
