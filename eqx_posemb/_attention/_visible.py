"""Which keys a query may see."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Num

from .._positions import distance


Window = int | tuple[int, int]


def visible(
    q_positions: Num[Array, "q *axes"],
    k_positions: Num[Array, "k *axes"],
    *,
    heads: int,
    mask: Bool[Array, "q k"] | Bool[Array, "heads q k"] | None,
    causal: bool,
    window: Window | None,
    q_segments: Int[Array, " q"] | None,
    k_segments: Int[Array, " k"] | None,
) -> Bool[Array, "*heads q k"]:
    """The conjunction of all rules, by position and not by index."""
    q, k = q_positions.shape[0], k_positions.shape[0]
    seen = jnp.ones((q, k), bool)
    if causal or window is not None:
        if q_positions.ndim != 1:
            raise ValueError(
                "`causal` and `window` compare positions of shape [seq], but got "
                f"{q_positions.shape}: on a grid there is no order. Use `mask`."
            )
        delta = distance(q_positions, k_positions)
        if causal:
            seen &= delta <= 0
        if window is not None:
            back, ahead = _reach(window)
            seen &= (-back <= delta) & (delta <= ahead)
    if (q_segments is None) != (k_segments is None):
        raise ValueError(
            "`q_segments` and `k_segments` go together, but got only one of them. In "
            "self-attention they are the same array."
        )
    if q_segments is not None and k_segments is not None:
        seen &= q_segments[:, None] == k_segments[None]
    if mask is None:
        return seen
    if mask.dtype != bool:
        raise ValueError(
            f"`mask` must be boolean, True where a query sees a key, but got "
            f"{mask.dtype}. Add numbers to logits by a bias."
        )
    if mask.shape not in ((q, k), (heads, q, k)):
        raise ValueError(
            f"`mask` must have shape [q, k] = {(q, k)} or [heads, q, k] = "
            f"{(heads, q, k)}, but got {mask.shape}."
        )
    return mask & (seen if mask.ndim == 2 else seen[None])


def _reach(window: Window) -> tuple[int, int]:
    back, ahead = (window - 1, window - 1) if isinstance(window, int) else window
    if back < 0 or ahead < 0:
        raise ValueError(
            "`window` must be a positive number of positions, or a pair (back, ahead) "
            f"of numbers that are not negative, but got {window}."
        )
    return back, ahead
