"""One object for all that position does to attention."""

import inspect
from dataclasses import KW_ONLY
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from ._attention import (
    block_size_for,
    blocks_are_better,
    blockwise,
    check_shapes,
    check_states,
    check_values,
    dense,
    dense_logits,
    Extended,
    Logits,
    ring,
    rules,
    Tokens,
    Window,
    with_channels,
)
from ._bias import AbstractBias, AbstractRelativeBias
from ._checks import check_at_least, check_choice, check_positive
from ._encoding import AbstractEncoding
from ._frequencies import context_length, Length
from ._module import Module
from ._phase import as_positions, computing_dtype
from ._rotary import AbstractExtension, AbstractRotary, each_head
from ._score import AbstractScore
from ._slots import check_slots


class PositionalEmbedding(Module):
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

    _: KW_ONLY
    encoding: AbstractEncoding | None = None
    rotary: AbstractRotary | AbstractExtension | None = None
    bias: AbstractBias | None = None
    score: AbstractScore | None = None
    scale: float | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        check_slots(self)

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
        encoding = self.encoding(as_positions(positions))
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
        nothing else. There is no dropout of the weights.

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
            8 million on, where they outgrow its caches and blocks measured faster;
            elsewhere, where large products are cheap and loops are not, from 64 million
            (256 MiB) on, which is for memory and not measured. It never chooses a
            kernel of others, which would round otherwise: for that see `for_kernel`.
        - `block_size`: how many queries, and keys, `"blockwise"` has in a block. By
            default at most 512, and so that little of the last block is padding; fewer
            for more than 32 heads.
        - `axis_name`: under `jax.shard_map`, the axis of the mesh that the sequence is
            sharded over, for ring attention: each device has its shard of queries, keys
            and values with their positions, in any order, and keys go around from
            device to device. Deal tokens out by [`eqx_posemb.zigzag`][] for causal
            attention, or the last device has most of the work. By blocks, whatever
            `implementation` is; no second derivatives.

        **Returns:**

        The attended values, in the dtype of `v`; zeros for a query that sees no key.

        **Raises:** a `ValueError` as `logits`, if `soft_cap` or `block_size` is not
        positive, or if `implementation` is unknown.
        """
        check_values(k, v)
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
        states = dict(q_state=q_state, k_state=k_state)
        parts = self._parts(
            q, k, q_positions, k_positions, length, states, soft_cap, axis_name
        )
        heads, count = q.shape[0], (q.shape[1], k.shape[1])
        size = block_size or block_size_for(heads, *count)
        # A score prepares what goes by distances, too, and nothing else is shared.
        relative = isinstance(
            self.bias or self.score, AbstractRelativeBias | AbstractScore
        )
        if axis_name is not None:
            return ring(
                *parts, v, seen, size=size, relative=relative, axis_name=axis_name
            )
        if implementation == "auto" and blocks_are_better(heads, *count):
            implementation = "blockwise"
        if implementation != "blockwise" or 0 in count:
            return dense(*parts, v, seen)
        return blockwise(*parts, v, seen, size=size, relative=relative)

    def for_kernel(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        v: Float[Array, "kv_heads k dim_v"],
        q_positions: Num[Array, "q *axes"],
        k_positions: Num[Array, "k *axes"],
        *,
        length: Length = None,
        pieces: int | None = None,
    ) -> tuple[
        Float[Array, "heads q wide"],
        Float[Array, "to_heads k wide"],
        Float[Array, "to_heads k wide"],
        float,
    ]:
        r"""What to give to a kernel of attention that knows of no positions.

        $$\ell_{ij} = c \Big( \langle R_i q_i, R_j k_j \rangle
          + \sum_r \frac{u_{ir}}{c}\, v_{jr} \Big)$$

        for a bias or score $\sum_r u_{ir} v_{jr}$ of few products: its factors become
        channels of queries and keys. Any fused kernel then has it, forward and
        backward, at the price of wider heads. Those that are such products have a
        method `low_rank`: [`eqx_posemb.ALiBi`][] and [`eqx_posemb.LearnedALiBi`][] in
        the causal form (2 channels), [`eqx_posemb.Forgetting`][] (2),
        [`eqx_posemb.Sandwich`][] (`dim + 1`), [`eqx_posemb.TUPE`][] (`head_dim`) and
        [`eqx_posemb.Decomposed`][] (height + width), and sums and resets of them. An
        embedding with neither bias nor score needs no more than its rotation.

        In float32 the logits are as exact as those of `logits`, at positions of any
        size, if the kernel adds products from left to right and does not round them
        (XLA and PyTorch on a CPU; on a GPU or TPU say
        `jax.default_matmul_precision("highest")`). In whatever order it adds them, a
        logit is off by a few roundings of the largest of its terms, 2⁻²⁴ of it each: of
        a slope times half of the distance between the first and the last query. A
        feature of bfloat16 queries is a sum of three bfloat16 numbers, and one product
        becomes six, which are as exact as in float32: 2 channels become 12, and 28 of a
        grid, whose keys are zeros and ones, 84.

        Channels of queries and keys belong together, as they are made by one call: do
        not cache them.

        !!! Example

            ```python
            import jax
            import jax.numpy as jnp
            import eqx_posemb as pe

            embedding = pe.PositionalEmbedding(bias=pe.ALiBi(heads=8))
            p = jnp.arange(10)
            q = k = v = jnp.ones((8, 10, 64))
            *qkv, scale = embedding.for_kernel(q, k, v, p, p)
            q_, k_, v_ = (x.swapaxes(0, 1) for x in qkv)  # [seq, heads, wide]
            out = jax.nn.dot_product_attention(q_, k_, v_, scale=scale, is_causal=True)
            out = out[..., :64].swapaxes(0, 1)
            expected = embedding.attend(q, k, v, p, p, causal=True)
            assert jnp.allclose(out, expected, atol=1e-6)
            ```

        **Arguments:**

        - `q`, `k`, `v`, `q_positions`, `k_positions`, `length`: as in `attend`.
        - `pieces`: how many numbers of the dtype of `q` a feature is the sum of. By
            default as many as it takes for float32: one, or three of bfloat16. Two of
            them have an error of 2⁻¹⁶ of each product, and half of the channels.

        **Returns:**

        Queries, keys and values, with zeros to fill up the last axis to a multiple of
        8, the same for all three: cut what comes out back to `dim_v` channels. Keys and
        values are repeated for each head of queries if channels of keys are not the
        same for all heads. And the scale to multiply products by. To mask is up to the
        kernel.

        **Raises:** a `ValueError` if the bias or score is no sum of few products, if
        the rotary embedding is no rotation of each token by itself, if `pieces` is not
        positive, or if `q` is float16 and there are channels.
        """
        check_values(k, v)
        if pieces is not None:
            check_at_least("pieces", pieces, 1)
        if isinstance(self.rotary, AbstractExtension):
            raise ValueError(
                "`rotary` must turn each token by itself, for products to be all there "
                f"is, but got a {type(self.rotary).__name__}. Use `attend`."
            )
        logits, q, k, *tokens = self._parts(q, k, q_positions, k_positions, length, {})
        q, k, v = with_channels(q, k, v, logits.low_rank(*tokens), pieces)
        return q, k, v, logits.scale

    @jax.named_scope("eqx_posemb.PositionalEmbedding.parts")
    def _parts(
        self, q, k, q_positions, k_positions, length, states, soft_cap=None, axis=None
    ) -> tuple[Logits, Array, Array, Tokens, Tokens]:
        q_positions = as_positions(q_positions, "q_positions")
        k_positions = as_positions(k_positions, "k_positions")
        check_shapes(q, k, q_positions, k_positions)
        states = {name: state for name, state in states.items() if state is not None}
        check_states(states, self.reads, q=q, k=k)
        turned_q, turned_k, rotary, score = q, k, self.rotary, self.score
        scale = q.shape[-1] ** -0.5 if self.scale is None else self.scale
        if rotary is not None and rotary.dynamic:
            if length is None:
                length = context_length(q_positions, k_positions, axis_name=axis)
            rotary = rotary.for_length(length)
        if isinstance(rotary, AbstractExtension):
            # Which of its products a pair has goes by positions, as a score does. What
            # is left to multiply is nothing.
            score = Extended(rotary, scale, score)
            turned_q, turned_k = (jnp.zeros_like(x[..., :1]) for x in (q, k))
        elif rotary is not None:
            turn_q, turn_k = rotary(q_positions), rotary(k_positions)
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


PositionalEmbedding.__init__.__doc__ = """**Arguments:**

- `encoding`: What to add to tokens.
- `rotary`: What to multiply into queries and keys.
- `bias`: What to add to logits, blind to the content.
- `score`: What to add to logits, with an eye on the content.
- `scale`: What to multiply products of queries and keys by; `None` is
    `1 / sqrt(head_dim)`.

**Raises:** a `TypeError` if a part does not belong in its slot, and a `ValueError` if
`scale` is not positive.
"""
