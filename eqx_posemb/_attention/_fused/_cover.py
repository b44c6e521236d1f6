"""Which cases the fused kernels cover, and why they refuse the others."""

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
    reasons = (
        _of_products(inputs),
        _of_size(inputs, block_size),
        _of_dtype(inputs),
        _of_rules(inputs),
        _of_positions(inputs),
        _of_bias(inputs),
        _of_score(inputs),
    )
    return next((reason for reason in reasons if reason is not None), None)


def _of_size(inputs, block_size):
    if jax.__version_info__ < _OLDEST:
        return f"The kernels need JAX {'.'.join(map(str, _OLDEST))} or newer."
    counts = inputs.q.shape[1], inputs.k.shape[1]
    if not all(isinstance(count, int) for count in counts):
        return "The number of tokens is a symbol."
    if 0 in counts:
        return "There are no tokens."
    widths = inputs.q.shape[-1], inputs.v.shape[-1]
    if not 0 < min(widths) <= max(widths) <= _WIDEST:
        return f"A head has {max(widths)} channels, and may have 1 to {_WIDEST}."
    if block_size is not None and block_size % STEP:
        return f"`block_size` must be a multiple of {STEP}, but is {block_size}."
    return None


def _of_dtype(inputs):
    dtypes = {str(x.dtype) for x in (inputs.q, inputs.k, inputs.v)}
    if len(dtypes) == 1 and dtypes <= {"float32", "bfloat16"}:
        return None
    return (
        "Queries, keys and values must all be float32 or all be bfloat16, but are "
        f"{', '.join(sorted(dtypes))}."
    )


def _of_rules(inputs):
    if inputs.rules.mask is not None:
        return "`mask` is an array of all pairs. Use `causal`, `window` or segments."
    ids = inputs.rules.q_segments, inputs.rules.k_segments
    if any(x is not None and x.dtype.itemsize > 4 for x in ids):
        return "Segments are integers of 64 bits. Cast them to `jnp.int32`."
    if max(inputs.rules.reach or (0,)) >= _FARTHEST:
        return f"The window reaches {_FARTHEST} positions or more."
    return None


def _of_products(inputs):
    extension = inputs.logits.extension
    if extension is None:
        return None
    return (
        f"`{type(extension).__name__}` gives each pair of a query and a key a product "
        "of its own."
    )


def _of_positions(inputs):
    tokens, logits = (inputs.q_tokens, inputs.k_tokens), inputs.logits
    if inputs.rules.ordered and not _consecutive(t.compared for t in tokens):
        name = "Positions" if tokens[0].order is None else "`q_order` and `k_order`"
        return _NOT_STATED.format(name)
    part = logits.bias or logits.score
    if part is None or _consecutive(t.positions for t in tokens):
        return None
    if tokens[0].positions.ndim > 1:
        return f"`{type(part).__name__}` reads positions with several coordinates."
    return _NOT_STATED.format("Positions")


_NOT_STATED = (
    "{} are not stated to be consecutive. `eqx_posemb.positions.consecutive` states "
    "them."
)


def _consecutive(positions):
    return all(isinstance(p, Consecutive) for p in positions)


def _of_bias(inputs):
    logits = inputs.logits
    if logits.bias is None:
        return None
    name = type(logits.bias).__name__
    strip = logits.strip(inputs.q_tokens, inputs.k_tokens)
    if strip is None:
        return f"`{name}` depends on more than distances."
    if strip.shape[0] != inputs.q.shape[0] or strip.dtype != jnp.float32:
        return (
            f"`{name}` must give float32 for {inputs.q.shape[0]} heads, but gives "
            f"{strip.dtype} for {strip.shape[0]}."
        )
    return None


def _of_score(inputs):
    logits, tokens = inputs.logits, (inputs.q_tokens, inputs.k_tokens)
    if logits.score is None:
        return None
    if inputs.q.shape[1] == 1:
        return "There is one query, and kernels with a score take two or more."
    name = type(logits.score).__name__
    if eqx.filter_eval_shape(logits.by_distance, *tokens) is None:
        return f"`{name}` has no vector for each distance."
    if is_small():
        return f"`{name}` is a score, which needs TPU v5 or newer."
    return None
