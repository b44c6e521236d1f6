"""Training, the same for every embedding. All seeds are trained together."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, cast, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Int, PyTree

from .._positions._consecutive import consecutive
from . import _devices
from ._entries import Builder, Sizes
from ._model import At, at, Decoder, decoder, forward, score
from ._programs import Programs
from ._settings import Settings
from ._tasks import Task


# A program has at most so many steps and runs for about a second, so that Ctrl-C takes
# effect soon.
_STEPS = 32
_SECONDS = 1.0


class State(NamedTuple):
    """Training as far as it is: a first axis of all arrays is the seed."""

    model: Decoder
    optimizer: PyTree
    losses: list[list[float]]
    """The loss of each step and each seed, in bits for each answer."""


def untrained(build: Builder, settings: Settings, task: Task) -> Decoder:
    """The models before training, a seed each, stacked along a first axis."""
    sizes = Sizes.of(settings, task.length(settings))

    def of_seed(seed):
        key = jr.key(seed)
        embedding = build(sizes, jr.fold_in(key, 1))
        return decoder(embedding, settings, task.vocabulary, jr.fold_in(key, 0))

    stack = lambda *leaves: jnp.stack(leaves) if eqx.is_array(leaves[0]) else leaves[0]
    return jax.tree.map(stack, *map(of_seed, settings.every_seed))


class Training:
    """Trains models of one task. Embeddings of one structure share a program."""

    def __init__(self, settings: Settings, task: Task, programs: Programs):
        self._settings, self._task, self._programs = settings, task, programs
        self._length = task.length(settings)
        self._optimizer = _optimizer(settings)
        self._dtype = _devices.computing_dtype()
        self._advance = eqx.filter_jit(self._many_steps)

    def start(self, model: Decoder) -> State:
        """The state before the first step."""
        init: Any = eqx.filter_vmap(self._optimizer.init)
        return State(model, init(eqx.filter(model, eqx.is_inexact_array)), [])

    def prepare(self, state: State) -> None:
        """Compiles the program for a state like this one."""
        self._program(*_devices.replicated(state[:2]))

    def run(self, state: State, after: Callable[[State], None]) -> State:
        """Trains until all steps are done.

        **Arguments:**

        - `state`: where to go on.
        - `after`: called with the state, about once a second.

        **Returns:** the state after the last step.
        """
        settings = self._settings
        model, optimizer = _devices.replicated(state[:2])
        program, there = self._program(model, optimizer)
        losses, count = state.losses, 1
        while len(losses) < settings.steps:
            begin = time.monotonic()
            count = min(count, settings.steps - len(losses))
            batches = self._batches(len(losses), count)
            model, optimizer, found = program(model, optimizer, there, *batches)
            # A new list leaves the losses of earlier states unchanged.
            losses = losses + np.asarray(found)[:count].tolist()
            seconds = time.monotonic() - begin
            after(State(model, optimizer, losses))
            fits = int(count * _SECONDS / seconds)
            # All processes run the same number of steps, whatever their clocks measure.
            count = _devices.agreed(max(1, min(_STEPS, fits, 4 * count)))
        return State(model, optimizer, losses)

    def _program(self, model, optimizer):
        """The program of some steps, and the embedding at its positions, if no
        parameter of it is trained."""
        there = None
        if not jax.tree.leaves(eqx.filter(model.embedding, eqx.is_inexact_array)):
            there = _devices.replicated(self._at(model.embedding))
        arguments = model, optimizer, there, *self._batches(0, 1)
        return self._programs.compiled(self._advance, *arguments), there

    def _at(self, embedding) -> At:
        return at(embedding, consecutive(self._length), self._settings.dim)

    def _batches(self, first, count):
        """The examples of some steps, of a fixed size, and how many steps they are."""
        settings = self._settings
        found = [
            [self._task.batch(settings, seed, step) for seed in settings.every_seed]
            for step in range(first, first + count)
        ]
        # A fixed number of batches serves every count of steps with one compiled
        # program.
        found += [found[-1]] * (_STEPS - len(found))
        tokens, answers = np.moveaxis(np.array(found), 2, 0)
        return (
            _devices.sharded(tokens, 2, 0),
            _devices.sharded(answers, 2, -1),
            _devices.replicated(np.int32(count)),
        )

    def _many_steps(
        self,
        model: Decoder,
        optimizer: PyTree,
        there: At | None,
        tokens: Int[Array, "steps seeds batch seq"],
        answers: Int[Array, "steps seeds batch seq"],
        count: Int[Array, ""],
    ):
        arrays, static = eqx.partition((model, optimizer), eqx.is_array)

        def of_seed(arguments):
            arrays, tokens, answers = arguments
            model, optimizer = eqx.combine(arrays, static)
            *state, loss = self._step(model, optimizer, there, tokens, answers)
            return eqx.filter(tuple(state), eqx.is_array), loss

        def body(i, carry):
            arrays, losses = carry
            arrays, loss = _devices.each_seed(of_seed, (arrays, tokens[i], answers[i]))
            return arrays, losses.at[i].set(loss)

        losses = jnp.zeros(tokens.shape[:2])
        arrays, losses = jax.lax.fori_loop(0, count, body, (arrays, losses))
        return *eqx.combine(arrays, static), losses

    def _step(self, model, optimizer, there, tokens, answers):
        settings = self._settings

        @eqx.filter_value_and_grad
        def loss_and_gradients(model):
            placed = self._at(model.embedding) if there is None else there
            logits = forward(
                model.weights, placed, tokens, settings.heads, self._dtype, unroll=4
            )
            found = score(logits, answers)
            return found.bits / jnp.maximum(found.answers, 1.0)

        loss, gradients = loss_and_gradients(model)
        # Optax mixes floats and integers, which a strict JAX refuses.
        with jax.numpy_dtype_promotion("standard"):
            found = self._optimizer.update(gradients, optimizer)
        updates, optimizer = cast(tuple[Decoder, PyTree], found)
        # A step of Adam has the size of the learning rate in every unit. The rate for
        # weights of size 0.1 is too small for a bias in logits, and for a table as
        # large as tokens, in such a short training. T5 would stay near NoPE.
        faster = jax.tree.map(
            lambda update: settings.position_rate * update, updates.embedding
        )
        updates = dataclasses.replace(updates, embedding=faster)
        return eqx.apply_updates(model, updates), optimizer, loss


def _optimizer(settings):
    rate = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=max(1, settings.steps // 20),
        decay_steps=max(2, settings.steps),
        end_value=settings.learning_rate / 10,
    )
    # Less than one pass over the text needs no weight decay, which would pull
    # parameters of a bias to zero. One flat vector saves a tenth of a step.
    return optax.flatten(
        optax.chain(
            optax.clip_by_global_norm(1.0),
            # A rate of zero would waste the first step of the warmup.
            optax.adam(lambda count: rate(count + 1), b2=0.99),
        )
    )
