"""Extensions: far keys at distances that the rotary embedding was trained on."""

import abc
import dataclasses

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from .._checks import as_number, check_at_least, check_count, described, require
from .._given import check_both, check_sequence, in_common, Positions
from .._phase import as_float, computing_dtype
from ._abstract import AbstractRotary, check_rotary, each_head
from ._products import AbstractProducts


Piece = tuple[Num[Array, " q"], Num[Array, " k"], Bool[Array, "q k"]]


class AbstractExtension(AbstractProducts):
    """A rotary embedding whose far keys have other positions.

    A clipped distance is not the difference of one query position and one key position.
    Near keys and far keys have different differences. Each pair of a query and a key
    therefore has the product of its own piece.

    It needs no training. Every piece is a product of all queries and keys, so the cost
    of attention is multiplied by the number of pieces.
    """

    rotary: eqx.AbstractVar[AbstractRotary]

    def __check_init__(self):
        check_rotary("rotary", self.rotary)

    @property
    def dynamic(self) -> bool:
        """Whether the rotary embedding depends on the context length."""
        return self.rotary.dynamic

    def for_length(self, length: int | Num[Array, ""]) -> "AbstractExtension":
        """The extension of the rotary embedding in a context of `length` positions."""
        return dataclasses.replace(self, rotary=self.rotary.for_length(length))

    @abc.abstractmethod
    def pieces(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> tuple[Piece, ...]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Positions of queries and of keys for each piece, and True for the pairs that
        belong to it: every pair belongs to one.
        """

    def products(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """The products of queries and keys, each pair in the piece it belongs to.

        **Arguments:**

        - `q`, `k`: queries and keys before any rotation.
        - `q_positions`, `k_positions`: their positions.

        **Returns:**

        Products, not scaled, in at least float32.

        **Raises:** a `ValueError` if positions are not one-dimensional.
        """
        check_both(check_sequence, q_positions, k_positions, "to be near or far")
        dtype = computing_dtype(q.dtype)
        # Pieces are disjoint and cover all pairs that a causal mask shows.
        chosen = jnp.zeros((q.shape[0], q.shape[1], k.shape[1]), dtype)
        pieces = self.pieces(*in_common(q_positions, k_positions))
        for q_at, k_at, here in pieces:
            turn_q, turn_k = self.rotary(q_at), self.rotary(k_at)
            turned_q = each_head(turn_q.queries, q, turn_q.heads)
            turned_k = each_head(turn_k.keys, k, turn_k.heads)
            heads = turned_k.shape[0]
            shape = (heads, q.shape[0] // heads, *turned_q.shape[1:])
            grouped = turned_q.reshape(shape)
            # Products are summed in the dtype of the logits, as the products of plain
            # attention are.
            products = jnp.einsum(
                "hgqd,hkd->hgqk", grouped, turned_k, preferred_element_type=dtype
            )
            chosen = jnp.where(here[None], products.reshape(chosen.shape), chosen)
        return chosen


class ReRoPE(AbstractExtension):
    r"""Rectified rotary embedding (ReRoPE), Su 2023.

    It clips the distances of far keys to a window, or reduces them:

    $$n \mapsto \begin{cases} n & n < w \\ w + (n - w) / s & n \ge w \end{cases}$$

    for the distance $n = p_q - p_k$ to a key in the past, a `window` $w$ and a `factor`
    $s$. The factor is infinite for ReRoPE, and finite for its leaky form. Near
    distances do not change, and no distance exceeds the trained distances. A model
    extrapolates beyond its trained length without training or a larger base. Keep the
    largest distance below the trained length. The author's window is half of it.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        embedding = pe.PositionalEmbedding(rotary=pe.ReRoPE(pe.rope(64), window=512))
        positions = jnp.arange(10)
        q = k = v = jnp.ones((8, 10, 64))
        out = embedding.attend(q, k, v, positions, positions, causal=True)
        ```

    ??? cite "Reference"

        [Transformer Upgrade Path: 12, ReRoPE with infinite
        extrapolation](https://kexue.fm/archives/9708) by Su Jianlin, with its code;
        both in Chinese.

        ```bibtex
        @misc{su2023rerope,
            author={Su, Jianlin},
            title={Rectified Rotary Position Embeddings},
            howpublished={https://github.com/bojone/rerope},
            year={2023},
        }
        ```
    """

    traits = ("causal",)

    rotary: AbstractRotary
    window: int = eqx.field(static=True)
    factor: float = eqx.field(static=True, default=float("inf"), converter=as_number)

    def __check_init__(self):
        check_at_least("window", self.window, 1)
        # The converter makes every number a float, so any other type is no number.
        if not (isinstance(self.factor, float) and self.factor >= 1):
            raise ValueError(
                f"`factor` must be at least 1, but got {described(self.factor)}."
            )

    def pieces(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> tuple[Piece, ...]:
        """Pairs within the window, and those beyond."""
        near = _ago(q_positions, k_positions) < self.window
        # Constant integers keep exact angles. A division would make them floats.
        if self.factor == float("inf"):
            q_far = jnp.full_like(q_positions, self.window)
            k_far = jnp.zeros_like(k_positions)
        else:
            q_far = (as_float(q_positions) - self.window) / self.factor + self.window
            k_far = as_float(k_positions) / self.factor
        return (q_positions, k_positions, near), (q_far, k_far, ~near)


ReRoPE.__init__.__doc__ = """**Arguments:**

- `rotary`: The rotary embedding of the model.
- `window`: The distance, in positions, from which on keys are far.
- `factor`: The divisor of distances beyond the window.

**Raises:** a `ValueError` if `window` or `factor` is less than one.
"""


class SelfExtend(AbstractExtension):
    r"""Self-Extend, Jin et al. 2024.

    It gives all far keys of a group one position:

    $$n \mapsto \begin{cases} p_q - p_k & p_q - p_k < w \\
      \lfloor p_q / G \rfloor + w - \lfloor w / G \rfloor - \lfloor p_k / G \rfloor
      & \text{else} \end{cases}$$

    for a `window` $w$ and `group` $G$. It resembles the leaky form of
    [`eqx_posemb.ReRoPE`][], but has whole positions, as in training. It reaches about
    $(L - w) G + w$ positions for a trained length $L$.

    Groups begin at absolute positions, so logits depend on more than the distance.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotary = pe.SelfExtend(pe.rope(64), group=8, window=512)
        embedding = pe.PositionalEmbedding(rotary=rotary)
        q = k = jnp.ones((8, 10, 64))
        logits = embedding.logits(q, k, jnp.arange(10), jnp.arange(10))
        ```

    ??? cite "Reference"

        [LLM Maybe LongLM: Self-Extend LLM Context Window Without
        Tuning](https://arxiv.org/abs/2401.01325), Section 3.

        ```bibtex
        @inproceedings{jin2024llm,
            author={Jin, Hongye and Han, Xiaotian and Yang, Jingfeng and Jiang, Zhimeng
                    and Liu, Zirui and Chang, Chia-Yuan and Chen, Huiyuan and Hu, Xia},
            title={{LLM} Maybe {LongLM}: {Self-Extend} {LLM} Context Window Without
                   Tuning},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """

    traits = ("absolute", "causal")

    rotary: AbstractRotary
    group: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    def __check_init__(self):
        check_count("group", self.group, 1)
        check_at_least("window", self.window, 1)

    def pieces(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> tuple[Piece, ...]:
        """Pairs within the window, and those beyond."""
        near = _ago(q_positions, k_positions) < self.window
        # The shift lets the first far distance follow the last near distance.
        q_far = q_positions // self.group + (self.window - self.window // self.group)
        k_far = k_positions // self.group
        return (q_positions, k_positions, near), (q_far, k_far, ~near)


SelfExtend.__init__.__doc__ = """**Arguments:**

- `rotary`: The rotary embedding of the model.
- `group`: The number of positions in a group of far keys.
- `window`: The distance, in positions, from which on keys are far.

**Raises:** a `ValueError` if `group` or `window` is less than one.
"""


class DualChunk(AbstractExtension):
    r"""Dual chunk attention, An et al. 2024.

    It divides the past into chunks, and gives far chunks a fixed query position:

    $$n \mapsto \begin{cases}
        (p_q \bmod c) - (p_k \bmod c) & \text{in the same chunk} \\
        \min(p_q \bmod c + c,\, C) - (p_k \bmod c) & \text{in the chunk before} \\
        \min(2c - 1,\, C) - (p_k \bmod c) & \text{farther} \end{cases}$$

    for chunks of $c = C - w$ positions, `chunk` $C$ and `window` $w$. Distances within
    a chunk and near its border are exact. No distance exceeds $C$, which is at most the
    trained length. Qwen2.5-1M uses it.

    It is for causal attention, since a key in a later chunk has no distance.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rotary = pe.DualChunk(pe.rope(64), chunk=2048, window=256)
        embedding = pe.PositionalEmbedding(rotary=rotary)
        q = k = v = jnp.ones((8, 10, 64))
        positions = jnp.arange(4000, 4010)
        out = embedding.attend(q, k, v, positions, positions, causal=True)
        ```

    ??? cite "Reference"

        [Training-Free Long-Context Scaling of Large Language
        Models](https://arxiv.org/abs/2402.17463), Section 3.

        ```bibtex
        @inproceedings{an2024training,
            author={An, Chenxin and Huang, Fei and Zhang, Jun and Gong, Shansan and
                    Qiu, Xipeng and Zhou, Chang and Kong, Lingpeng},
            title={Training-Free Long-Context Scaling of Large Language Models},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """

    traits = ("absolute", "causal")

    rotary: AbstractRotary
    chunk: int = eqx.field(static=True)
    window: int = eqx.field(static=True)

    def __check_init__(self):
        check_at_least("window", self.window, 1)
        rule = f"be larger than `window`, {self.window}"
        require(self.chunk > self.window, "chunk", rule, self.chunk)

    def pieces(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> tuple[Piece, ...]:
        """Pairs within a chunk, in neighboring ones, and farther apart."""
        size = self.chunk - self.window
        q_in, k_in = q_positions % size, k_positions % size
        apart = (q_positions // size)[:, None] - (k_positions // size)[None]
        # This position is beyond every position of a chunk, and no distance exceeds
        # `chunk`.
        last = jnp.full_like(q_in, min(2 * size - 1, self.chunk))
        return (
            (q_in, k_in, apart <= 0),
            (jnp.minimum(q_in + size, self.chunk), k_in, apart == 1),
            (last, k_in, apart > 1),
        )


DualChunk.__init__.__doc__ = """**Arguments:**

- `rotary`: The rotary embedding of the model.
- `chunk`: The largest distance, in positions: at most the trained length.
- `window`: The number of positions by which a chunk is shorter than `chunk`. Distances
    across the border of two chunks are exact up to this number.

**Raises:** a `ValueError` if `window` is less than one, or `chunk` not larger.
"""


def _ago(q_positions, k_positions):
    return q_positions[:, None] - k_positions[None]
