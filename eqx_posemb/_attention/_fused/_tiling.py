"""The tiling of attention: which tiles are computed, and what hides a pair."""

import abc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.experimental
import jax.numpy as jnp
from jaxtyping import Array, Float


LOG2_E = 1.4426950408889634
_LARGEST = float(jnp.finfo(jnp.float32).max)
# Masked logits are below the start of the running maximum. A fully masked query then
# has weights of zero, and no infinity appears.
MASKED, START = -0.95 * _LARGEST, -0.9 * _LARGEST
# The dimensions of products: over channels, over tokens, and over the rows of both.
OF_FEATURES = (((1,), (1,)), ((), ()))
OF_TOKENS = (((1,), (0,)), ((), ()))
OF_ROWS = (((0,), (0,)), ((), ()))


class Given(NamedTuple):
    """The inputs of a kernel, their blocks, or the gradients with respect to them."""

    q: Float[Array, "heads q dim"]
    """Queries padded to whole blocks, as keys and values are."""
    k: Float[Array, "kv_heads k dim"]
    v: Float[Array, "kv_heads k dim_v"]
    ids: list[Any]
    """The segments of queries and of keys, [1, tokens], if there are any."""
    strip: list[Float[Array, "heads 1 places"]]
    """The bias of each distance, in base 2, or nothing."""
    band: list[Array]
    """A score by distance, in base 2, or nothing: queries, [heads, q, dim]; the vector
    of each distance, [1 or heads, places, dim]; a number for each key, [heads, 1, k].
    """


@dataclass(frozen=True)
class AbstractTiling(abc.ABC):
    """The tiling of attention, which is static."""

    scale: float
    soft_cap: float | None
    ahead: int | None
    """The largest distance of an unmasked key ahead of its query."""
    behind: int | None
    counts: tuple[int, int]
    """The numbers of queries and of keys."""
    padded: tuple[int, int]
    """The numbers of tokens in whole blocks."""
    q: int
    """The queries of a tile."""
    k: int
    bias: bool
    """Whether there is a strip."""
    segments: bool
    interpret: bool

    @property
    def rows(self) -> int:
        return -(-self.counts[0] // self.q)

    @property
    def columns(self) -> int:
        return -(-self.counts[1] // self.k)

    @property
    def places(self) -> int:
        """The places of a strip: it has one for each distance of the padded tokens."""
        return sum(self.padded)

    # Which tiles are computed

    def needed_key(self, i, j, offset):
        """The column, or the nearest column with an unmasked key.

        The pipeline copies no block whose index has not changed. Fully masked tiles
        therefore read nothing.
        """
        first, last = 0, self.columns - 1
        if self.ahead is not None:
            end = self.ahead - offset[0] + (i + 1) * self.q - 1
            last = jnp.minimum(jax.lax.div(jnp.maximum(end, 0), self.k), last)
        if self.behind is not None:
            start = i * self.q - self.behind - offset[0]
            first = jax.lax.div(jnp.maximum(start, 0), self.k)
        return jnp.minimum(jnp.maximum(j, first), last)

    def needed_query(self, i, j, offset):
        """The row, or the nearest row with a query that attends to the column."""
        first, last = 0, self.rows - 1
        if self.behind is not None:
            end = self.behind + offset[0] + (j + 1) * self.k - 1
            last = jnp.minimum(jax.lax.div(jnp.maximum(end, 0), self.q), last)
        if self.ahead is not None:
            start = j * self.k - self.ahead + offset[0]
            first = jax.lax.div(jnp.maximum(start, 0), self.q)
        return jnp.minimum(jnp.maximum(i, first), last)

    def unmasked(self, i, j, offset) -> tuple[list, list]:
        """Conditions by distance for some pairs of a tile, and for every pair, to be
        unmasked."""
        nearest = j * self.k - i * self.q + offset[0]
        lowest, highest = nearest - (self.q - 1), nearest + (self.k - 1)
        some, every = [], []
        if self.ahead is not None:
            some.append(lowest <= self.ahead)
            every.append(highest <= self.ahead)
        if self.behind is not None:
            some.append(highest >= -self.behind)
            every.append(lowest >= -self.behind)
        return some, every

    # The logits of a tile

    def capped(self, logits):
        """Logits in base 2 under the soft cap, and its slope."""
        if self.soft_cap is None:
            return logits, None
        cap = self.soft_cap * LOG2_E
        bounded = jnp.tanh(logits / cap)
        return cap * bounded, 1 - bounded * bounded

    def masked(self, logits, i, j, offset, same, transposed):
        """The logits of a tile with its masks, queries by keys or keys by queries.
        `same` says whether two tokens are of one segment, if there are any."""
        of_q, of_k = (1, 0) if transposed else (0, 1)
        iota = partial(jax.lax.broadcasted_iota, jnp.int32, logits.shape)
        conditions = [*same]
        nearest = j * self.k - i * self.q + offset[0]
        if self.ahead is not None:
            conditions.append(iota(of_k) - iota(of_q) <= self.ahead - nearest)
        if self.behind is not None:
            conditions.append(iota(of_k) - iota(of_q) >= -self.behind - nearest)
        if self.counts[1] % self.k:
            conditions.append(iota(of_k) < self.counts[1] - j * self.k)
        return jnp.where(every(conditions), logits, MASKED) if conditions else logits


def in_32_bits(call: Callable) -> Callable:
    """The same call, whose indices have 32 bits where `jax_enable_x64` is set."""
    # Before JAX 0.8, the setting was an experiment.
    scope: Any = jax if hasattr(jax, "enable_x64") else jax.experimental

    def called(*arguments):
        with scope.enable_x64(False):
            return call(*arguments)

    return called


def every(conditions):
    """Whether all conditions hold, of which there is at least one."""
    found = conditions[0]
    for condition in conditions[1:]:
        found &= condition
    return found


def product(a, b, dimensions, precision=None):
    return jax.lax.dot_general(
        a, b, dimensions, precision=precision, preferred_element_type=jnp.float32
    )
