"""Classes and recipes as their files have them, read without importing JAX."""

import ast
import inspect
import pkgutil
import re
from collections.abc import Iterator


class Source:
    """A class or a recipe: its docstring, its settings and its traits."""

    def __init__(self, path: str):
        """**Arguments:**

        - `path`: The module within the package, and the name: `"_bias._fire.FIRE"`.
        """
        module, _, name = path.rpartition(".")
        package, _, _ = __name__.partition(".")
        # The file is read and not imported, so the command line starts without JAX.
        file = pkgutil.get_data(package, f"{module.replace('.', '/')}.py") or b""
        text = file.decode()
        # No more of the file than that is parsed, as all variants are in some lists.
        own = rf"^(?:class|def) {name}\b.*?(?=^[^\s)]|\Z)"
        (code,) = re.findall(own, text, re.DOTALL | re.MULTILINE)
        (self._node,) = ast.parse(code).body
        assigned = rf'^{name}\.__init__\.__doc__ = """(.*?)"""'
        self._assigned = re.findall(assigned, text, re.DOTALL | re.MULTILINE)
        self.doc = ast.get_docstring(self._node) or ""

    def _part(self, heading: str) -> str:
        """A part of the docstring, without its indentation."""
        _, _, rest = self.doc.partition(heading + "\n")
        (part,) = re.findall(r"\A(?:    .*\n?|\n)*", rest)
        return inspect.cleandoc(part)

    @property
    def prose(self) -> str:
        """What the docstring says before its example and its arguments."""
        return re.split(r"\n(?:!!!|\?\?\?|\*\*Arguments)", self.doc)[0].strip()

    @property
    def example(self) -> str:
        """Code that runs."""
        return _fenced(self._part("!!! Example"), "python")

    @property
    def reference(self) -> str:
        """Title, link and section of the paper, in Markdown."""
        return " ".join(self._part('??? cite "Reference"').split("```")[0].split())

    @property
    def bibtex(self) -> str:
        """The BibTeX entry of the paper."""
        return _fenced(self._part('??? cite "Reference"'), "bibtex")

    @property
    def traits(self) -> tuple[str, ...]:
        """The class attribute of that name."""
        for node in self._class_body():
            if (
                isinstance(node, ast.Assign)
                and ast.unparse(node.targets[0]) == "traits"
            ):
                return ast.literal_eval(node.value)
        return ()

    @property
    def arrays(self) -> tuple[str, ...]:
        """The fields of the class that always hold parameters."""
        return tuple(
            ast.unparse(node.target)
            for node in self._class_body()
            if isinstance(node, ast.AnnAssign)
            # An optional array may be absent, so it proves no parameters.
            and re.search(r"\bArray\b(?!.*\bNone\b)", ast.unparse(node.annotation))
        )

    def settings(self) -> dict[str, str | None]:
        """The arguments, and their defaults as the source has them."""
        if (made := self._init()) is None:
            return dict(self._fields())
        given = [*made.args.posonlyargs, *made.args.args]
        defaults = [None] * (len(given) - len(made.args.defaults)) + made.args.defaults
        given, defaults = given + made.args.kwonlyargs, defaults + made.args.kw_defaults
        return {
            argument.arg: None if default is None else ast.unparse(default)
            for argument, default in zip(given, defaults, strict=True)
            if argument.arg != "self"
        }

    def parameters(self) -> dict[str, bool]:
        """The arguments, and which of them are required."""
        return {name: value is None for name, value in self.settings().items()}

    def meanings(self) -> dict[str, str]:
        """What the docstring says of each argument."""
        items = re.findall(
            r"^- (`.*?`): (.*?)(?=^-|^\*\*|^[?!]{3}|\Z)",
            self._arguments(),
            re.DOTALL | re.MULTILINE,
        )
        return {
            name: " ".join(text.split())
            for names, text in items
            for name in re.findall("`(.*?)`", names)
        }

    def _arguments(self) -> str:
        """The docstring that explains the arguments."""
        if isinstance(self._node, ast.FunctionDef):
            return self.doc.partition("**Arguments:**")[2]
        if (made := self._init()) is not None:
            return ast.get_docstring(made) or ""
        return "".join(self._assigned)

    def _class_body(self) -> list[ast.stmt]:
        return self._node.body if isinstance(self._node, ast.ClassDef) else []

    def _init(self) -> ast.FunctionDef | None:
        if isinstance(self._node, ast.FunctionDef):
            return self._node
        for node in self._node.body:
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                return node
        return None

    def _fields(self) -> Iterator[tuple[str, str | None]]:
        """Fields of a dataclass, and defaults among the keywords of `eqx.field`."""
        for node in self._class_body():
            if isinstance(node, ast.AnnAssign):
                value = node.value
                if isinstance(value, ast.Call):
                    keywords = {word.arg: word.value for word in value.keywords}
                    value = keywords.get("default")
                yield ast.unparse(node.target), value and ast.unparse(value)


def _fenced(text: str, language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return code.strip()
