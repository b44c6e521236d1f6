"""Every published variant, one row each, and how to build it by name."""

import difflib
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from jaxtyping import PRNGKeyArray

from ._bias import ALiBi, KERPLE, T5Bias
from ._bundle import PositionalEmbedding
from ._checks import check_at_least
from ._encoding import Learned, Sinusoidal
from ._rotary import (
    dynamic_ntk_rope,
    linear_rope,
    llama3_rope,
    longrope,
    NoPE,
    ntk_rope,
    proportional_rope,
    rope,
    xpos,
    yarn,
)


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
    scale: float | None = None
    """The factor of the logits, if it is not `1 / sqrt(head_dim)`."""

    def accepts(self) -> list[str]:
        """The settings that may be given by keyword."""
        names = inspect.signature(self.of).parameters
        return [name for name in names if name != "key"]

    def formula(self) -> str:
        """The formulas of the docstring, in LaTeX."""
        return "\n".join(re.findall(r"\$\$(.*?)\$\$", self._doc(), re.DOTALL)).strip()

    def reference(self) -> str:
        """Title, link and section of the paper, in Markdown."""
        head = self._doc().split('??? cite "Reference"')[1].split("```bibtex")[0]
        return " ".join(head.split())

    def bibtex(self) -> str:
        """The BibTeX entry of the paper."""
        (entry,) = re.findall(r"```bibtex\n(.*?)```", self._doc(), re.DOTALL)
        return inspect.cleandoc(entry)

    def _doc(self) -> str:
        return inspect.getdoc(self.of) or ""


VARIANTS: tuple[Variant, ...] = (
    Variant(
        name="nope",
        summary="no positional embedding; order from the causal mask alone",
        place="rotary",
        of=NoPE,
        settings=lambda sizes: {},
    ),
    Variant(
        name="sinusoidal",
        summary="sines and cosines added to tokens",
        place="encoding",
        of=Sinusoidal,
        settings=lambda sizes: dict(dim=sizes.dim),
        relative=False,
    ),
    Variant(
        name="learned",
        summary="a learned vector for each position added to tokens",
        place="encoding",
        of=Learned,
        settings=lambda sizes: dict(length=sizes.length, dim=sizes.dim),
        parameters=("weight",),
        relative=False,
        bounded=True,
    ),
    Variant(
        name="rope",
        summary="rotation by angles proportional to the position",
        place="rotary",
        of=rope,
        settings=lambda sizes: dict(dim=sizes.head_dim),
    ),
    Variant(
        name="proportional_rope",
        summary="rotation of the fastest pairs only (p-RoPE, Gemma 4)",
        place="rotary",
        of=proportional_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, fraction=0.5),
    ),
    Variant(
        name="xpos",
        summary="rotation, with logits that fade towards the past",
        place="rotary",
        of=xpos,
        settings=lambda sizes: dict(dim=sizes.head_dim),
        causal=True,
    ),
    Variant(
        name="linear_rope",
        summary="rotation stretched by interpolating positions",
        place="rotary",
        of=linear_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="ntk_rope",
        summary="rotation stretched by a larger base",
        place="rotary",
        of=ntk_rope,
        settings=lambda sizes: dict(dim=sizes.head_dim, factor=4.0),
    ),
    Variant(
        name="dynamic_ntk_rope",
        summary="rotation stretched as much as the length in use needs",
        place="rotary",
        of=dynamic_ntk_rope,
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=1.0, original_length=sizes.length
        ),
        dynamic=True,
    ),
    Variant(
        name="yarn",
        summary="rotation stretched pair by pair, with sharper attention",
        place="rotary",
        of=yarn,
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=4.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="llama3_rope",
        summary="rotation stretched pair by pair as in Llama 3.1",
        place="rotary",
        of=llama3_rope,
        settings=lambda sizes: dict(
            dim=sizes.head_dim, factor=8.0, original_length=sizes.length
        ),
    ),
    Variant(
        name="longrope",
        summary="rotation stretched by searched numbers beyond a length (Phi-3)",
        place="rotary",
        of=longrope,
        # The published numbers belong to a checkpoint. Without one: no change up to
        # the length, interpolation by 4 beyond it.
        settings=lambda sizes: dict(
            dim=sizes.head_dim,
            short_factor=(1.0,) * (sizes.head_dim // 2),
            long_factor=(4.0,) * (sizes.head_dim // 2),
            original_length=sizes.length,
            factor=4.0,
        ),
        dynamic=True,
    ),
    Variant(
        name="alibi",
        summary="a fixed penalty linear in the distance",
        place="bias",
        of=ALiBi,
        settings=lambda sizes: dict(heads=sizes.heads),
        causal=True,
    ),
    Variant(
        name="t5",
        summary="a learned number for each bucket of distances",
        place="bias",
        of=T5Bias,
        settings=lambda sizes: dict(heads=sizes.heads, std=sizes.dim**-0.5),
        parameters=("weight",),
        scale=1.0,
    ),
    Variant(
        name="kerple",
        summary="a learned penalty logarithmic in the distance",
        place="bias",
        of=KERPLE,
        settings=lambda sizes: dict(heads=sizes.heads, kind="log"),
        parameters=("raw_a", "raw_r"),
    ),
    Variant(
        name="kerple_power",
        summary="a learned penalty that is a power of the distance",
        place="bias",
        of=KERPLE,
        settings=lambda sizes: dict(heads=sizes.heads, kind="power"),
        parameters=("raw_a", "raw_r"),
    ),
)


def variants() -> tuple[str, ...]:
    """The names that [`eqx_posemb.make`][] knows.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert "rope" in pe.variants()
        ```

    **Returns:** the names of all variants, in the order of the registry.
    """
    return tuple(variant.name for variant in VARIANTS)


def variant(name: str) -> Variant:
    """The row of that name. If there is none, the error names what is close."""
    for row in VARIANTS:
        if row.name == name:
            return row
    raise ValueError(
        f"`name` must be one of {', '.join(variants())}, but got {name!r}."
        + did_you_mean(name, variants())
    )


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """A question that names what is close to `name`; nothing if nothing is."""
    close = difflib.get_close_matches(name.lower(), names, n=3)
    return f" Did you mean {' or '.join(map(repr, close))}?" if close else ""


def make(
    name: str,
    *,
    heads: int,
    head_dim: int,
    dim: int,
    length: int,
    key: PRNGKeyArray,
    **settings: Any,
) -> PositionalEmbedding:
    """Builds any embedding of the registry by its name.

    So that a model can have its embedding chosen by a string, and an experiment can
    loop over all of them. What a variant does not need it does not look at: rotary
    embeddings read `head_dim`, encodings `dim`, biases `heads`. Settings that a paper
    leaves to the user, such as the factor of a stretch, have an example value here;
    `eqx-posemb show NAME` prints them.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe

        embedding = pe.make(
            "yarn",
            heads=8,
            head_dim=64,
            dim=512,
            length=2048,
            key=jax.random.key(0),
            factor=8.0,
        )
        assert embedding.rotary is not None
        ```

    **Arguments:**

    - `name`: A name from [`eqx_posemb.variants`][].
    - `heads`: The number of heads of queries.
    - `head_dim`: The number of channels of a head.
    - `dim`: The number of channels of a token.
    - `length`: The context length, in positions, that the model is trained on.
    - `key`: A `jax.random` key, for the variants that have parameters.
    - `settings`: Settings of the class or recipe behind the name.

    **Returns:** a [`eqx_posemb.PositionalEmbedding`][].

    **Raises:** a `ValueError` if `name` or a setting is unknown, if a size is not
    positive, or as the class or recipe does.
    """
    row = variant(name)
    sizes = Sizes(heads, head_dim, dim, length)
    for field, value in sizes._asdict().items():
        check_at_least(field, value, 1)
    unknown = sorted(settings.keys() - set(row.accepts()))
    if unknown:
        raise ValueError(
            f"`{name}` has the settings {', '.join(row.accepts())}, but got "
            f"{', '.join(unknown)}."
        )
    given = {**row.settings(sizes), **settings}
    if "key" in inspect.signature(row.of).parameters:
        given["key"] = key
    return PositionalEmbedding(**{row.place: row.of(**given)}, scale=row.scale)
