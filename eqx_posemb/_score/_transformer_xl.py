"""Transformer-XL: products of the query with a projected sinusoid of the distance."""

from collections.abc import Mapping
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .._checks import check_at_least, check_count, check_positive
from .._encoding import Sinusoidal
from .._given import Positions
from .._phase import cos_sin
from .._positions import distance
from .._state_dicts import array, by_head, filled, only
from ._relative import AbstractBasis, AbstractRelative


Layout = Literal["interleaved", "concatenated", "tensor2tensor", "diffusion"]


class TransformerXL(AbstractRelative):
    r"""Relative positions of Transformer-XL, Dai et al. 2019.

    It adds the product of the query with a learned projection of the distance's
    sinusoid:

    $$s_{ij} = \frac{u_h \cdot k_j + (q_i + v_h) \cdot W_h\, R(p_i - p_j)}{\sqrt{D}}$$

    for the sinusoid $R$ of the distance and `weight` $W_h$ of shape `[head_dim, dim]`.
    Each head has two vectors: `u` favors keys at every distance, and `v` favors
    distances for every query. $D$ is `head_dim`. Beyond the trained length it degrades
    slowly.

    XLNet and the Conformer use other settings:

    | | `layout` | `clamp` |
    |---|---|---|
    | Transformer-XL, XLNet | `"concatenated"` | `clamp_len`, if it is positive |
    | Conformer, ESPnet, SeamlessM4T | `"interleaved"` | none |
    | the audio of Gemma 3n, without `u` and `v` | `"tensor2tensor"` | none |

    Distances may have any sign, so one class serves decoders, encoders and
    cross-attention. The original is causal, and its released code leaves arbitrary
    values for future keys. A memory consists of keys at earlier positions. The authors
    share `u` and `v` over all layers, and each layer has its own `weight`. XLNet's term
    for segments is not positional, and is omitted.

    Rotary embeddings differ: they rotate queries and keys, without a projection.

    For consecutive positions, the sinusoid is projected once for each distance. For
    other positions, as in packed sequences, the addition theorem splits its cosines and
    sines. This takes `heads` times the work, and the memory of the logits.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.TransformerXL(heads=8, head_dim=64, dim=512, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(score=score)
        q, k = jnp.ones((8, 4, 64)), jnp.ones((8, 10, 64))
        # Four new tokens after a memory of six.
        logits = embedding.logits(q, k, 6 + jnp.arange(4), jnp.arange(10))
        assert logits.shape == (8, 4, 10)
        ```

    ??? cite "Reference"

        [Transformer-XL: Attentive Language Models beyond a Fixed-Length
        Context](https://arxiv.org/abs/1901.02860), Section 3.3.

        ```bibtex
        @inproceedings{dai2019transformerxl,
            author={Dai, Zihang and Yang, Zhilin and Yang, Yiming and Carbonell, Jaime
                    and Le, Quoc V. and Salakhutdinov, Ruslan},
            title={{Transformer-XL}: Attentive Language Models beyond a Fixed-Length
                   Context},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2019},
        }
        ```
    """

    u: Float[Array, "heads head_dim"]
    v: Float[Array, "heads head_dim"]
    weight: Float[Array, "heads head_dim dim"]
    basis: "SinusoidBasis"

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        layout: Layout = "concatenated",
        theta: float = 10_000.0,
        clamp: int | None = None,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `dim`: The number of channels of the sinusoid. The paper uses the channels of
            a token.
        - `layout`: Where its sines and cosines go, as in
            [`eqx_posemb.Sinusoidal`][].
        - `theta`: Its base.
        - `clamp`: The distance, in positions to either side, beyond which all count as
            this one; `None` for no such bound.
        - `std`: The standard deviation of the initial values of all three parameters.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size, `std` or `clamp` is not positive, or as
        [`eqx_posemb.Sinusoidal`][] does.
        """
        check_count("heads", heads, 1)
        check_count("head_dim", head_dim, 1)
        check_positive("std", std)
        self.basis = SinusoidBasis(Sinusoidal(dim, theta, layout), clamp)
        u_key, v_key, weight_key = jr.split(key, 3)
        self.u = std * jr.normal(u_key, (heads, head_dim))
        self.v = std * jr.normal(v_key, (heads, head_dim))
        self.weight = std * jr.normal(weight_key, (heads, head_dim, dim))

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Any], *, prefix: str = "", clamp: int | None = None
    ) -> "TransformerXL":
        """Builds a [`eqx_posemb.TransformerXL`][] with the weights of a checkpoint.

        The names of one of these must be there, after `prefix`:

        - Transformer-XL: `r_net.weight`, [heads * head_dim, dim], and `r_w_bias` and
            `r_r_bias`, [heads, head_dim]; the biases also without `prefix`, where
            layers share them (`layers.0.dec_attn.`).
        - XLNet in transformers: `r`, [dim, heads, head_dim], and the same biases
            (`layer.0.rel_attn.`).
        - The Conformer in transformers: `linear_pos.weight`, [dim, dim], and
            `pos_bias_u` and `pos_bias_v`, [heads, head_dim]
            (`encoder.layers.0.self_attn.`). The layout is then `"interleaved"`.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {
                "r_net.weight": np.ones((32, 24)),
                "r_w_bias": np.ones((4, 8)),
                "r_r_bias": np.ones((4, 8)),
            }
            score = pe.TransformerXL.from_state_dict(state)
            assert score.weight.shape == (4, 8, 24)
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `prefix`: what comes before the names.
        - `clamp`: as in [`eqx_posemb.TransformerXL`][]; a checkpoint does not say.

        **Returns:** the score, in JAX's default float dtype.

        **Raises:** a `ValueError` if a name is missing or an array does not fit.
        """
        name = only(state, prefix, "r_net.weight", "r", "linear_pos.weight")
        weight = array(state, name)
        name = name.removeprefix(prefix)
        conformer = name == "linear_pos.weight"
        biases = ("pos_bias_u", "pos_bias_v") if conformer else ("r_w_bias", "r_r_bias")
        # Layers may share both biases, which then have no prefix of a layer.
        u, v = (
            array(state, prefix + bias if prefix + bias in state else bias)
            for bias in biases
        )
        # XLNet alone stores the channels of the sinusoid first.
        if name == "r":
            weight = weight.reshape(weight.shape[0], -1).T
        heads, head_dim = u.shape
        made = cls(
            heads,
            head_dim,
            weight.shape[1],
            layout="interleaved" if conformer else "concatenated",
            clamp=clamp,
            key=jr.key(0),
        )
        return filled(made, u=u, v=v, weight=by_head(weight, heads))

    def _scaled(self, q, q_positions, k_positions):
        del q_positions, k_positions
        return q, q.shape[-1] ** -0.5


class SinusoidBasis(AbstractBasis):
    """Sines and cosines of the distance from the key to the query."""

    encoding: Sinusoidal
    # Files state `clamp_len`, where a value that is not positive means no clamp.
    clamp: int | None = eqx.field(static=True)

    def __check_init__(self):
        if self.clamp is not None:
            check_at_least("clamp", self.clamp, 1)

    def along(self, delta: Int[Array, " n"]) -> Float[Array, "n features"]:
        if self.clamp is not None:
            delta = jnp.clip(delta, -self.clamp, self.clamp)
        # The sinusoid of the paper reads query minus key.
        return self.encoding(-delta)

    def of_pairs(
        self,
        weights: Float[Array, "heads q features"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        turns = self.encoding.frequencies.turns()
        q_cos, q_sin = cos_sin(q_positions, turns)
        k_cos, k_sin = cos_sin(k_positions, turns)
        of_sin, of_cos = self._taken_apart(weights)
        # The addition theorem splits each sinusoid into parts of one position, so no
        # pair needs its own.
        with_cos = of_sin * q_sin[None] + of_cos * q_cos[None]
        with_sin = of_cos * q_sin[None] - of_sin * q_cos[None]
        near = jnp.einsum("hqf,kf->hqk", with_cos, k_cos)
        near = near + jnp.einsum("hqf,kf->hqk", with_sin, k_sin)
        if self.clamp is None:
            return near
        ends = self.along(jnp.array([-self.clamp, self.clamp]))
        behind, ahead = jnp.einsum("hqf,nf->nhq", weights, ends)[..., None]
        delta = distance(q_positions, k_positions)[None]
        far = jnp.where(delta < 0, behind, ahead)
        return jnp.where(jnp.abs(delta) > self.clamp, far, near)

    def _taken_apart(self, weights):
        """Splits the projection into the weights of the sines and the weights of the
        cosines."""
        half = self.encoding.dim // 2
        if self.encoding.layout == "interleaved":
            return weights[..., ::2], weights[..., 1::2]
        parts = weights[..., :half], weights[..., half : 2 * half]
        return parts[::-1] if self.encoding.layout == "diffusion" else parts
