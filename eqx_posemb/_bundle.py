"""One object for every effect of positions on attention."""

from dataclasses import KW_ONLY
from typing import Any, TYPE_CHECKING

import equinox as eqx
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from ._attending import Attended
from ._attention import ImplementationName, Window
from ._bias import AbstractBias
from ._encoding import AbstractEncoding
from ._frequencies import Length
from ._given import as_positions, Positions
from ._module import Module
from ._phase import computing_dtype
from ._placed import place, Placed
from ._rotary import AbstractProducts, AbstractRotary
from ._score import AbstractScore
from ._slots import check_named, check_slots, refuse_attribute, refuse_call


class PositionalEmbedding(Module):
    r"""Everything that position does to attention, in the four places where it can.

    $$x_i + e(p_i), \qquad
      \ell_{ij} = c\, \langle R(p_i)\, q_i, R(p_j)\, k_j \rangle
                  + b(p_i, p_j) + s(q_i, k_j, p_i, p_j)$$

    It has four slots. An `encoding` $e$ is added to tokens, and a `rotary` $R$ rotates
    queries and keys. A `bias` $b$ and a `score` $s$ are added to the logits. The
    `scale` $c$ multiplies the products, as some papers prescribe. A slot may be `None`.
    Order enters a transformer through this object alone: permuting tokens together with
    their positions permutes the output.

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
    rotary: AbstractRotary | AbstractProducts | None = None
    bias: AbstractBias | None = None
    score: AbstractScore | None = None
    scale: float | None = eqx.field(static=True, default=None)

    def __new__(cls, *unnamed: Any, **_slots: Any):
        check_named(cls, unnamed)
        return super().__new__(cls)

    def __check_init__(self):
        check_slots(self)

    if not TYPE_CHECKING:
        __call__, __getattr__ = refuse_call, refuse_attribute

    @property
    def reads(self) -> tuple[str, ...]:
        """The states among `q_state` and `k_state` that `logits` and `attend` need."""
        readers = [part for part in (self.rotary, self.score) if part is not None]
        return tuple(dict.fromkeys(name for part in readers for name in part.reads))

    def embed(
        self, x: Float[Array, "seq dim"], positions: Num[Positions, "seq *axes"]
    ) -> Float[Array, "seq dim"]:
        """Adds the encoding to tokens. Without an encoding it returns the tokens.

        **Arguments:**

        - `x`: the tokens.
        - `positions`: their positions.

        **Returns:**

        `x + encoding(positions)`, in the dtype of `x`; added in at least float32.

        **Raises:** a `ValueError` if the encoding has another shape than `x`.
        """
        positions = as_positions(positions)
        if self.encoding is None:
            return x
        encoding = self.encoding(positions)
        if encoding.shape != x.shape:
            cure = "Build the encoding for the channels of `x`."
            if x.ndim > encoding.ndim:
                cure = "Use `jax.vmap` over a batch."
            elif x.shape[:1] != encoding.shape[:1]:
                cure = "Give a position for each token."
            raise ValueError(
                "`x` must have the shape [seq, dim] of its positions and of the "
                f"encoding, {encoding.shape}, but got {x.shape}. {cure}"
            )
        dtype = computing_dtype(x.dtype)
        return (x.astype(dtype) + encoding.astype(dtype)).astype(x.dtype)

    def at(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"] | None = None,
        *,
        length: Length = None,
    ) -> Placed:
        """Places the embedding: evaluates everything that depends on positions alone.

        All layers of a model share the result, so that rotations are computed once.

        !!! Example

            ```python
            import jax
            import jax.numpy as jnp
            import eqx_posemb as pe

            embedding = pe.PositionalEmbedding(rotary=pe.rope(64))
            placed = embedding.at(jnp.arange(10))
            x = jnp.ones((8, 10, 64))  # [heads, seq, dim]
            for layer in range(3):
                x = x + placed.attend(x, x, x, causal=True)
            ```

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys. By default they are `q_positions`,
            as in self-attention.
        - `length`: the context length, for schedules that read it. With it, layers
            share the rotation, and a cache may hold rotated keys. By default each call
            of `attend` finds the length.

        **Returns:**

        A [`eqx_posemb.Placed`][], whose methods take queries, keys and values.

        **Raises:** a `ValueError` if positions are not numbers, or too large for int32.
        """
        return place(self, q_positions, k_positions, length)

    def logits(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
        *,
        length: Length = None,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
    ) -> Float[Array, "heads q k"]:
        """The finished logits: scaled, rotated, with bias and score; not masked.

        **Arguments:**

        - `q`: queries.
        - `k`: keys. `kv_heads` must divide `heads`. In grouped-query attention (GQA)
            each head of keys serves `heads / kv_heads` consecutive heads of queries.
        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.
        - `length`: the context length, for schedules that read it. Without a mask
            queries attend to all keys, and the default is one more than the largest
            position.
        - `q_state`, `k_state`: further states of the tokens, such as hidden states, for
            a score that reads more than `q` and `k`. They are arrays `[seq, ...]` or a
            pytree of such arrays. `reads` names the required states. To decode, cache
            `k_state` together with keys, values and positions.

        **Returns:**

        The logits, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if shapes do not fit, if a state of `reads` is
        missing, or if another state is given.
        """
        placed = self.at(q_positions, k_positions, length=length)
        return placed.logits(q, k, q_state=q_state, k_state=k_state)

    def attend(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        v: Float[Array, "kv_heads k dim_v"],
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
        *,
        mask: Bool[Array, "q k"] | Bool[Array, "heads q k"] | None = None,
        causal: bool = False,
        window: Window | None = None,
        q_segments: Int[Array, " q"] | None = None,
        k_segments: Int[Array, " k"] | None = None,
        q_order: Int[Positions, " q"] | None = None,
        k_order: Int[Positions, " k"] | None = None,
        length: Length = None,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
        soft_cap: float | None = None,
        sinks: Float[Array, " heads"] | None = None,
        return_lse: bool = False,
        implementation: ImplementationName = "auto",
        block_size: int | None = None,
        axis_name: str | None = None,
    ) -> Attended:
        r"""Softmax attention over the finished logits.

        A query attends to a key if all of the given masks allow it. Masks compare
        positions and not indices, so a cache may have any order, and shards need no
        offset. Positions may be up to 2³¹ − 1 apart, as in
        [`eqx_posemb.positions.distance`][]. There is no dropout of the weights.

        **Arguments:**

        - `q`, `k`, `q_positions`, `k_positions`, `q_state`, `k_state`: as in `logits`.
        - `length`: the context length, for schedules that read it. The default is one
            more than the largest position of a key that some query attends to, so empty
            slots and padding do not count. With segments, each document has its own
            length.
        - `v`: values, one for each key.
        - `mask`: True where a query attends to a key, for all heads or for each head.
        - `causal`: whether to mask keys after the query's position.
        - `window`: masks keys that are at least this many positions away. A causal
            window of 4 is the query's own position and the 3 before, as
            `sliding_window` in transformers. A pair (back, ahead) is inclusive, as in
            `jax.nn.dot_product_attention`.
        - `q_segments`, `k_segments`: masks keys with another id, for packed sequences
            and for padding. Give both or neither.
        - `q_order`, `k_order`: the order that `causal` and `window` compare, such as
            the indices of the tokens. By default they compare positions. Positions with
            several coordinates, as in M-RoPE, need an order. Give both or neither.
        - `soft_cap`: bounds the logits before masking, as in Gemma 2: `soft_cap *
            tanh(logits / soft_cap)`.
        - `sinks`: a logit for each head, which takes weight and has no value, as in
            GPT-OSS: softmax divides by $e^{s_h} + \sum_j e^{\ell_{ij}}$. Neither
            `soft_cap` nor masks apply to it. Each layer learns its own.
        - `return_lse`: whether to return the log-sum-exp of the logits as well.
        - `implementation`: `"dense"` materializes all logits, and defines the result.
            `"blockwise"` computes exact attention in blocks of queries and keys, in
            memory that grows linearly with the sequence length. It skips fully masked
            blocks, and has first and second derivatives in reverse mode. `"pallas"` is
            one fused kernel for TPUs and GPUs, interpreted on a CPU. It takes positions
            stated to be consecutive and terms by distance alone, and has first
            derivatives. For other inputs it warns with the reason, and computes blocks.
            `"auto"` chooses by the platform and the number of logits. `explain` reports
            the choice. `for_kernel` prepares inputs for other kernels.
        - `block_size`: the number of queries, and of keys, in a block. The default is
            at most 512, with little padding in the last block, and fewer for more than
            32 heads. A TPU's kernel needs a multiple of 128, by default at most 1,024.
        - `axis_name`: under `jax.shard_map`, the mesh axis over which the sequence is
            sharded, for ring attention. Each device has its shard of queries, keys and
            values with their positions, in any order, and keys move from device to
            device. [`eqx_posemb.positions.zigzag`][] balances causal attention.
            `"pallas"` and `"auto"` use a kernel for each shard of keys, and the others
            use blocks. A ring has first derivatives. Without `axis_name` each device
            attends to its own shard, and JAX can raise no error.

        **Returns:**

        The attended values, in the dtype of `v`; zeros for a query that sees no key.
        With `return_lse`, a pair of them and the log-sum-exp, [heads, q], in at least
        float32. It includes the sink, and is -inf for a query that sees nothing.

        **Raises:** a `ValueError` as `logits`, if `soft_cap` or `block_size` is not
        positive, if `sinks` has another shape, or if `implementation` is unknown.
        """
        arguments = dict(locals())
        for name in ("self", "q_positions", "k_positions", "length"):
            del arguments[name]
        placed = self.at(q_positions, k_positions, length=length)
        # The method of a placed embedding has all other arguments.
        return placed.attend(**arguments)

    def explain(self, q: Any, k: Any, v: Any, *positions: Any, **settings: Any) -> str:
        """Which implementation `attend` takes with the same arguments, and why none is
        fused: see [`eqx_posemb.Placed.explain`][]."""
        length = settings.pop("length", None)
        return self.at(*positions, length=length).explain(q, k, v, **settings)

    def for_kernel(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        v: Float[Array, "kv_heads k dim_v"],
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
        *,
        length: Length = None,
        pieces: int | None = None,
    ) -> tuple[
        Float[Array, "heads q wide"],
        Float[Array, "to_heads k wide"],
        Float[Array, "to_heads k wide"],
        float,
    ]:
        r"""Folds a low-rank bias into query and key channels, for a fused kernel.

        $$\ell_{ij} = c \Big( \langle R_i q_i, R_j k_j \rangle
          + \sum_r \frac{u_{ir}}{c}\, v_{jr} \Big)$$

        for a low-rank bias or score $\sum_r u_{ir} v_{jr}$, whose factors become
        channels of queries and keys. Any fused kernel then applies it, forward and
        backward, with wider heads. Low-rank biases and scores have a method `low_rank`:
        [`eqx_posemb.ALiBi`][] and [`eqx_posemb.LearnedALiBi`][] in the causal form (2
        channels), [`eqx_posemb.Forgetting`][] (2), [`eqx_posemb.Sandwich`][] (`dim +
        1`), [`eqx_posemb.TUPE`][] (`head_dim`) and [`eqx_posemb.Decomposed`][] (height
        + width), and their sums and resets. An embedding without a bias or a score
        needs its rotation alone.

        In float32 the logits are as accurate as `logits`, at positions of any size, if
        the kernel adds products from left to right without rounding them. XLA and
        PyTorch do so on a CPU. On a GPU or TPU, set
        `jax.default_matmul_precision("highest")`. In another order, a logit is off by a
        few roundings, 2⁻²⁴ each, of its largest term. This term is the slope times half
        of the distance between the first and the last query. In bfloat16, each feature
        is a sum of three numbers, and one product becomes six, which are as accurate as
        float32. So 2 channels become 12. The 28 channels of a grid, whose keys are
        zeros and ones, become 84.

        Use the channels of queries and keys from one call together, and do not cache
        them.

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

        - `q`, `k`, `v`, `q_positions`, `k_positions`: as in `attend`.
        - `length`: the context length. Schedules that read it need it here, since the
            kernel applies the mask.
        - `pieces`: the number of values in the dtype of `q` that sum to a feature. The
            default keeps float32 accuracy: one, or three for bfloat16. Two values have
            an error of 2⁻¹⁶ of each product, and half of the channels.

        **Returns:**

        Queries, keys and values, and the scale of the products. Zeros pad the last axis
        of all three to the same multiple of 8, so cut the output to `dim_v` channels.
        Keys and values are repeated for each head of queries if heads have different
        channels of keys. The kernel applies the mask.

        **Raises:** a `ValueError` if the bias or score is not low-rank, if the rotary
        embedding is an extension, if `pieces` is not positive, or if `q` is float16 and
        channels are added.
        """
        placed = self.at(q_positions, k_positions, length=length)
        return placed.for_kernel(q, k, v, pieces=pieces)


PositionalEmbedding.__init__.__doc__ = """**Arguments:**

- `encoding`: An encoding, which is added to the tokens.
- `rotary`: A rotary embedding, which rotates queries and keys.
- `bias`: A bias of positions alone, which is added to the logits.
- `score`: A score of positions and content, which is added to the logits.
- `scale`: The factor of the products of queries and keys. `None` means
    `1 / sqrt(head_dim)`.

**Raises:** a `TypeError` if a part has no name of a slot or is not of its kind, and a
`ValueError` if `scale` is not positive.
"""
