"""Which keys a query may see, in PyTorch."""

import torch
from torch import Tensor

from ._angles import as_positions


def visible(
    q_positions: Tensor,
    k_positions: Tensor,
    mask: Tensor | None,
    causal: bool,
    window: int | tuple[int, int] | None,
    q_segments: Tensor | None,
    k_segments: Tensor | None,
    batch: int,
) -> Tensor | None:
    """The conjunction of all rules, to be broadcast to [*batch, heads, q, k]; `None` if
    there is no rule.

    **Raises:** a `ValueError` as [`eqx_posemb.PositionalEmbedding.attend`][] does.
    """
    seen = []
    if causal or window is not None:
        if q_positions.ndim not in (1, 1 + batch):
            raise ValueError(
                "`causal` and `window` compare positions of shape [*batch, seq], but "
                f"got {tuple(q_positions.shape)}: on a grid there is no order. Use "
                "`mask`."
            )
        q_positions = as_positions(q_positions, "q_positions")
        k_positions = as_positions(k_positions, "k_positions")
        delta = k_positions[..., None, :] - q_positions[..., None]
        if causal:
            seen.append(delta <= 0)
        if window is not None:
            back, ahead = _reach(window)
            seen.append((-back <= delta) & (delta <= ahead))
    if (q_segments is None) != (k_segments is None):
        raise ValueError(
            "`q_segments` and `k_segments` go together, but got only one of them. In "
            "self-attention they are the same tensor."
        )
    if q_segments is not None and k_segments is not None:
        seen.append(q_segments[..., None] == k_segments[..., None, :])
    seen = [each.unsqueeze(-3) if each.ndim > 2 else each for each in seen]
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(
                "`mask` must be boolean, True where a query sees a key, but got "
                f"{mask.dtype}. Add numbers to logits by a bias."
            )
        seen.append(mask)
    if not seen:
        return None
    first, *others = seen
    for each in others:
        first = first & each
    return first


def _reach(window: int | tuple[int, int]) -> tuple[int, int]:
    back, ahead = (window - 1, window - 1) if isinstance(window, int) else window
    if back < 0 or ahead < 0:
        raise ValueError(
            "`window` must be a positive number of positions, or a pair (back, ahead) "
            f"of numbers that are not negative, but got {window}."
        )
    return back, ahead
