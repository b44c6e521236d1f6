"""Whether what a user gave fits together."""

import jax
import jax.numpy as jnp

from .._given import check_tokens


def check_axes(**tokens):
    for name, x in tokens.items():
        check_tokens(name, x, " [heads, seq, dim]")
        if x.ndim != 3:
            cure = "Use `jax.vmap` over a batch."
            if x.ndim < 2:
                cure = "Give a vector for each head and token."
            elif x.ndim == 2:
                cure = f"Give the one head an axis: `{name}[None]`."
            raise ValueError(
                f"`{name}` must have shape [heads, seq, dim], but got {x.shape}. {cure}"
            )


def check_shapes(q, k, q_positions, k_positions):
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(
            "`q` and `k` must have shapes [heads, q, dim] and [kv_heads, k, dim] with "
            f"the same `dim`, but got {q.shape} and {k.shape}. Project both to the "
            "same number of channels."
        )
    # A modulus by zero heads would raise a ZeroDivisionError without a cure.
    if k.shape[0] == 0 or q.shape[0] % k.shape[0]:
        raise ValueError(
            "The number of heads of `q` must be a multiple of the number of heads of "
            f"`k`, but got {q.shape[0]} and {k.shape[0]}."
        )
    for name, x, positions in ("q", q, q_positions), ("k", k, k_positions):
        if positions.shape[:1] != (x.shape[1],):
            batch = positions.shape[1:2] == (x.shape[1],)
            cure = " Use `jax.vmap` over a batch." if batch else ""
            raise ValueError(
                f"`{name}_positions` must have a position for each of the {x.shape[1]} "
                f"tokens of `{name}`, but got shape {positions.shape} for {x.shape}, "
                f"which is [heads, seq, dim].{cure}"
            )


def check_states(states, reads, **tokens):
    for name, state in states.items():
        # An ignored state would hide a mistake, such as a score of the wrong class.
        if name not in reads:
            raise ValueError(
                f"`{name}` must be None for an embedding that does not read it, but "
                f"got shapes {jax.tree.map(jnp.shape, state)}. The class attribute "
                "`reads` of a part names the states that it reads."
            )
        # The first letter of `q_state` and `k_state` names the tokens.
        seq = tokens[name[0]].shape[1]
        for leaf in jax.tree.leaves(state):
            if leaf.shape[:1] != (seq,):
                raise ValueError(
                    f"`{name}` must have arrays [seq, ...] with an entry for each of "
                    f"the {seq} tokens of `{name[0]}`, but got shape {leaf.shape}."
                )


def check_values(k, v):
    if v.shape[:2] != k.shape[:2]:
        raise ValueError(
            "`v` must have a value for each key, [kv_heads, k, dim_v] with "
            f"[kv_heads, k] = {list(k.shape[:2])}, but got shape {v.shape}."
        )
