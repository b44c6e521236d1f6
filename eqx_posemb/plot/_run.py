"""The command `plot`: from arguments to files."""

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from .._bundle import PositionalEmbedding
from .._catalogue import find, Refused
from .._encoding._learned_grid import LearnedGrid
from .._frequencies import LearnedFrequencies
from .._inspect import chosen, facts_of, refused
from .._make import make
from .._registry import EXAMPLE, resolved, variants
from .._rotary import Chain, Rotary
from ..interop.huggingface import load
from ._decay import decay
from ._extrapolation import extrapolation
from ._maps import bias, similarity
from ._schedules import schedule, wavelengths


class _Subject(NamedTuple):
    """The embedding to draw, and the data that its pictures need."""

    name: str
    embedding: PositionalEmbedding
    context: int
    axes: int = 1
    causal: bool = False
    heads: int = 1
    head_dim: int = 64
    untrained: bool = False

    @property
    def label(self) -> str:
        """The name in a legend, which states initial values."""
        return f"{self.name} (initial values)" if self.untrained else self.name


def run(options: argparse.Namespace) -> None:
    """Draws every picture of an embedding, and prints the names of the files."""
    folder = Path(options.out)
    count = 0
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in _pictures(options):
            path = folder / f"{name}.{options.format}"
            figure.savefig(path, dpi=200)
            print(path)
            count += 1
    except OSError as error:
        raise Refused(
            f"cannot write to the folder {options.out!r}: {error.strerror}. Give "
            "another one by --out."
        ) from error
    if not count:
        raise Refused(
            f"there is no picture of {options.what!r}: its positions have more than "
            "three coordinates, or its logits need a model around it."
        )


def _pictures(options) -> Iterator[tuple[str, Any]]:
    if options.others:
        names = [options.what, *options.others]
        yield "-".join([*names, "decay"]), _overlaid(options, names)
        return
    path = Path(options.what)
    results = _results(path)
    if results is not None:
        yield f"{path.stem}-extrapolation", extrapolation(results)
        return
    # A file with the name of a variant must not hide the variant.
    is_file = path.suffix == ".json" or (
        path.exists() and options.what not in variants()
    )
    if not is_file and (options.part or options.model_type or options.layer_type):
        raise Refused(
            "--part, --model-type and --layer-type choose within a config.json, and "
            f"{options.what!r} is none."
        )
    for subject in _of_file(options) if is_file else [_of_name(options, options.what)]:
        for kind, figure in _of_subject(subject):
            yield f"{subject.name}-{kind}", figure


def _overlaid(options, names) -> Any:
    """The decay of several embeddings in one picture."""
    subjects = [_of_name(options, name) for name in names]
    for subject in subjects:
        embedding = subject.embedding
        if embedding.reads or embedding.encoding is not None or subject.axes > 1:
            raise Refused(
                f"{subject.name!r} has no curve over the distance, as it is an "
                "encoding, has several coordinates, or reads the states of a model. "
                "Plot it alone."
            )
    longest = max(subject.context for subject in subjects)
    return decay(
        {subject.label: subject.embedding for subject in subjects},
        heads=EXAMPLE["heads"],
        head_dim=EXAMPLE["head_dim"],
        length=min(longest, 8192),
    )


def _of_subject(subject: _Subject) -> Iterator[tuple[str, Any]]:
    embedding, context = subject.embedding, subject.context
    sizes = dict(heads=subject.heads, head_dim=subject.head_dim)
    for part in _rotaries(embedding):
        frequencies = part.frequencies
        if not isinstance(frequencies.unscaled, LearnedFrequencies):
            yield "wavelengths", wavelengths(frequencies, context=context)
            if frequencies.for_length(context).scaling_factor > 1:
                yield "schedule", schedule(frequencies, context=context)
    if subject.axes > 3:
        return
    side = min(math.isqrt(context), 14)
    shapes = (min(context, 128),), (side, side), (4, side, side)
    shape = shapes[subject.axes - 1]
    if isinstance(embedding.encoding, LearnedGrid):
        shape = tuple(min(size, 14) for size in embedding.encoding.shape)
    if embedding.bias is not None:
        yield "bias", bias(embedding.bias, shape=shape, causal=subject.causal)
    if embedding.reads:
        return
    if embedding.encoding is not None or subject.axes > 1:
        yield "similarity", similarity(embedding, shape=shape, **sizes)
    else:
        length = min(context, 8192)
        yield "decay", decay({subject.label: embedding}, length=length, **sizes)


def _of_name(options, name) -> _Subject:
    row = find(name)
    embedding = make(row.name, key=jax.random.key(0), **EXAMPLE)
    return _Subject(
        row.name,
        embedding,
        context=options.length or _meant_for(embedding),
        axes=resolved(row.axes, EXAMPLE),
        causal=row.has("causal"),
        heads=EXAMPLE["heads"],
        head_dim=EXAMPLE["head_dim"],
        untrained=row.is_trained(),
    )


def _of_file(options) -> Iterator[_Subject]:
    """One subject for each kind of layers with positions."""
    keys, own = chosen(options.what, part=options.part, model_type=options.model_type)
    try:
        facts = facts_of(keys, own, engine := options.engine_keys)
        kinds = [kind for kind in facts["kinds"] if kind["attention"]]
        wanted = options.layer_type
        if wanted is not None:
            known = [kind["layer_type"] for kind in kinds]
            kinds = [kind for kind in kinds if kind["layer_type"] == wanted]
            if not kinds:
                raise Refused(
                    f"{options.what!r} has no layers of the type {wanted!r} with "
                    f"attention: it has {', '.join(known) or 'none at all'}."
                )
        for kind in kinds:
            label = kind["layer_type"]
            made = load(keys, layer_type=label, model_type=own, engine_keys=engine)
            name = Path(options.what).stem
            (rotary,) = _rotaries(made)[:1] or (None,)
            axes = 1
            if isinstance(made.encoding, LearnedGrid):
                axes = len(made.encoding.shape)
            if rotary is not None and rotary.axes is not None:
                axes = rotary.axes.coordinates
            yield _Subject(
                name if len(kinds) == 1 else f"{name}-{label}",
                made,
                context=options.length or facts["context"] or _meant_for(made),
                axes=axes,
                heads=_heads(made),
                head_dim=64 if rotary is None else rotary.dim,
            )
    except ValueError as error:
        raise refused(error) from error


def _rotaries(embedding) -> list[Rotary]:
    rotary = embedding.rotary
    parts = rotary.parts if isinstance(rotary, Chain) else (rotary,)
    # Extensions wrap a rotary embedding.
    parts = [getattr(part, "rotary", part) for part in parts]
    return [part for part in parts if isinstance(part, Rotary)]


def _meant_for(embedding) -> int:
    """The context of a scaled schedule, or a default length."""
    for part in _rotaries(embedding):
        original = getattr(part.frequencies, "original_length", None)
        if original is not None:
            return int(original * max(part.frequencies.scaling_factor, 4.0))
    return EXAMPLE["length"]


def _heads(embedding) -> int:
    if embedding.bias is None:
        return 1
    here = jnp.arange(1)
    return len(embedding.bias(here, here))


def _results(path: Path) -> dict[str, Any] | None:
    """The results of a comparison, if the file holds them."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    is_results = (
        isinstance(found, dict) and {"results", "settings", "tasks"} <= found.keys()
    )
    return found if is_results else None
