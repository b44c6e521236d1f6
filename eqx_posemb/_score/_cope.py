"""CoPE: positions that count the keys for which a query opens a gate."""

import math

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

from .._checks import check_at_least, check_count, require
from .._given import check_both, check_sequence, in_common, Positions
from .._phase import as_float
from .._spread import keys_in_order, look_up
from ._abstract import AbstractScore


class CoPE(AbstractScore):
    r"""Contextual position encoding (CoPE), Golovneva et al. 2024.

    A query counts the keys back to a key, each by a gate of its content:

    $$s_{ij} = \frac{q_i \cdot e[\min(c_{ij}, P - 1)]}{\sqrt{D}}, \qquad
      c_{ij} = \sum_{p_j \le p_l \le p_i} \sigma\!\Big(\frac{q_i \cdot k_l}{\sqrt{D}}
      \Big)$$

    for $P$ learned vectors $e$ (`weight`), which all heads share. A count between two
    whole numbers interpolates their vectors. $D$ is the number of channels of a head. A
    gate may open for spaces or for verbs alone. A query then attends to the third word
    or the third sentence back, whatever the number of tokens. Counts beyond $P - 1$
    share the last vector, so contexts may be longer than in training.

    A logit reads all keys between its two tokens, and only keys that the query attends
    to are counted. Positions have an order here and no other effect, and the keys that
    follow the query are never counted. Attention therefore needs all keys of a query:
    blocks have some queries and all keys, and there is no ring.

    The formula follows the code of the authors. Their paper prints a listing that does
    not divide $q_i \cdot e$ by $\sqrt{D}$. For weights of such a model, multiply them
    by $\sqrt{D}$.

    Not to be confused with [`eqx_posemb.clipped_rope`][], which is CoPE as well.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.CoPE(head_dim=64, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(score=score)
        q = k = v = jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        out = embedding.attend(q, k, v, p, p, causal=True)
        ```

    ??? cite "Reference"

        [Contextual Position Encoding: Learning to Count What's
        Important](https://arxiv.org/abs/2405.18719), Section 4, and its released code.

        ```bibtex
        @article{golovneva2024contextual,
            author={Golovneva, Olga and Wang, Tianlu and Weston, Jason and Sukhbaatar,
                    Sainbayar},
            title={Contextual Position Encoding: Learning to Count What's Important},
            journal={arXiv:2405.18719},
            year={2024},
        }
        ```
    """

    traits = ("between", "causal")

    # Row `n` is the vector of the count `n`.
    weight: Float[Array, "reach head_dim"]

    def __init__(
        self,
        head_dim: int,
        *,
        reach: int = 64,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `head_dim`: The number of channels of a head.
        - `reach`: The number of counts with a vector, from 0 on. The paper finds that
            64 suffice for texts of 1,024 tokens.
        - `std`: The standard deviation of the initial weights. The authors start from
            zero.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if `head_dim` is less than one, `reach` less than
        two, or `std` negative.
        """
        check_count("head_dim", head_dim, 1)
        check_count("reach", reach, 2)
        check_at_least("std", std, 0)
        self.weight = std * jr.normal(key, (reach, head_dim))

    @property
    def reach(self) -> int:
        """The number of counts with a vector."""
        return self.weight.shape[0]

    @jax.named_scope("eqx_posemb.CoPE")
    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
        *,
        seen: Bool[Array, "*heads q k"] | None = None,
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries.
        - `k`: the keys.
        - `q_positions`: the positions of the queries. Only their order matters.
        - `k_positions`: the positions of the keys.
        - `seen`: True where a query attends to a key, for all heads or for each head.
            By default a query attends to all keys.

        **Returns:**

        The score, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions are not one-dimensional, or if `q` has
        another number of channels than the vectors.
        """
        check_both(check_sequence, q_positions, k_positions, "to count keys in order")
        width = self.weight.shape[1]
        rule = f"have the {width} channels of the vectors of this `CoPE`"
        cure = f"Build it with `head_dim={q.shape[-1]}`."
        require(q.shape[-1] == width, "q", rule, q.shape, cure)
        # Gates and vectors multiply the query with the scale of the logits.
        scale = 1 / math.sqrt(q.shape[-1])
        q, k = scale * as_float(q), as_float(k)
        q_positions, k_positions = in_common(q_positions, k_positions)
        counts = self._counts(q, k, q_positions, k_positions, seen)
        counts = jnp.minimum(counts, self.reach - 1)
        # The interpolation of the last vector has weight zero, so it may start before.
        row = jnp.minimum(jnp.floor(counts), self.reach - 2)
        # Values for all counts come first, as there are far fewer counts than keys.
        values = jnp.einsum("hqd,rd->hqr", q, as_float(self.weight))
        pairs = jnp.stack([values[..., :-1], values[..., 1:]], axis=1)
        found = jax.vmap(look_up)(pairs, row.astype(jnp.int32))
        return found[:, 0] + (counts - row) * (found[:, 1] - found[:, 0])

    def _counts(self, q, k, q_positions, k_positions, seen):
        """The sum of gates from each key to the query."""
        order, counted = keys_in_order(q_positions, k_positions, seen)
        there = k_positions[order]
        gates = jax.nn.sigmoid(jnp.einsum("hqd,hkd->hqk", q, k[:, order]))
        sums = jax.lax.cumsum(jnp.where(counted, gates, 0), axis=2, reverse=True)
        # The first among keys of equal positions has the sum of them all.
        place = jnp.arange(there.shape[0])
        first = jax.lax.cummax(jnp.where(there == jnp.roll(there, 1), 0, place))
        return jnp.take(sums, first[jnp.argsort(order)], axis=2)
