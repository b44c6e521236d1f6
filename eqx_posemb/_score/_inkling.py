"""Inkling: each query mixes learned profiles over the distance."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from .._checks import check_at_least, check_count, check_positive
from .._given import as_positions, check_state
from .._phase import as_float
from ._rows import AbstractTable, Rows


class Inkling(AbstractTable):
    r"""Relative positions of Inkling, Thinking Machines 2026, after Shaw et al. 2018.

    Each token mixes learned profiles over the distance:

    $$s_{ij} = (W_h x_i) \cdot B_{p_i - p_j} \quad (0 \le p_i - p_j < E), \qquad
      s_{ij} = 0 \text{ elsewhere}$$

    for the hidden state $x_i$ of the query's token and `weight` $W_h$ of shape `[rank,
    dim]`. All heads share the `bank` $B$ of `rank` profiles over $E$ distances
    (`reach`). It differs from [`eqx_posemb.Shaw`][] in three points: distances have
    their own projection, few channels suffice, and the score is zero beyond `reach`.

    Give the hidden states to [`eqx_posemb.PositionalEmbedding.attend`][] as `q_state`.
    The models attend with `scale = 1 / head_dim`, as their queries and keys are
    normalized, which [`eqx_posemb.make`][] sets; the score is not scaled. Layers with
    full attention multiply the logits by $\max(1, 1 + \alpha \ln \frac{p_i + 1}{n})$.
    `alpha` and `floor` apply this factor to the score, and a temperature applies it to
    the query. The second version scales the mix and clips its norm to `clip`.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.Inkling(heads=8, dim=512, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(score=score, scale=1 / 64)
        assert embedding.reads == ("q_state",)
        x, q = jnp.ones((10, 512)), jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        out = embedding.attend(q, q, q, p, p, causal=True, q_state=x)
        assert out.shape == (8, 10, 64)
        ```

    ??? cite "Reference"

        [Self-Attention with Relative Position
        Representations](https://arxiv.org/abs/1803.02155), Section 3.2, is its origin.
        Inkling has no paper, and the formulas follow transformers.

        ```bibtex
        @misc{thinkingmachines2026inkling,
            author={{Thinking Machines Lab}},
            title={{Inkling}},
            year={2026},
        }
        ```
    """

    traits = ("causal",)

    reads = ("q_state",)
    weight: Float[Array, "heads rank dim"]
    # Columns are distances from zero back to `reach - 1`, and all heads share them.
    bank: Float[Array, "rank reach"]
    # The first version has neither a scale nor a clip.
    mix_scale: Float[Array, "heads rank"] | None
    clip: float | None = eqx.field(static=True)
    alpha: float = eqx.field(static=True)
    floor: float | None = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        dim: int,
        *,
        rank: int = 16,
        reach: int = 1024,
        clip: float | None = None,
        alpha: float = 0.1,
        floor: float | None = None,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `dim`: The number of channels of a hidden state.
        - `rank`: The number of profiles (`d_rel`).
        - `reach`: The number of distances, from 0 on, that they cover (`rel_extent`).
        - `clip`: The greatest length of a mix, which then has a trained `mix_scale`, 8
            in the second version; `None` for neither, as in the first.
        - `alpha`: How fast the score grows with the logarithm of the position.
        - `floor`: The position from which on it does; `None` for never.
        - `std`: The standard deviation of the initial weights.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size, `clip`, `floor` or `std` is not positive,
        or `alpha` negative.
        """
        for name, size in dict(heads=heads, dim=dim, rank=rank, reach=reach).items():
            check_count(name, size, 1)
        check_positive("std", std)
        for name, value in dict(clip=clip, floor=floor).items():
            if value is not None:
                check_positive(name, value)
        check_at_least("alpha", alpha, 0)
        weight_key, bank_key = jr.split(key)
        self.weight = std * jr.normal(weight_key, (heads, rank, dim))
        self.bank = std * jr.normal(bank_key, (rank, reach))
        self.mix_scale = None if clip is None else jnp.ones((heads, rank))
        self.clip = None if clip is None else float(clip)
        self.alpha = float(alpha)
        self.floor = None if floor is None else float(floor)

    @property
    def reach(self) -> int:
        """The number of distances that the profiles cover."""
        return self.bank.shape[1]

    def _rows(self, q, q_positions, k_positions, q_state):
        del q, k_positions
        x = as_float(check_state("q_state", q_state, self.weight.shape[2]))
        mix = jnp.einsum("hrd,qd->hqr", as_float(self.weight), x)
        if self.mix_scale is not None and self.clip is not None:
            mix = mix * as_float(self.mix_scale)[:, None]
            length = jnp.linalg.norm(mix, axis=-1, keepdims=True)
            # The small number keeps the quotient finite for a mix of zeros.
            mix = mix * jnp.minimum(self.clip / (length + 1e-6), 1)
        if self.floor is not None:
            grown = jnp.log(
                jnp.maximum((as_float(as_positions(q_positions)) + 1) / self.floor, 1)
            )
            mix = mix * (1 + self.alpha * grown)[None, :, None]
        return Rows(
            mix,
            self.bank.T,
            lambda delta: -delta,
            inside=lambda delta: (delta <= 0) & (delta > -self.reach),
        )
