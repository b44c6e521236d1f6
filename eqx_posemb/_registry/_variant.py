"""What a row of the registry says of an embedding."""

import difflib
import importlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ._source import Source


@dataclass(frozen=True)
class Variant:
    """A row of the registry.

    The docstring of the class or recipe has the formula, the example and the citation.
    The signature has the sizes that it needs, and a class has its `traits`.
    """

    name: str
    path: str
    """Where the class or recipe is: its module in this package, and its name."""
    summary: str
    oracle: str = "formula"
    """What the tests compare its numbers with: the code of its authors or of a library
    that has its models, or the formula of the paper, written once more in NumPy."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What [`eqx_posemb.make`][] gives it where the user does not. A function computes
    a setting from the sizes that are its arguments, and a row stands for its part."""
    scale: Callable[..., float] | float | None = None
    """The factor of the logits, if it is not `1 / sqrt(head_dim)`."""
    axes: Callable[..., int] | int = 1
    """How many coordinates a position has."""
    prefix: int = 0
    """How many tokens it knows that are on no grid, such as [CLS]."""
    traits: tuple[str, ...] = ()
    """The traits that a recipe or these settings have, in addition to the class."""
    trained: bool = False
    """Whether a recipe has parameters. The fields of a class say it."""

    def __post_init__(self):
        # The folder of a class determines its slot.
        if not self.path.startswith(("_encoding", "_rotary", "_bias", "_score")):
            raise ValueError(f"`path` must begin with a place, but got {self.path!r}.")

    @property
    def place(self) -> str:
        """The slot that it fills: encoding, rotary, bias or score."""
        return self.path.split(".")[0][1:]

    @property
    def builder(self) -> str:
        """The name of the class or recipe."""
        return self.path.rpartition(".")[2]

    @cached_property
    def source(self) -> Source:
        """The class or recipe, as its file has it."""
        return Source(self.path)

    @property
    def of(self) -> Callable[..., Any]:
        """The class or recipe itself."""
        package, _, _ = __name__.partition(".")
        # The module is imported on demand, since the registry must work without JAX.
        module = self.path.removesuffix(f".{self.builder}")
        return getattr(importlib.import_module(f"{package}.{module}"), self.builder)

    def is_trained(self) -> bool:
        """Whether it has parameters."""
        return self.trained or bool(self.source.arrays)

    def has(self, trait: str) -> bool:
        """Whether it is `"absolute"`, `"between"`, `"bounded"` or `"causal"`."""
        return trait in self.all_traits()

    def all_traits(self) -> tuple[str, ...]:
        """The traits of the row, of the class, and of the place."""
        of_place = ("absolute",) * (self.place == "encoding")
        return tuple(sorted({*of_place, *self.traits, *self.source.traits}))

    def given(self, parameters: Mapping[str, bool]) -> dict[str, Any]:
        """What `make` gives for parameters that are required or not: the settings, and
        a size for each required parameter with the name of one."""
        # A rotary embedding is of a head, and its `dim` is the dimension of the head,
        # unless it has both.
        of_head = self.place == "rotary" and "head_dim" not in parameters
        renamed = {"dim": "head_dim"} if of_head else {}
        sizes = {
            name: SIZES[renamed.get(name, name)]
            for name, required in parameters.items()
            if required and name in SIZES
        }
        return {**sizes, **self.settings}

    def needed(
        self,
        parameters_of: Callable[["Variant"], Mapping[str, bool]],
        settings: Collection[str] = (),
    ) -> set[str]:
        """What `make` must have, if the user gives these settings."""
        given = self.given(parameters_of(self))
        values = [value for name, value in given.items() if name not in settings]
        needed: set[str] = set()
        for value in (*values, self.scale):
            if isinstance(value, Variant):
                needed |= value.needed(parameters_of)
            elif callable(value):
                # The arguments of a function in a row name the sizes that it needs.
                needed |= inspect.signature(value).parameters.keys()
        return needed


SIZES: dict[str, Callable[..., Any]] = dict(
    heads=lambda heads: heads,
    head_dim=lambda head_dim: head_dim,
    dim=lambda dim: dim,
    length=lambda length: length,
    key=lambda key: key,
)
"""What [`eqx_posemb.make`][] gets, as settings that are the same."""


def resolved(value: Any, sizes: Mapping[str, Any]) -> Any:
    """A setting of a row for a model of these sizes."""
    if not callable(value):
        return value
    return value(**{name: sizes[name] for name in inspect.signature(value).parameters})


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A question with the similar names, or an empty string if there are none."""
    close = difflib.get_close_matches(str(name)[:64].lower(), names, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
