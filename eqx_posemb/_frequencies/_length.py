"""The length of a context, for schedules that depend on it."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Num

from .._checks import described, is_integer
from .._given import as_positions, in_common, Positions


Length = int | Num[Array, ""] | None
"""One more than the largest position in use, for schedules that depend on it."""


def context_length(
    *positions: Num[Positions, "..."], axis_name: str | None = None
) -> Num[Array, ""]:
    """The largest position plus one; one without positions.

    With `axis_name`, the length is over all devices along that axis of a mesh.
    """
    last = jnp.stack(in_common(*[jnp.max(p, initial=0) for p in positions])).max()
    if axis_name is not None:
        # JAX has no derivative of `pmax`, and a length needs none.
        last = jax.lax.pmax(jax.lax.stop_gradient(last), axis_name)
    return one_more(last)


def one_more(last: Num[Array, "*shape"]) -> Num[Array, "*shape"]:
    """The length of a context that ends at a position."""
    if not jnp.issubdtype(last.dtype, jnp.integer):
        return last + 1
    # The largest integer plus one would wrap. Unsigned positions beyond it have wrapped
    # already, and also give the largest integer.
    end = jnp.iinfo(last.dtype).max
    return jnp.where((last < 0) | (last == end), end, last + 1)


def in_context(part: Any, *positions: Num[Positions, "..."], length: Length) -> Any:
    """A schedule or rotary embedding in a context of `length` positions. By default the
    positions give the length. A part that is not `dynamic` is returned unchanged."""
    if not part.dynamic:
        return part
    if length is None:
        length = context_length(*positions)
    else:
        check_length(length)
    return part.for_length(length)


def check_length(length: Any) -> None:
    """Raises a `ValueError` unless it is one positive integer, or one traced number."""
    positive = is_integer(length) and int(length) > 0
    if not (positive or getattr(length, "shape", None) == ()):
        raise ValueError(
            "`length` must be one positive integer, which may be traced, but got "
            f"{described(length)}. Use `jax.vmap` where lengths differ."
        )
    if not positive:
        as_positions(length, "length")
