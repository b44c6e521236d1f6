"""A positional embedding at given positions."""

import dataclasses
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, Int, Num, PyTree

from ._attending import attend, Attended, inputs, prepared, with_positions
from ._attention import (
    check_axes,
    check_shapes,
    check_states,
    check_values,
    dense_logits,
    explained,
    ImplementationName,
    Logits,
    Tokens,
    Window,
    with_channels,
)
from ._bias import AbstractBias
from ._checks import check_count
from ._frequencies import check_length, context_length
from ._given import as_given, check_positions, Positions
from ._module import Module
from ._rotary import (
    AbstractProducts,
    AbstractRotary,
    AbstractRotation,
    each_head,
    in_lengths,
)
from ._score import AbstractScore
from ._sharding import compiler_sharded, gathered, mesh_axes


class Placed(Module):
    """A positional embedding at the positions of some queries and keys.

    [`eqx_posemb.PositionalEmbedding.at`][] makes it once, and every layer of a model
    uses it. It is a pytree: an argument of `jax.jit`, `jax.lax.scan`, `jax.vmap` and
    `jax.checkpoint`. It holds the tables of the rotation, of the shape [seq, dim / 2],
    and nothing of the size of the logits.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        embedding = pe.PositionalEmbedding(rotary=pe.rope(64), bias=pe.ALiBi(heads=8))
        placed = embedding.at(jnp.arange(10))

        def layer(x, _):
            return x + placed.attend(x, x, x, causal=True), None

        x = jnp.ones((8, 10, 64))  # [heads, seq, dim]
        out, _ = jax.lax.scan(layer, x, length=12)
        ```

    A cache may hold rotated keys. `keys` rotates them when they are written, and
    `attend` takes them with `keys_are_rotated=True`.

    A schedule that reads the context length needs `length` in `at` for that. Without it
    `attend` finds the length from the keys that are not masked, and evaluates the
    rotation itself.
    """

    q_positions: Num[Positions, "q *axes"]
    k_positions: Num[Positions, "k *axes"]
    q_rotation: AbstractRotation | None
    k_rotation: AbstractRotation | None
    rotary: AbstractRotary | AbstractProducts | None
    """The part that `attend` evaluates: an extension, or a rotary embedding that reads
    the context length where `at` got none."""
    bias: AbstractBias | None
    score: AbstractScore | None
    scale: float | None = eqx.field(static=True)
    reads: tuple[str, ...] = eqx.field(static=True)

    if not TYPE_CHECKING:

        def __call__(self, *x):
            raise TypeError(
                "A placed embedding has a method for each use, but got a call with "
                f"{len(x)} argument(s). Write `placed.attend(q, k, v)` in each layer, "
                "or `placed.queries(q)` and `placed.keys(k)` for a rotation alone."
            )

    def queries(self, q: Float[Array, "heads q dim"]) -> Float[Array, "heads q to"]:
        """Rotates queries, as `attend` does.

        **Arguments:**

        - `q`: queries before any rotation.

        **Returns:**

        The rotated queries, in the dtype of `q`.

        **Raises:** a `ValueError` if the rotary embedding is an extension, which
        rotates pairs of a query and a key. The same if it reads the context length and
        `at` got no `length`.
        """
        check_axes(q=q)
        self._check_rotates("queries")
        if self.q_rotation is None:
            return q
        return each_head(self.q_rotation.queries, q, self.q_rotation.heads)

    def keys(self, k: Float[Array, "kv_heads k dim"]) -> Float[Array, "heads k to"]:
        """Rotates keys, as `attend` does: a cache may hold the result.

        **Arguments:**

        - `k`: keys before any rotation.

        **Returns:**

        The rotated keys, in the dtype of `k`. If each head has its own rotation, they
        have the heads of the queries.

        **Raises:** as `queries`.
        """
        check_axes(k=k)
        self._check_rotates("keys")
        if self.k_rotation is None:
            return k
        return each_head(self.k_rotation.keys, k, self.k_rotation.heads)

    def logits(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        *,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
    ) -> Float[Array, "heads q k"]:
        """The finished logits: see [`eqx_posemb.PositionalEmbedding.logits`][]."""
        check_axes(q=q, k=k)
        return _logits(self, q, k, dict(q_state=q_state, k_state=k_state))

    def attend(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k k_dim"],
        v: Float[Array, "kv_heads k dim_v"],
        *,
        mask: Bool[Array, "q k"] | Bool[Array, "heads q k"] | None = None,
        causal: bool = False,
        window: Window | None = None,
        q_segments: Int[Array, " q"] | None = None,
        k_segments: Int[Array, " k"] | None = None,
        q_order: Int[Positions, " q"] | None = None,
        k_order: Int[Positions, " k"] | None = None,
        q_state: PyTree[Array] | None = None,
        k_state: PyTree[Array] | None = None,
        soft_cap: float | None = None,
        sinks: Float[Array, " heads"] | None = None,
        return_lse: bool = False,
        implementation: ImplementationName = "auto",
        block_size: int | None = None,
        axis_name: str | None = None,
        keys_are_rotated: bool = False,
    ) -> Attended:
        """Softmax attention over the finished logits.

        **Arguments:**

        - `keys_are_rotated`: whether `k` has come from `keys`, for example out of a
            cache. A score, and an extension of a rotary embedding, need the keys before
            any rotation.
        - All others: as in [`eqx_posemb.PositionalEmbedding.attend`][].

        **Returns:**

        As [`eqx_posemb.PositionalEmbedding.attend`][].

        **Raises:** a `ValueError` as [`eqx_posemb.PositionalEmbedding.attend`][], and
        if `keys_are_rotated` with a score or an extension, which read the keys. The
        same if the rotary embedding reads the context length and `at` got no `length`.
        """
        # `prepared` has the same arguments.
        arguments = locals()
        return attend(*prepared(arguments.pop("self"), **arguments))

    def explain(
        self,
        q: Float[Array, "heads q dim"] | jax.ShapeDtypeStruct,
        k: Float[Array, "kv_heads k k_dim"] | jax.ShapeDtypeStruct,
        v: Float[Array, "kv_heads k dim_v"] | jax.ShapeDtypeStruct,
        **settings: Any,
    ) -> str:
        """Which implementation `attend` takes on each platform, and why none is fused.

        !!! Example

            ```python
            import jax
            import eqx_posemb as pe

            embedding = pe.PositionalEmbedding(bias=pe.ALiBi(heads=8))
            placed = embedding.at(pe.positions.consecutive(4096))
            x = jax.ShapeDtypeStruct((8, 4096, 64), "bfloat16")
            print(placed.explain(x, x, x, causal=True))
            ```

            ```output
            tpu: one fused kernel, in tiles of 1024 queries and 1024 keys
            others: blocks of 512 queries and keys
            ```

        **Arguments:**

        - `q`, `k`, `v`: as in `attend`, or their shapes and dtypes.
        - `settings`: keyword arguments of `attend`, which raise its errors.

        **Returns:** a line for each platform, and a line with the reason.
        """
        found = []

        def trace(q, k, v, settings):
            placed, static, _, *arrays = prepared(self, q, k, v, **settings)
            found.append(explained(static[0], inputs(placed, static, *arrays)))

        eqx.filter_eval_shape(trace, q, k, v, settings)
        return found[0]

    def for_kernel(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        v: Float[Array, "kv_heads k dim_v"],
        *,
        pieces: int | None = None,
    ) -> tuple[
        Float[Array, "heads q wide"],
        Float[Array, "to_heads k wide"],
        Float[Array, "to_heads k wide"],
        float,
    ]:
        """The inputs of a fused kernel: see
        [`eqx_posemb.PositionalEmbedding.for_kernel`][]."""
        check_axes(q=q, k=k, v=v)
        check_values(k, v)
        if pieces is not None:
            check_count("pieces", pieces, 1)
        self._check_rotates("for_kernel")

        def widened(placed, q, k, v):
            logits, q, k, *tokens = placed._terms(q, k, {})
            return list(with_channels(q, k, v, logits.low_rank(*tokens), pieces))

        axes = [mesh_axes(x)[:2] for x in (q, k, v)]
        scale = self.scale or q.shape[-1] ** -0.5
        return *compiler_sharded(widened, axes, self, q, k, v), scale

    def _check_rotates(self, method):
        if isinstance(self.rotary, AbstractProducts):
            raise ValueError(
                "`rotary` must turn each token by itself, for products to be all there "
                f"is, but got a {type(self.rotary).__name__}. Use `attend` and not "
                f"`{method}`."
            )
        if self.rotary is not None:
            raise ValueError(
                f"`length` must be given to `at` before `{method}`, as `rotary` reads "
                "the context length, and only `attend` gets the mask of the keys, "
                "but got None. Give the length of the whole context, as in "
                "`at(positions, length=4096)`."
            )

    def _in_context(self, lengths):
        """The embedding with rotations at the context lengths of `lengths`."""
        if self.rotary is None or not self.rotary.dynamic:
            return self
        of_q, of_k = lengths()
        if not isinstance(self.rotary, AbstractProducts):
            return dataclasses.replace(
                self,
                q_rotation=in_lengths(self.rotary, self.q_positions, of_q),
                k_rotation=in_lengths(self.rotary, self.k_positions, of_k),
                rotary=None,
            )
        if of_q.ndim:
            raise ValueError(
                "`length` must be given where segments have a "
                f"{type(self.rotary).__name__} of a rotary embedding that reads the "
                "context length, but got None. Give one length for all documents."
            )
        return dataclasses.replace(self, rotary=self.rotary.for_length(of_q))

    def _terms(
        self, q, k, states, soft_cap=None, keys_are_rotated=False, order=(None, None)
    ):
        """The terms of the logits, rotated queries and keys, and their tokens."""
        positions, score = (self.q_positions, self.k_positions), self.score
        if not keys_are_rotated:
            check_shapes(q, k, *positions)
        elif score is not None or self.rotary is not None:
            reader = type(score or self.rotary).__name__
            raise ValueError(
                "`keys_are_rotated` must be False where a score or an extension reads "
                f"keys before rotation, but a {reader} does. Cache the keys as they "
                "are."
            )
        states = {name: state for name, state in states.items() if state is not None}
        check_states(states, self.reads, q=q, k=k)
        scale = self.scale or q.shape[-1] ** -0.5
        content, extension = (q, k), None
        if isinstance(self.rotary, AbstractProducts):
            extension = self.rotary
            q, k = q[..., :0], k[..., :0]
        elif keys_are_rotated:
            q = self.queries(q)
            check_shapes(q, k, *positions)
        else:
            q, k = self.queries(q), self.keys(k)
        if score is None and extension is None:
            content = None, None
        return (
            Logits(self.bias, score, extension, scale, soft_cap),
            q,
            k,
            Tokens(content[0], self.q_positions, states.get("q_state"), order[0]),
            Tokens(content[1], self.k_positions, states.get("k_state"), order[1]),
        )


@eqx.filter_jit
def _logits(placed, q, k, states):
    def finished(placed, q, k, states):
        placed = with_positions(placed, gathered)
        every = placed.q_positions, placed.k_positions
        placed = placed._in_context(lambda: (context_length(*every),) * 2)
        logits, *tokens = placed._terms(q, k, states)
        return dense_logits(logits, *tokens).astype(q.dtype)

    axes = *mesh_axes(q)[:2], *mesh_axes(k)[1:2]
    return compiler_sharded(finished, axes, placed, q, k, states)


@eqx.filter_jit
def _rotation(rotary, positions):
    return rotary(positions)


@jax.named_scope("eqx_posemb.PositionalEmbedding.at")
def place(embedding, q_positions, k_positions, length) -> Placed:
    """An embedding at positions, with its rotations evaluated."""
    if k_positions is None:
        k_positions = q_positions
    same = k_positions is q_positions
    q_positions = as_given(q_positions, "q_positions")
    k_positions = q_positions if same else as_given(k_positions, "k_positions")
    check_positions("q_positions", q_positions)
    check_positions("k_positions", k_positions)
    rotary, turn_q, turn_k = embedding.rotary, None, None
    if rotary is not None and length is not None:
        check_length(length)
        rotary = rotary.for_length(length)
    if isinstance(rotary, AbstractRotary) and not rotary.dynamic:
        turn_q = _rotation(rotary, q_positions)
        turn_k = turn_q if same else _rotation(rotary, k_positions)
        rotary = None
    return Placed(
        q_positions=q_positions,
        k_positions=k_positions,
        q_rotation=turn_q,
        k_rotation=turn_k,
        rotary=rotary,
        bias=embedding.bias,
        score=embedding.score,
        scale=embedding.scale,
        reads=embedding.reads,
    )
