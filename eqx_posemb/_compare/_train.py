"""Training, the same for every embedding."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

from .._bundle import PositionalEmbedding
from ._model import bits_per_byte, Decoder
from ._settings import Settings
from ._text import batch, Text


def untrained(embedding: PositionalEmbedding, settings: Settings) -> Decoder:
    """The model before training: the same weights around any embedding."""
    return Decoder(
        embedding,
        dim=settings.dim,
        heads=settings.heads,
        depth=settings.depth,
        key=jr.fold_in(jr.key(settings.seed), 0),
    )


def train(
    model: Decoder,
    settings: Settings,
    text: Text,
    report: Callable[[float], None],
) -> tuple[Decoder, list[float]]:
    """Trains on the text; the data of each step depend on the seed alone.

    **Arguments:**

    - `model`: the untrained model.
    - `settings`: the numbers of steps and windows, and the learning rates.
    - `text`: what to train on.
    - `report`: called with the loss of each step, in bits per byte.

    **Returns:** the trained model, and the loss of each step.
    """
    optimizer = _optimizer(settings)
    state = optimizer.init(eqx.filter(model, eqx.is_inexact_array))

    @eqx.filter_jit
    def step(model, state, windows):
        loss, gradients = eqx.filter_value_and_grad(bits_per_byte)(model, windows)
        # Optax mixes floats and integers, which a strict JAX refuses.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradients, state)
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for index in range(settings.steps):
        windows = batch(
            text,
            size=settings.batch,
            length=settings.length,
            seed=settings.seed,
            step=index,
        )
        model, state, loss = step(model, state, jnp.asarray(windows))
        losses.append(float(loss))
        report(losses[-1])
    return model, losses


def _optimizer(settings):
    rate = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=max(1, settings.steps // 20),
        decay_steps=max(2, settings.steps),
        end_value=settings.learning_rate / 10,
    )
    # No weight decay: less than one pass over the text needs none, and it would pull
    # the learned parameters of a bias to zero.
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        # Not from zero: the first step of the warmup would be lost.
        optax.adam(lambda count: rate(count + 1), b2=0.99),
        # A step of Adam has the size of the learning rate in every unit. The rate for
        # weights of size 0.1 is too small for a bias in logits, and for a table as
        # large as tokens, in such a short training. T5 would stay near NoPE.
        optax.masked(optax.scale(settings.position_rate), _of_embedding),
    )


def _of_embedding(tree):
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[0].name == "embedding", tree
    )
