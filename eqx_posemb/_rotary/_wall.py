"""Wall attention: each channel of a key fades by gates of the tokens that follow."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_count
from .._given import check_sums, in_common
from .._phase import computing_dtype
from .._sharding import repeated
from .._spread import either
from ._products import AbstractProducts, check_queries


class Wall(AbstractProducts):
    r"""Wall attention, Averbuch et al. 2026.

    It multiplies each channel of a product by the gates between key and query:

    $$\ell_{ij} = \frac{1}{\sqrt{D}} \sum_{d=1}^{D} q_{id}\, k_{jd} \prod_{l=j+1}^{i}
      f_{lhd} = \frac{1}{\sqrt{D}} \sum_{d=1}^{D} q_{id}\, k_{jd}\,
      e^{p_{jhd} - p_{ihd}}, \qquad p_{ihd} = -\sum_{l \le i} \ln f_{lhd}$$

    for a gate $0 < f_{lhd} < 1$ of each token $l$, head $h$ and channel $d$ of $D$. A
    channel with gates near one remembers, and a channel with small gates reads near
    keys alone. [`eqx_posemb.Forgetting`][] has one gate for each head, and subtracts
    its logarithm from the logit. Here a forgotten channel has no effect on the logit.

    Its positions are computed from the tokens: [`eqx_posemb.ForgetGate`][] makes them
    from hidden states with `heads = heads * head_dim`, and the authors start its bias
    at 8. They have shape [seq, heads * head_dim], a head after another. Each layer has
    its own gate. The factors of a future key are one, since its positions are larger.

    These positions have no order, so `causal` and `window` of
    [`eqx_posemb.PositionalEmbedding.attend`][] need `q_order` and `k_order`, or a
    `mask`. To decode, cache positions together with keys, as for
    [`eqx_posemb.Forgetting`][].

    No factor exceeds one, whatever the sums of the gates. Products of a block of
    queries with earlier keys are one matrix product. Other pairs need an exponential
    for each channel, so give `causal=True` and blocks.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        gate = pe.ForgetGate(dim=16, heads=2 * 8, start_bias=8.0, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(rotary=pe.Wall(heads=2, head_dim=8))
        x = jnp.ones((5, 16))  # hidden states
        q = k = v = jnp.ones((2, 5, 8))
        p, order = gate(x), pe.positions.consecutive(5)
        rules = dict(causal=True, q_order=order, k_order=order)
        out = embedding.attend(q, k, v, p, p, **rules)
        ```

    ??? cite "Reference"

        [Wall Attention: Length Generalization With Diagonal
        Gates](https://blog.tilderesearch.com/blog/wall-attn) by Tilde Research, with
        code in flash-linear-attention.

        ```bibtex
        @misc{averbuch2026wall,
            author={Averbuch, Timor and Pai, Dhruv},
            title={Wall Attention: Length Generalization With Diagonal Gates},
            howpublished={https://blog.tilderesearch.com/blog/wall-attn},
            year={2026},
        }
        ```
    """

    traits = ("causal",)

    # The gate of each layer has all parameters, so layers share this part.
    heads: int = eqx.field(static=True)
    head_dim: int = eqx.field(static=True)

    def __check_init__(self):
        check_count("heads", self.heads, 1)
        check_count("head_dim", self.head_dim, 1)

    @jax.named_scope("eqx_posemb.Wall")
    def products(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Array, "q axes"],
        k_positions: Num[Array, "k axes"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`, `k`: queries and keys.
        - `q_positions`, `k_positions`: the cumulative sums of their tokens, for each
            channel of each head.

        **Returns:**

        Products, not scaled, in at least float32.

        **Raises:** a `ValueError` if queries have another number of heads or channels,
        or if positions have no number for each channel.
        """
        self._check(q, q_positions, k_positions)
        dtype = computing_dtype(q.dtype)
        # Each head of queries has its own gates for keys that heads share.
        k = repeated(k, self.heads // k.shape[0])
        q, k = q.astype(dtype), k.astype(dtype)
        q_sums, k_sums = (
            p.reshape(-1, self.heads, self.head_dim).swapaxes(0, 1).astype(dtype)
            for p in in_common(q_positions, k_positions)
        )
        # The result is the same for every anchor, and so is its derivative.
        anchor = jax.lax.stop_gradient(
            jnp.max(k_sums, 1, keepdims=True, initial=_LEAST)
        )
        first = jax.lax.stop_gradient(q_sums)
        tokens = q, k, q_sums, k_sums
        return either(
            jnp.all(first >= anchor),
            lambda: _of_past(anchor, *tokens),
            lambda: _of_pairs(*tokens),
        )

    def _check(self, q, q_positions, k_positions):
        check_queries("Wall", q, self.heads, self.head_dim)
        numbers = self.heads * self.head_dim
        check_sums(q_positions, k_positions, numbers, "channel of each head")


Wall.__init__.__doc__ = """**Arguments:**

- `heads`: The number of heads of queries.
- `head_dim`: The number of channels of a head.

**Raises:** a `ValueError` if `heads` or `head_dim` is less than one.
"""


# A finite start of a maximum keeps the differences of no keys finite.
_LEAST = -1e30


def _of_past(anchor, q, k, q_sums, k_sums):
    """The products where every key comes before every query, in all channels."""
    # Both exponents are zero or less, as the anchor lies between keys and queries.
    q = q * jnp.exp(anchor - q_sums)
    k = k * jnp.exp(k_sums - anchor)
    return jnp.einsum("hqd,hkd->hqk", q, k)


def _of_pairs(q, k, q_sums, k_sums):
    """The products of any queries and keys, a channel after another."""

    # Without the checkpoint, a derivative would store the pairs of every channel.
    @jax.checkpoint
    def of_channel(q, k, q_sums, k_sums):
        between = k_sums[:, None] - q_sums[:, :, None]
        # A future key may be so much larger that its exponential would overflow.
        factor = jnp.exp(jnp.where(between > 0, 0, between))
        return q[:, :, None] * k[:, None] * factor

    first, rest = (
        [jnp.moveaxis(x, -1, 0)[part] for x in (q, k, q_sums, k_sums)]
        for part in (0, slice(1, None))
    )
    step = lambda total, channel: (total + of_channel(*channel), None)
    # The first channel starts the sum, which then varies over the mesh as all sums do.
    total, _ = jax.lax.scan(step, of_channel(*first), rest)
    return total
