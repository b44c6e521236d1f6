"""Extensions of a trained rotary embedding, by the settings of their papers."""

import dataclasses
import math
from collections.abc import Callable

from .._bundle import PositionalEmbedding
from .._catalogue import Refused
from .._frequencies import (
    Divided,
    DynamicNTK,
    Linear,
    LongRoPEFrequencies,
    NTK,
    NTKByParts,
    YaRNFrequencies,
)
from .._rotary import (
    AbstractProducts,
    AbstractRotary,
    long_magnitude,
    magnitude,
    Rotary,
)
from .._rotary._extension import DualChunk, ReRoPE, SelfExtend


Extend = Callable[[PositionalEmbedding, float, int], PositionalEmbedding]
"""From a trained embedding, the multiple and the training length."""
Change = Callable[[Rotary, float, int], AbstractRotary | AbstractProducts]
"""The same from a trained rotary embedding."""


def of_rotary(change: Change) -> Extend:
    """The change of a rotary embedding as a change of the embedding around it."""

    def extend(embedding, factor, length):
        if not isinstance(embedding.rotary, Rotary):
            raise Refused(
                "an extension needs an embedding with a `Rotary`, but got a "
                f"{type(embedding.rotary).__name__}."
            )
        rotary = change(embedding.rotary, factor, length)
        return dataclasses.replace(embedding, rotary=rotary)

    return extend


def _of_frequencies(schedule, scale=lambda factor, length: 1.0):
    """A change of the frequencies, and by default not of the scale."""

    def change(rotary, factor, length):
        return dataclasses.replace(
            rotary,
            frequencies=schedule(rotary.frequencies, factor, length),
            # A trained embedding may have a scale already, so both scales multiply.
            scale=rotary.scale * scale(factor, length),
        )

    return change


def _longrope(base, factor, length):
    # The search of the paper starts from the divisors of NTK among others.
    count = base.pairs
    long = [factor ** (i / max(count - 1, 1)) for i in range(count)]
    return LongRoPEFrequencies(
        Divided(base, [1.0] * count), Divided(base, long), length
    )


def _self_extend(rotary, factor, length):
    window = max(1, length // 4)
    group = max(1, math.ceil((factor * length - window) / (length - window)))
    return SelfExtend(rotary, group=group, window=window)


EXTENSIONS: dict[str, tuple[Change, str]] = {
    "linear": (
        _of_frequencies(lambda base, factor, length: Linear(base, factor)),
        "Chen et al. (2023), Section 2.3: the factor is the multiple",
    ),
    "ntk": (
        _of_frequencies(lambda base, factor, length: NTK(base, factor)),
        "bloc97 (2023), in Peng et al. (2024), Section 3.1: the factor is the multiple",
    ),
    "dynamic": (
        _of_frequencies(lambda base, factor, length: DynamicNTK(base, 1.0, length)),
        "emozilla (2023), in Peng et al. (2024), Section 3.3: factor 1",
    ),
    "yarn": (
        _of_frequencies(YaRNFrequencies, lambda factor, length: magnitude(factor)),
        "Peng et al. (2024), Sections 3.2 to 3.4: the factor is the multiple, 1 and 32 "
        "turns",
    ),
    "llama3": (
        _of_frequencies(
            lambda base, factor, length: NTKByParts(base, factor, length, 1.0, 4.0)
        ),
        "Llama Team (2024), released code: the factor is the multiple, 1 and 4 turns",
    ),
    "longrope": (
        _of_frequencies(
            _longrope,
            long_magnitude,
        ),
        "Ding et al. (2024), Section 3: the divisors are NTK's, and are not searched",
    ),
    "rerope": (
        lambda rotary, factor, length: ReRoPE(rotary, window=max(1, length // 2)),
        "Su (2023): a window of half the length",
    ),
    "self_extend": (
        _self_extend,
        "Jin et al. (2024), Section 3: a window of a quarter of the length, and the "
        "smallest group that covers the multiple",
    ),
    "dual_chunk": (
        lambda rotary, factor, length: DualChunk(
            rotary, chunk=length, window=max(1, length // 4)
        ),
        "An et al. (2024), Section 3: chunks of three quarters of the length",
    ),
}
