"""Which cases the fused kernels cover, and why they refuse the others."""

from collections.abc import Iterator

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._given import Consecutive
from .._inputs import Inputs
from ._sizes import is_small, STEP


# Of heads: what fits into the memory of a core beside a tile.
_WIDEST = 256
# Distances and windows are compared in int32.
_FARTHEST = 2**28
# Before, Pallas had other names.
_OLDEST = 0, 7, 2


def refusal(inputs: Inputs, block_size: int | None) -> str | None:
    """Why the kernels do not take the inputs; None if they take them."""
    return next(_reasons(inputs, block_size), None)


def _reasons(inputs, block_size) -> Iterator[str]:
    if (extension := inputs.logits.extension) is not None:
        yield (
            f"`{type(extension).__name__}` gives each pair of a query and a key a "
            "product of its own."
        )
    yield from _of_tokens(inputs, block_size)
    if inputs.rules.mask is not None:
        yield "`mask` is an array of all pairs. Use `causal`, `window` or segments."
    ids = inputs.rules.q_segments, inputs.rules.k_segments
    if any(x is not None and x.dtype.itemsize > 4 for x in ids):
        yield "Segments are integers of 64 bits. Cast them to `jnp.int32`."
    if max(inputs.rules.reach or (0,)) >= _FARTHEST:
        yield f"The window reaches {_FARTHEST} positions or more."
    yield from _of_positions(inputs)
    yield from _of_terms(inputs)


def _of_tokens(inputs, block_size):
    if jax.__version_info__ < _OLDEST:
        yield f"The kernels need JAX {'.'.join(map(str, _OLDEST))} or newer."
    counts = inputs.q.shape[1], inputs.k.shape[1]
    if not all(isinstance(count, int) for count in counts):
        yield "The number of tokens is a symbol."
    if 0 in counts:
        yield "There are no tokens."
    widths = inputs.q.shape[-1], inputs.v.shape[-1]
    if not 0 < min(widths) <= max(widths) <= _WIDEST:
        yield f"A head has {max(widths)} channels, and may have 1 to {_WIDEST}."
    if block_size is not None and block_size % STEP:
        yield f"`block_size` must be a multiple of {STEP}, but is {block_size}."
    dtypes = {str(x.dtype) for x in (inputs.q, inputs.k, inputs.v)}
    if len(dtypes) > 1 or not dtypes <= {"float32", "bfloat16"}:
        yield (
            "Queries, keys and values must all be float32 or all be bfloat16, but are "
            f"{', '.join(sorted(dtypes))}."
        )


def _of_positions(inputs):
    tokens, logits = (inputs.q_tokens, inputs.k_tokens), inputs.logits
    unstated = (
        "{} are not stated to be consecutive. `eqx_posemb.positions.consecutive` "
        "states them."
    )
    if inputs.rules.ordered and not _consecutive(t.compared for t in tokens):
        ordered = tokens[0].order is not None
        yield unstated.format("`q_order` and `k_order`" if ordered else "Positions")
    part = logits.bias or logits.score
    if part is not None and not _consecutive(t.positions for t in tokens):
        if tokens[0].positions.ndim > 1:
            yield f"`{type(part).__name__}` reads positions with several coordinates."
        yield unstated.format("Positions")


def _consecutive(positions):
    return all(isinstance(p, Consecutive) for p in positions)


def _of_terms(inputs):
    logits, tokens = inputs.logits, (inputs.q_tokens, inputs.k_tokens)
    if logits.bias is not None:
        name = type(logits.bias).__name__
        strip = logits.strip(*tokens)
        if strip is None:
            yield f"`{name}` depends on more than distances."
        elif strip.shape[0] != inputs.q.shape[0] or strip.dtype != jnp.float32:
            yield (
                f"`{name}` must give float32 for {inputs.q.shape[0]} heads, but gives "
                f"{strip.dtype} for {strip.shape[0]}."
            )
    if logits.score is not None:
        name = type(logits.score).__name__
        if inputs.q.shape[1] == 1:
            yield "There is one query, and kernels with a score take two or more."
        if eqx.filter_eval_shape(logits.by_distance, *tokens) is None:
            yield f"`{name}` has no vector for each distance."
        if is_small():
            yield f"`{name}` is a score, which needs TPU v5 or newer."
