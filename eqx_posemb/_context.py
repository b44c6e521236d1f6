"""The context length, from the keys that queries may attend to."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Num

from ._attention import Rules, Tokens
from ._frequencies import context_length, one_more
from ._given import in_common


def context_lengths(
    q: Tokens, k: Tokens, rules: Rules, axis_name: str | None
) -> tuple[Num[Array, "*q"], Num[Array, "*k"]]:
    """The context length of queries and keys: the largest position of an unmasked key,
    plus one.

    There is one length for all tokens, or one for each token where there are segments:
    the length of its document. A window does not shorten the length. With `axis_name`,
    the length is over all devices along that axis of a mesh.
    """
    # Maxima need a token.
    if 0 in (q.positions.shape[0], k.positions.shape[0]):
        return jnp.int32(1), jnp.int32(1)
    everywhere = lambda x: x
    if axis_name is not None:
        everywhere = lambda x: jax.lax.all_gather(x, axis_name, tiled=True)
    last = k.positions if k.positions.ndim == 1 else jnp.max(k.positions, axis=1)
    # Positions start at zero, so a masked key counts as the first position.
    last = jnp.where(_attended(q, k, rules, everywhere), last, 0)
    if rules.q_segments is None or rules.k_segments is None:
        length = context_length(last, axis_name=axis_name)
        return length, length
    (last,) = in_common(last)
    last, ids = everywhere(last), everywhere(rules.k_segments)
    # A packed document has the context length that it would have alone.
    of_q = _largest(last, ids, rules.q_segments)
    of_k = _largest(last, ids, rules.k_segments)
    return one_more(of_q), one_more(of_k)


def _attended(q, k, rules, everywhere) -> Bool[Array, " k"]:
    """Whether some query attends to each key."""
    count = k.positions.shape[0]
    if rules.mask is not None:
        seen = rules.seen(q.compared, k.compared)
        return seen.reshape(-1, count).any(0)
    if not rules.ordered:
        return jnp.ones(count, bool)
    # Without a mask, some query attends to a key if the latest query does.
    ahead = 0 if rules.causal else rules.reach[1]
    q_order, k_order = in_common(q.compared, k.compared)
    q_order = everywhere(q_order)
    if rules.q_segments is None:
        return k_order - jnp.max(q_order) <= ahead
    latest = _largest(q_order, everywhere(rules.q_segments), rules.k_segments)
    return k_order - latest <= ahead


def _largest(
    values: Num[Array, " n"], ids: Int[Array, " n"], of: Int[Array, " m"]
) -> Num[Array, " m"]:
    """The largest value among the tokens with the same id. A token whose id no key has
    gets an arbitrary value, as it attends to nothing."""
    # Sorted by id and then by value, the last entry of an id has its largest value.
    order = jnp.lexsort([values, ids])
    last = jnp.searchsorted(ids[order], of, side="right") - 1
    return values[order[last]]
