"""What a row of the registry says of an embedding."""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple


class Sizes(NamedTuple):
    """What every model can say of itself."""

    heads: int
    head_dim: int
    dim: int
    length: int


@dataclass(frozen=True)
class Variant:
    """A row of the registry.

    `of` is the class or recipe, whose docstring has the formula and the citation, and
    `settings` says what [`eqx_posemb.make`][] gives it where the user does not.
    """

    name: str
    summary: str
    place: Literal["encoding", "rotary", "bias", "score"]
    of: Callable[..., Any]
    oracle: str
    """What the tests compare its numbers with: the code of its authors or of a library
    that has its models, or the formula of the paper, written once more in NumPy."""
    settings: Callable[[Sizes], Mapping[str, Any]]
    parameters: tuple[str, ...] = ()
    """The trained arrays, as paths within the part."""
    relative: bool = True
    """Whether logits depend on positions by their differences alone."""
    bounded: bool = False
    """Whether positions from `length` on are refused."""
    dynamic: bool = False
    """Whether the result depends on the length in use."""
    causal: bool = False
    """Whether it is meant for causal attention only."""
    axes: Callable[[Sizes], int] | None = None
    """How many coordinates a position has, if it is more than a number."""
    prefix: int = 0
    """How many tokens it knows that are on no grid, such as [CLS]."""
    scale: Callable[[Sizes], float] | None = None
    """The factor of the logits, if it is not `1 / sqrt(head_dim)`."""

    def accepts(self) -> list[str]:
        """The settings that may be given by keyword."""
        names = inspect.signature(self.of).parameters
        return [name for name in names if name != "key"]

    def formula(self) -> str:
        """The formulas of the docstring, in LaTeX."""
        return "\n".join(re.findall(r"\$\$(.*?)\$\$", self.doc(), re.DOTALL)).strip()

    def reference(self) -> str:
        """Title, link and section of the paper, in Markdown."""
        head = self.doc().split('??? cite "Reference"')[1].split("```bibtex")[0]
        return " ".join(head.split())

    def bibtex(self) -> str:
        """The BibTeX entry of the paper."""
        (entry,) = re.findall(r"```bibtex\n(.*?)```", self.doc(), re.DOTALL)
        return inspect.cleandoc(entry)

    def doc(self) -> str:
        """The docstring, from the source where `python -OO` has removed it."""
        if sys.flags.optimize < 2:
            return inspect.getdoc(self.of) or ""
        module = ast.parse(inspect.getsource(sys.modules[self.of.__module__]))
        (found,) = (
            node
            for node in module.body
            if isinstance(node, ast.ClassDef | ast.FunctionDef)
            and node.name == self.of.__name__
        )
        return ast.get_docstring(found) or ""
