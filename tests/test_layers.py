"""Who imports whom, read from the imports, and how long files are."""

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path


PACKAGE = Path(__file__).parent.parent / "eqx_posemb"
FILES = sorted(PACKAGE.rglob("*.py"))
CORE = {"jax", "equinox", "jaxtyping", "numpy", "wadler_lindig"}
STANDARD = {
    "abc",
    "ast",
    "bisect",
    "collections",
    "dataclasses",
    "decimal",
    "difflib",
    "functools",
    "importlib",
    "inspect",
    "itertools",
    "math",
    "numbers",
    "operator",
    "pkgutil",
    "re",
    "sys",
    "types",
    "typing",
    "warnings",
}

# Each room, and the rooms it may look into.
BASE = {"_checks", "_given", "_layers", "_module", "_phase"}
BASE |= {"_sharding", "_symbolic"}
ROOMS = {
    "_checks": set(),
    "_module": {"_checks"},
    "_sharding": set(),
    "_symbolic": {"_sharding"},
    "_given": {"_checks", "_module"},
    "_phase": {"_given"},
    "_layers": {"_phase"},
    "_positions": BASE,
    "_spread": BASE | {"_positions"},
    "_buckets": {"_checks", "_phase"},
    "_low_rank": BASE,
    "_state_dicts": {"_checks"},
    "_frequencies": BASE | {"_state_dicts"},
    "_rotary": BASE | {"_frequencies", "_spread"},
    "_encoding": BASE | {"_frequencies", "_state_dicts"},
    "_bias": BASE
    | {"_buckets", "_low_rank", "_positions", "_encoding", "_spread", "_state_dicts"},
    "_score": BASE
    | {"_buckets", "_low_rank", "_positions", "_encoding", "_spread", "_state_dicts"},
    "_attention": {"_checks", "_given", "_low_rank", "_phase", "_positions", "_spread"}
    | {"_bias", "_rotary", "_score", "_sharding"},
    "_slots": {"_bias", "_checks", "_encoding", "_frequencies", "_rotary", "_score"},
    "_context": {"_attention", "_checks", "_frequencies", "_given"},
    "_attending": BASE | {"_attention", "_context", "_rotary"},
    "_placed": BASE
    | {"_attending", "_attention", "_bias", "_context", "_frequencies", "_rotary"}
    | {"_score"},
    "_bundle": BASE
    | {"_attention", "_bias", "_encoding", "_frequencies", "_rotary", "_score"}
    | {"_attending", "_placed", "_slots"},
    "functional": BASE
    | {"_bias", "_buckets", "_encoding", "_frequencies", "_rotary", "_score"},
    "_registry": {"_checks"},
    "_make": {"_bundle", "_checks", "_registry"},
}
# The rooms outside the core: they may use what they like, and nothing imports them.
OUTSIDE = {
    "__init__",
    "__main__",
    "_catalogue",
    "_compare",
    "_formula",
    "_inspect",
    "_moved",
    "_public",
    "abstract",
    "axes",
    "frequencies",
    "interop",
    "plot",
    "positions",
    "rotations",
}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


CORE_FILES = [path for path in FILES if room(path) not in OUTSIDE]


def imports(path: Path) -> tuple[set[str], set[str]]:
    """The rooms of the package, and the packages outside it, that a file imports."""
    depth = len(path.relative_to(PACKAGE).parts)
    rooms, packages = set(), set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.level == depth:
                names = [node.module] if node.module else [a.name for a in node.names]
                rooms |= {name.split(".")[0] for name in names}
        elif isinstance(node, ast.ImportFrom):
            packages.add((node.module or "").split(".")[0])
        elif isinstance(node, ast.Import):
            packages |= {alias.name.split(".")[0] for alias in node.names}
    return rooms - {room(path)}, packages


def test_a_file_imports_only_what_its_room_may():
    for path in CORE_FILES:
        here = room(path)
        rooms, packages = imports(path)
        assert here in ROOMS, f"say in this test which rooms {here} may look into"
        assert rooms <= ROOMS[here], f"{path} imports {rooms - ROOMS[here]}"
        foreign = packages - CORE - STANDARD
        assert not foreign, f"{path} imports {foreign}"


def files_imported_by(path: Path) -> Iterator[Path]:
    """The files of the package that a file imports, in calls as well. A folder that
    hands names on is no file here."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            folder = path.parents[node.level - 1]
            folder = folder.joinpath(*(node.module or "").split("."))
            every = [folder, *(folder / alias.name for alias in node.names)]
            yield from {each.with_suffix(".py") for each in every} & set(FILES)


def test_no_files_import_each_other_in_a_circle():
    graph = {path: [*files_imported_by(path)] for path in FILES}
    assert sum(map(len, graph.values())) > 500
    # Raises an error that names a circle.
    graphlib.TopologicalSorter(graph).prepare()


def test_rotary_and_bias_do_not_know_each_other():
    assert "_bias" not in ROOMS["_rotary"] and "_rotary" not in ROOMS["_bias"]


def test_loaders_do_not_know_each_other():
    folders = {"diffusers", "huggingface", "torch"}
    paths = [path for path in FILES if path.parent.parent == PACKAGE / "interop"]
    assert {path.parent.name for path in paths} == folders
    for path in paths:
        above = {
            node.module.split(".")[0]
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.ImportFrom) and node.level == 2 and node.module
        }
        assert not above & folders, f"{path} imports {above & folders}"


def test_the_registry_starts_without_jax():
    for path in FILES:
        if room(path) == "_registry":
            assert imports(path)[1] <= STANDARD, path


def test_a_file_is_short():
    lengths = {path: len(path.read_text().splitlines()) for path in FILES}
    assert not [path for path, length in lengths.items() if length > 400]


def test_no_module_has_state():
    """Module-level names are constants: tuples, numbers, strings, contexts."""
    mutable = ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp
    for path in CORE_FILES:
        for node in ast.parse(path.read_text()).body:
            value = getattr(node, "value", None)
            if isinstance(node, ast.Assign | ast.AnnAssign):
                assert not isinstance(value, mutable), f"{path}: {ast.unparse(node)}"
