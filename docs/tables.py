"""Writes the tables of variants again: `python docs/tables.py`.

`docs/variants.md` is a whole page. The names in the README, and the table of kernels in
`docs/guides/accelerators.md`, stand between marks. A line
`<!-- variants: PLACE KIND -->` of a page becomes the entries of these variants when the
site is built.
"""

import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp

import eqx_posemb as pe
from eqx_posemb._catalogue import markdown_names, markdown_page
from eqx_posemb._registry import resolved, Variant, VARIANTS


ROOT = Path(__file__).parent.parent
KERNELS = ROOT / "docs/guides/accelerators.md"
SIZES = dict(heads=8, head_dim=64, dim=512, length=4096)


def with_names(readme: str) -> str:
    """Returns the README with the names that the registry has."""
    marked = re.compile(r"(?<=<!-- names -->\n).*?(?=\n<!-- /names -->)", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise ValueError("The README must have one part between the marks of `names`.")
    return marked.sub(lambda _: markdown_names(), readme)


def with_entries(page: str) -> str:
    """Returns a page of the reference with an entry for each variant that it names."""
    marked = re.compile(r"^<!-- variants: (\w+) (\w+) -->$", re.MULTILINE)
    return marked.sub(lambda mark: "\n\n".join(_entries(*mark.groups())), page)


def _entries(place: str, kind: str) -> list[str]:
    names = [
        f"::: eqx_posemb.{row.builder}"
        for row in VARIANTS
        if row.place == place and kind in _kinds(row)
    ]
    return list(dict.fromkeys(names))


def _kinds(row: Variant) -> tuple[str, str]:
    on_grid = isinstance(row.axes, int) and row.axes > 1
    is_class = row.builder[0].isupper() or row.place != "rotary"
    return "grids" if on_grid else "sequences", "classes" if is_class else "recipes"


def with_kernels(page: str) -> str:
    """Returns the page with what a TPU or GPU has for each row of the registry."""
    marked = re.compile(r"(?<=<!-- kernels -->\n).*?(?=\n<!-- /kernels -->)", re.DOTALL)
    if len(marked.findall(page)) != 1:
        raise ValueError("The page must have one part between the marks of `kernels`.")
    rows = ["| name | place | on TPU and GPU | why |", "|---|---|---|---|"]
    for row in VARIANTS:
        lines = explained(row).splitlines()
        fused = lines[0].startswith("tpu: one fused kernel")
        why = "" if fused else lines[1].removeprefix("There is no fused kernel. ")
        how = "fused" if fused else "blocks"
        rows.append(f"| `{row.name}` | {row.place} | {how} | {why} |")
    return marked.sub(lambda _: "\n" + "\n".join(rows) + "\n", page)


def explained(row) -> str:
    """What `attend` does for a row, at positions that are stated to be consecutive, or
    at the cells of a grid."""
    found = []

    def explain(x, hidden, cells):
        embedding = pe.make(row.name, **SIZES, key=jax.random.key(0))
        p = pe.positions.consecutive(SIZES["length"]) if axes == 1 else cells
        states = {name: hidden for name in embedding.reads}
        causal = axes == 1
        found.append(embedding.explain(x, x, x, p, p, causal=causal, **states))

    axes = resolved(row.axes, SIZES)
    heads, length = SIZES["heads"], SIZES["length"]
    eqx.filter_eval_shape(
        explain,
        jax.ShapeDtypeStruct((heads, length, SIZES["head_dim"]), jnp.float32),
        jax.ShapeDtypeStruct((length, SIZES["dim"]), jnp.float32),
        jax.ShapeDtypeStruct((length, axes), jnp.int32),
    )
    return found[0]


def main() -> None:
    KERNELS.write_text(with_kernels(KERNELS.read_text()))
    (ROOT / "docs/variants.md").write_text(markdown_page() + "\n")
    readme = ROOT / "README.md"
    readme.write_text(with_names(readme.read_text()))


if __name__ == "__main__":
    main()
