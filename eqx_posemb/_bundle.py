"""One object for all that position does to attention."""

import inspect
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from ._attention import (
    block_size_for,
    blocks_are_better,
    blockwise,
    dense,
    dense_logits,
    Logits,
    ring,
    rules,
    Tokens,
    Window,
)
from ._bias import AbstractBias, AbstractRelativeBias
from ._checks import check_at_least, check_choice, check_positive
from ._encoding import AbstractEncoding
from ._frequencies import context_length, Length
from ._phase import computing_dtype
from ._rotary import AbstractExtension, AbstractRotary, each_head
from ._score import AbstractScore


class PositionalEmbedding(eqx.Module):
    r"""Everything that position does to attention, in the four places where it can.

    $$x_i + e(p_i), \qquad
      \ell_{ij} = c\, \langle R(p_i)\, q_i, R(p_j)\, k_j \rangle
                  + b(p_i, p_j) + s(q_i, k_j, p_i, p_j)$$

    with an `encoding` $e$ added to tokens, a `rotary` $R$ multiplied into queries and
    keys, a `bias` $b$ and a `score` $s$ added to the finished logits, and the `scale`
    $c$ of the product, which some of them prescribe. A slot that is `None` is not
    there. Outside of this object a transformer knows nothing of order: permuting tokens
    together with their positions permutes what comes out.

    A model takes one of these as an argument, and calls `embed` on its tokens once and
    `attend` in every layer. Whatever the embedding is, the model's code stays.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        embedding = pe.PositionalEmbedding(rotary=pe.rope(64))
        positions = jnp.arange(10)
        q = k = v = jnp.ones((8, 10, 64))  # [heads, seq, dim]
        out = embedding.attend(q, k, v, positions, positions, causal=True)
        assert out.shape == (8, 10, 64)
        ```
    """

    encoding: AbstractEncoding | None = None
    rotary: AbstractRotary | AbstractExtension | None = None
    bias: AbstractBias | None = None
    score: AbstractScore | None = None
    scale: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.scale is not None:
            check_positive("scale", self.scale)

    @property
    def reads(self) -> tuple[str, ...]:
        """Which of `q_state` and `k_state` the score reads: those to give to `logits`
        and `attend`."""
        if self.score is None:
            return ()
        accepted = inspect.signature(type(self.score).__call__).parameters
        return tuple(name for name in ("q_state", "k_state") if name in accepted)

    def embed(
        self, x: Float[Array, "seq dim"], positions: Num[Array, "seq *axes"]
    ) -> Float[Array, "seq dim"]:
        """Adds the encoding to tokens; without one they stay as they are.

        **Arguments:**

        - `x`: the tokens.
        - `positions`: their positions.

        **Returns:**

        `x + encoding(positions)`, in the dtype of `x`; added in at least float32.

        **Raises:** a `ValueError` if the encoding has another shape than `x`.
        """
        if self.encoding is None:
            return x
        encoding = self.encoding(positions)
        if encoding.shape != x.shape:
            raise ValueError(
                "`x` must have the shape [seq, dim] of its positions and of the "
                f"encoding, {encoding.shape}, but got {x.shape}. Use `jax.vmap` over a "
                "batch."
            )
        dtype = computing_dtype(x.dtype)
        return (x.astype(dtype) + encoding.astype(dtype)).astype(x.dtype)

    def logits(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Array, "q *axes"],
        k_positions: Num[Array, "k *axes"],
        *,
        length: Length = None,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
    ) -> Float[Array, "heads q k"]:
        """The finished logits: scaled, rotated, with bias and score; not masked.

        **Arguments:**

        - `q`: queries.
        - `k`: keys; `kv_heads` must divide `heads`, and each serves as many queries in
            a row (grouped-query attention).
        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.
        - `length`: what schedules that depend on the context length read; by default
            one more than the largest position of all.
        - `q_state`, `k_state`: what the tokens of queries and of keys bring along for
            a score that reads more than `q` and `k`, such as their hidden states:
            arrays `[seq, ...]`, or a pytree of them. `reads` names those to give. A
            model that decodes caches `k_state` beside keys and values, as it does the
            positions.

        **Returns:**

        The logits, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if shapes do not fit, or if a state that the score
        reads is missing, or one is given that it does not read.
        """
        states = dict(q_state=q_state, k_state=k_state)
        parts = self._parts(q, k, q_positions, k_positions, length, states)
        return dense_logits(*parts).astype(q.dtype)

    def attend(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        v: Float[Array, "kv_heads k dim_v"],
        q_positions: Num[Array, "q *axes"],
        k_positions: Num[Array, "k *axes"],
        *,
        mask: Bool[Array, "q k"] | Bool[Array, "heads q k"] | None = None,
        causal: bool = False,
        window: Window | None = None,
        q_segments: Int[Array, " q"] | None = None,
        k_segments: Int[Array, " k"] | None = None,
        length: Length = None,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
        soft_cap: float | None = None,
        implementation: Literal["auto", "dense", "blockwise"] = "auto",
        block_size: int | None = None,
        axis_name: str | None = None,
    ) -> Float[Array, "heads q dim_v"]:
        """Softmax attention over the finished logits.

        A query sees the keys that all of the given rules let it see. The rules go by
        position, and not by index: a cache in any order, or shards of a sequence, need
        nothing else.

        **Arguments:**

        - `q`, `k`, `q_positions`, `k_positions`, `length`, `q_state`, `k_state`: as in
            `logits`.
        - `v`: values, one for each key.
        - `mask`: True where a query sees a key; for all heads or for each.
        - `causal`: whether to see only keys at the query's position or before.
        - `window`: to see only keys less than so many positions away (a causal window
            of 4 is the query's own position and the 3 before, as `sliding_window` in
            transformers), or a pair (back, ahead) of how far to see, inclusive, as in
            `jax.nn.dot_product_attention`.
        - `q_segments`, `k_segments`: to see only keys with the same id, for packed
            sequences and for padding. Both or neither.
        - `soft_cap`: to bound logits by, as Gemma 2 does: `soft_cap * tanh(logits /
            soft_cap)`, before masking.
        - `implementation`: `"dense"` holds all logits `[heads, q, k]` at once and is
            the definition. `"blockwise"` makes them for blocks of queries and keys when
            it needs them, forward and backward, and never holds more: exact as well,
            in memory that grows with the sequence, and without those blocks of which
            nothing is seen. It has no forward-mode derivative (`jax.jvp`), and third
            derivatives neither. `"auto"` goes by blocks where that is faster or needed,
            judging by the number of logits, without those of a `jax.vmap`: on CPU from
            4 million on, elsewhere, where large products are cheap and loops are not,
            from 64 million (256 MiB) on.
        - `block_size`: how many queries, and keys, `"blockwise"` has in a block. By
            default 128 to 512, the fewer the more heads there are.
        - `axis_name`: under `jax.shard_map`, the axis of the mesh that the sequence is
            sharded over, for ring attention: each device has its shard of queries, keys
            and values with their positions, in any order, and keys go around from
            device to device. Deal tokens out by [`eqx_posemb.zigzag`][] for causal
            attention, or the last device has most of the work. By blocks, whatever
            `implementation` is.

        **Returns:**

        The attended values, in the dtype of `v`; zeros for a query that sees no key.

        **Raises:** a `ValueError` as `logits`, if `soft_cap` or `block_size` is not
        positive, or if `implementation` is unknown.
        """
        if v.shape[:2] != k.shape[:2]:
            raise ValueError(
                "`v` must have a value for each key, [kv_heads, k, dim_v] with "
                f"[kv_heads, k] = {list(k.shape[:2])}, but got shape {v.shape}."
            )
        check_choice("implementation", implementation, ("auto", "dense", "blockwise"))
        if soft_cap is not None:
            check_positive("soft_cap", soft_cap)
        if block_size is not None:
            check_at_least("block_size", block_size, 1)
        seen = rules(
            q_positions,
            k_positions,
            heads=q.shape[0],
            mask=mask,
            causal=causal,
            window=window,
            q_segments=q_segments,
            k_segments=k_segments,
        )
        if axis_name is not None and length is None:
            here = context_length(q_positions, k_positions)
            length = jax.lax.pmax(jax.lax.stop_gradient(here), axis_name)
        states = dict(q_state=q_state, k_state=k_state)
        parts = self._parts(q, k, q_positions, k_positions, length, states, soft_cap)
        heads, count = q.shape[0], (q.shape[1], k.shape[1])
        size = block_size_for(heads) if block_size is None else block_size
        relative = isinstance(self.bias, AbstractRelativeBias)
        if axis_name is not None:
            return ring(
                *parts, v, seen, size=size, relative=relative, axis_name=axis_name
            )
        if implementation == "auto" and blocks_are_better(heads, *count):
            implementation = "blockwise"
        if implementation != "blockwise" or 0 in count:
            return dense(*parts, v, seen)
        return blockwise(*parts, v, seen, size=size, relative=relative)

    @jax.named_scope("eqx_posemb.PositionalEmbedding.parts")
    def _parts(
        self, q, k, q_positions, k_positions, length, states, soft_cap=None
    ) -> tuple[Logits, Array, Array, Tokens, Tokens]:
        _check_shapes(q, k, q_positions, k_positions)
        states = {name: state for name, state in states.items() if state is not None}
        _check_states(states, self.reads, q=q, k=k)
        turned_q, turned_k, score = q, k, self.score
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        if self.rotary is not None and length is None:
            length = context_length(q_positions, k_positions)
        if isinstance(self.rotary, AbstractExtension):
            # Which of its products a pair has goes by positions, as a score does. What
            # is left to multiply is nothing.
            score = _Extended(self.rotary, scale, length, score)
            turned_q, turned_k = (jnp.zeros_like(x[..., :1]) for x in (q, k))
        elif self.rotary is not None:
            turn_q = self.rotary(q_positions, length=length)
            turn_k = self.rotary(k_positions, length=length)
            turned_q = each_head(turn_q.queries, q, turn_q.heads)
            turned_k = each_head(turn_k.keys, k, turn_k.heads)
        q_content, k_content = (None, None) if score is None else (q, k)
        return (
            Logits(self.bias, score, scale, soft_cap),
            turned_q,
            turned_k,
            Tokens(q_content, q_positions, states.get("q_state")),
            Tokens(k_content, k_positions, states.get("k_state")),
        )


class _Extended(eqx.Module):
    """The scaled products of an extension, as a score; with the score there is."""

    rotary: AbstractExtension
    scale: float = eqx.field(static=True)
    length: Length
    score: AbstractScore | None

    def __call__(self, q, k, q_positions, k_positions, **states):
        logits = self.scale * self.rotary.products(
            q, k, q_positions, k_positions, length=self.length
        )
        if self.score is None:
            return logits
        return logits + self.score(q, k, q_positions, k_positions, **states)


PositionalEmbedding.__init__.__doc__ = """**Arguments:**

- `encoding`: What to add to tokens.
- `rotary`: What to multiply into queries and keys.
- `bias`: What to add to logits, blind to the content.
- `score`: What to add to logits, with an eye on the content.
- `scale`: What to multiply products of queries and keys by; `None` is
    `1 / sqrt(head_dim)`.

**Raises:** a `ValueError` if `scale` is not positive.
"""


def _check_shapes(q, k, q_positions, k_positions):
    if q.ndim != 3 or k.ndim != 3 or q.shape[-1] != k.shape[-1]:
        raise ValueError(
            "`q` and `k` must have shapes [heads, q, dim] and [kv_heads, k, dim] with "
            f"the same `dim`, but got {q.shape} and {k.shape}. Use `jax.vmap` over a "
            "batch."
        )
    if k.shape[0] == 0 or q.shape[0] % k.shape[0]:
        raise ValueError(
            "The heads of `q` must be a multiple of those of `k`, for every head of "
            f"keys to serve as many queries, but got {q.shape[0]} and {k.shape[0]}."
        )
    for name, x, positions in ("q", q, q_positions), ("k", k, k_positions):
        if positions.shape[:1] != (x.shape[1],):
            raise ValueError(
                f"`{name}_positions` must have a position for each of the {x.shape[1]} "
                f"tokens of `{name}`, but got shape {positions.shape}."
            )


def _check_states(states, reads, **tokens):
    for name, state in states.items():
        if name not in reads:
            raise ValueError(
                f"`{name}` must be None for an embedding whose score does not read it, "
                f"but got shapes {jax.tree.map(jnp.shape, state)}. Its `reads` names "
                "what to give."
            )
        seq = tokens[name[0]].shape[1]
        for leaf in jax.tree.leaves(state):
            if leaf.shape[:1] != (seq,):
                raise ValueError(
                    f"`{name}` must have arrays [seq, ...] with an entry for each of "
                    f"the {seq} tokens of `{name[0]}`, but got shape {leaf.shape}."
                )
