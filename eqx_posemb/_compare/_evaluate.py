"""Evaluation at lengths that the model was not trained on."""

import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from ._model import bits_per_byte, Decoder
from ._settings import extended, EXTENSIONS, impossible, MULTIPLES, Settings
from ._text import passages, Text


def evaluate(
    model: Decoder, name: str, settings: Settings, text: Text, multiple: int
) -> float | str:
    """The bits per byte at a multiple of the training length.

    The predicted bytes are equal at every multiple. The multiple sets the context: a
    passage is cut into windows of its length.

    **Returns:** bits per byte, or the reason why there are none.
    """
    reason = impossible(name, multiple)
    if reason is not None:
        return reason
    if name in EXTENSIONS:
        rotary = extended(name, settings, multiple)
        model = eqx.tree_at(lambda model: model.embedding.rotary, model, rotary)
    whole = passages(text, length=settings.longest, most=settings.passages)
    # A passage at a time: dense attention over more of them would not fit.
    bits = [
        float(_bits(model, windows(passage, settings, multiple))) for passage in whole
    ]
    mean = float(np.mean(bits))
    return mean if math.isfinite(mean) else "the result is not a finite number"


def windows(passage: np.ndarray, settings: Settings, multiple: int) -> jnp.ndarray:
    """The windows of a passage: each starts with the last byte of the one before."""
    length = multiple * settings.length
    starts = np.arange(MULTIPLES[-1] // multiple)[:, None] * length
    return jnp.asarray(passage[starts + np.arange(length + 1)])


_bits = eqx.filter_jit(bits_per_byte)
