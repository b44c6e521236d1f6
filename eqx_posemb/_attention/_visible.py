"""The masks: which keys a query attends to."""

import dataclasses
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Num

from .._checks import described, is_integer
from .._given import as_ids, as_integers, check_array, Positions
from .._positions import distance
from .._sharding import gathered


Window = int | tuple[int, int]


class Rules(eqx.Module):
    """All masks of a call. A key is unmasked if every rule allows it."""

    # True marks a key that a query attends to.
    mask: Bool[Array, "*heads q k"] | None
    # Tokens attend to tokens of the same id alone.
    q_segments: Int[Array, " q"] | None
    k_segments: Int[Array, " k"] | None
    # A static rule that is off leaves no comparison in the compiled program.
    causal: bool = eqx.field(static=True)
    # The pair has the numbers of positions back and ahead that stay unmasked.
    reach: tuple[int, int] | None = eqx.field(static=True)

    @property
    def there(self) -> bool:
        """Whether any rule masks keys."""
        arrays = (self.mask, self.q_segments)
        return self.ordered or any(array is not None for array in arrays)

    @property
    def ordered(self) -> bool:
        """Whether a rule compares positions."""
        return self.causal or self.reach is not None

    @property
    def unordered(self) -> "Rules":
        """The rules without those that compare positions."""
        return dataclasses.replace(self, causal=False, reach=None)

    def each(self, of_q: Callable, of_k: Callable) -> "Rules":
        """Maps `of_q(axis, x)` over the axis of queries of each array, and `of_k` over
        the axis of keys."""
        mask, q, k = self.mask, self.q_segments, self.k_segments
        if mask is not None:
            mask = of_k(mask.ndim - 1, of_q(mask.ndim - 2, mask))
        if q is not None and k is not None:
            q, k = of_q(0, q), of_k(0, k)
        return dataclasses.replace(self, mask=mask, q_segments=q, k_segments=k)

    @property
    def gathered(self) -> "Rules":
        """The rules with all segments on every device."""
        q, k = gathered((self.q_segments, self.k_segments))
        return dataclasses.replace(self, q_segments=q, k_segments=k)

    @property
    def bounds(self) -> tuple[int | None, int | None]:
        """How many positions back and ahead are unmasked, where a rule bounds them."""
        back, ahead = self.reach or (None, None)
        return back, 0 if self.causal else ahead

    def shown(self, delta: Num[Array, "*shape"]) -> Bool[Array, "*shape"]:
        """Whether keys at a distance are unmasked, by all masks that compare
        positions."""
        shown, (back, ahead) = jnp.ones(delta.shape, bool), self.bounds
        if ahead is not None:
            shown &= delta <= ahead
        if back is not None:
            shown &= -back <= delta
        return shown

    def seen(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Bool[Array, "*heads q k"]:
        """The conjunction of all rules. It compares positions and not indices."""
        seen = jnp.ones((q_positions.shape[0], k_positions.shape[0]), bool)
        if self.ordered:
            seen &= self.shown(distance(q_positions, k_positions))
        if self.q_segments is not None and self.k_segments is not None:
            seen &= self.q_segments[:, None] == self.k_segments[None]
        if self.mask is None:
            return seen
        return self.mask & (seen if self.mask.ndim == 2 else seen[None])


def rules(
    q_positions: Num[Positions, "q *axes"],
    k_positions: Num[Positions, "k *axes"],
    *,
    heads: int,
    mask: Bool[Array, "q k"] | Bool[Array, "heads q k"] | None,
    causal: bool = False,
    window: Window | None = None,
    q_segments: Int[Array, " q"] | None = None,
    k_segments: Int[Array, " k"] | None = None,
    q_order: Int[Positions, " q"] | None,
    k_order: Int[Positions, " k"] | None,
) -> Rules:
    """The rules of a call, after checks of their shapes and dtypes."""
    q, k = q_positions.shape[0], k_positions.shape[0]
    _check_each_token("segments", "an id", (q, q_segments), (k, k_segments))
    _check_each_token("order", "an integer", (q, q_order), (k, k_order))
    for name, order in ("q_order", q_order), ("k_order", k_order):
        if order is not None:
            as_integers(order, name)
    if q_segments is not None and k_segments is not None:
        q_segments = as_ids(q_segments, "q_segments")
        k_segments = as_ids(k_segments, "k_segments")
    if (causal or window is not None) and q_positions.ndim != 1 and q_order is None:
        raise ValueError(
            "`causal` and `window` compare positions of shape [seq], but got "
            f"{q_positions.shape}, which has no order. Give `q_order` and `k_order`, "
            "such as the indices of the tokens, or use `mask`."
        )
    # An additive mask of 0 and -inf would have the opposite meaning as a boolean.
    found = getattr(mask, "dtype", None)
    if mask is not None and found != jnp.bool_:
        raise ValueError(
            f"`mask` must be boolean, True where a query attends to a key, but got "
            f"{found or described(mask)}. Add numbers to logits by a bias."
        )
    if mask is not None and mask.shape not in ((q, k), (heads, q, k)):
        raise ValueError(
            f"`mask` must have shape [q, k] = {(q, k)} or [heads, q, k] = "
            f"{(heads, q, k)}, but got {mask.shape}."
        )
    reach = None if window is None else reach_of(window)
    return Rules(mask, q_segments, k_segments, bool(causal), reach)


def reach_of(window: Any) -> tuple[int, int]:
    """How many positions back and ahead are unmasked."""
    # An integer counts the query itself, as `sliding_window` does in Hugging Face
    # configurations.
    pair = (window - 1, window - 1) if is_integer(window) else window
    numbers = isinstance(pair, tuple | list) and len(pair) == 2
    if not numbers or not all(is_integer(number) and number >= 0 for number in pair):
        raise ValueError(
            "`window` must be a positive number of positions, or a pair (back, ahead) "
            f"of integers that are not negative, but got "
            f"{described(window)}."
        )
    back, ahead = map(int, pair)
    return back, ahead


def _check_each_token(kind, entry, *given):
    (_, of_q), (_, of_k) = given
    if (of_q is None) != (of_k is None):
        raise ValueError(
            f"`q_{kind}` and `k_{kind}` go together, but got only one. In "
            "self-attention both are the same array."
        )
    for name, (count, array) in zip("qk", given, strict=True):
        if array is None:
            continue
        check_array(f"{name}_{kind}", array)
        if array.shape != (count,):
            raise ValueError(
                f"`{name}_{kind}` must have {entry} for each of the {count} tokens of "
                f"`{name}`, but got shape {array.shape}."
            )
