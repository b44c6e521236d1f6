"""TUPE: learned biases of pairs of positions, independent of the content."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from .._checks import check_count, check_key, check_positive, require
from .._given import as_positions, check_integers, check_sequence, Positions
from .._layers import layer_norm
from .._low_rank import Factors
from .._phase import as_float
from .._sharding import rows_of, sharded_as_pairs
from .._state_dicts import array
from .._symbolic import error_if
from ._abstract import AbstractBias
from ._reset import ResetBias
from ._sum import SumBias
from ._t5 import T5Bias


class TUPE(AbstractBias):
    r"""Absolute part of TUPE (untied positional encoding), Ke et al. 2021.

    It adds the product of two projections, of the query's and the key's position:

    $$b_h(i, j) = \frac{1}{\sqrt{2 d}}
      (U^Q_h n_i + \beta^Q_h) \cdot (U^K_h n_j + \beta^K_h), \qquad
      n_i = \mathrm{LayerNorm}(W_i)$$

    for a table $W$ (`weight`) with a row for each position. `q_weight`, `q_bias`,
    `k_weight` and `k_bias` project to the $d$ = `head_dim` channels of head $h$.
    Position vectors added to tokens make attention compare words with positions. TUPE
    has separate projections, and compares positions with positions alone. All layers
    share the bias.

    The product of queries and keys has the scale $1 / \sqrt{2d}$, too, since two terms
    are added. Attend with `scale=(2 * head_dim)**-0.5`, which [`eqx_posemb.make`][]
    sets. [`eqx_posemb.tupe`][] builds the whole bias of the paper, with its rule for
    [CLS].

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.TUPE(length=128, dim=64, heads=4, head_dim=16, key=jax.random.key(0))
        assert bias(jnp.arange(5), jnp.arange(7)).shape == (4, 5, 7)
        ```

    ??? cite "Reference"

        [Rethinking Positional Encoding in Language
        Pre-training](https://arxiv.org/abs/2006.15595), Section 3.1; normalization and
        biases as in the authors' code.

        ```bibtex
        @inproceedings{ke2021rethinking,
            author={Ke, Guolin and He, Di and Liu, Tie-Yan},
            title={Rethinking Positional Encoding in Language Pre-training},
            booktitle={International Conference on Learning Representations},
            year={2021},
        }
        ```
    """

    traits = ("absolute", "bounded")

    weight: Float[Array, "length dim"]
    norm_weight: Float[Array, " dim"]
    norm_bias: Float[Array, " dim"]
    # Projections are stored by head, so that devices can hold the projections of their
    # heads.
    q_weight: Float[Array, "heads head_dim dim"]
    q_bias: Float[Array, "heads head_dim"]
    k_weight: Float[Array, "heads head_dim dim"]
    k_bias: Float[Array, "heads head_dim"]

    def __init__(
        self,
        length: int,
        dim: int,
        heads: int,
        head_dim: int,
        *,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `length`: The number of positions, from 0 on.
        - `dim`: The number of channels of a position's row.
        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `std`: The standard deviation of the initial table and projections.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size is less than one or `std` not positive.
        """
        sizes = dict(length=length, dim=dim, heads=heads, head_dim=head_dim)
        for name, size in sizes.items():
            check_count(name, size, 1)
        check_positive("std", std)
        keys = jr.split(key, 3)
        self.weight = std * jr.normal(keys[0], (length, dim))
        self.norm_weight = jnp.ones(dim)
        self.norm_bias = jnp.zeros(dim)
        self.q_weight = std * jr.normal(keys[1], (heads, head_dim, dim))
        self.q_bias = jnp.zeros((heads, head_dim))
        self.k_weight = std * jr.normal(keys[2], (heads, head_dim, dim))
        self.k_bias = jnp.zeros((heads, head_dim))

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        heads: int,
        *,
        prefix: str = "",
        max_distance: int = 128,
    ) -> ResetBias:
        """Builds a [`eqx_posemb.tupe`][] with the weights of the authors' checkpoint.

        These names must be there, after `prefix` (`encoder.sentence_encoder.`):

        - `pos.weight`, [1 + length, dim]: position $p$ has row $p + 1$.
        - `pos_ln.weight` and `pos_ln.bias`, [dim].
        - `pos_q_linear.weight` and `pos_k_linear.weight`, [dim, dim], and `.bias`,
            [dim]; or `pos_proj.weight`, [2 dim, dim], and `.bias`, with the queries
            first.
        - `relative_attention_bias.weight`, [buckets + 1, heads]: TUPE-R alone.

        In that code the numbers of [CLS] are products of rows 0 and 1 with themselves.
        They include two buckets without a distance: the last bucket, and the first
        bucket of the future.

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            state = {
                "pos.weight": np.ones((129, 64)),
                "pos_ln.weight": np.ones(64),
                "pos_ln.bias": np.zeros(64),
                "pos_proj.weight": np.ones((128, 64)),
                "pos_proj.bias": np.ones(128),
            }
            bias = pe.TUPE.from_state_dict(state, heads=4)
            assert bias.bias.length == 128
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `heads`: the number of heads, which must divide `dim`.
        - `prefix`: what comes before the names.
        - `max_distance`: as in [`eqx_posemb.T5Bias`][].

        **Returns:** the bias, in JAX's default float dtype. Attend with
        `scale=(2 * dim / heads)**-0.5`.

        **Raises:** a `ValueError` if a name is missing or `heads` does not divide
        `dim`.
        """
        check_count("heads", heads, 1)
        rows = array(state, prefix + "pos.weight")
        dim = rows.shape[1]
        rule = f"divide the {dim} channels of `pos.weight`"
        require(dim % heads == 0, "heads", rule, heads)
        shape = (heads, dim // heads)
        projections = []
        for kind in "weight", "bias":
            # Versions of the authors' code have one projection of both, or one of each.
            if f"{prefix}pos_proj.{kind}" in state:
                both = array(state, f"{prefix}pos_proj.{kind}")
                q, k = both[:dim], both[dim:]
            else:
                q = array(state, f"{prefix}pos_q_linear.{kind}")
                k = array(state, f"{prefix}pos_k_linear.{kind}")
            projections += [
                q.reshape(*shape, *q.shape[1:]),
                k.reshape(*shape, *k.shape[1:]),
            ]
        norm = [array(state, f"{prefix}pos_ln.{kind}") for kind in ("weight", "bias")]

        def absolute(rows):
            made = cls(rows.shape[0], dim, *shape, key=jr.key(0))
            where = lambda m: (
                m.weight,
                m.norm_weight,
                m.norm_bias,
                m.q_weight,
                m.k_weight,
                m.q_bias,
                m.k_bias,
            )
            return eqx.tree_at(where, made, (rows, *norm, *projections))

        two = jnp.arange(2)
        special = jnp.diagonal(absolute(rows[:2])(two, two), axis1=1, axis2=2)
        bias = absolute(rows[1:])
        if f"{prefix}relative_attention_bias.weight" in state:
            table = array(state, f"{prefix}relative_attention_bias.weight")
            buckets = table.shape[0] - 1
            relative = T5Bias(
                heads, num_buckets=buckets, max_distance=max_distance, key=jr.key(0)
            )
            relative = eqx.tree_at(lambda bias: bias.weight, relative, table[:buckets])
            bias = SumBias(bias, relative)
            special = special + jnp.stack([table[buckets // 2], table[buckets]], axis=1)
        where = lambda m: (m.from_special, m.to_special)
        return eqx.tree_at(
            where, ResetBias(bias, heads), (special[:, 0], special[:, 1])
        )

    @property
    def length(self) -> int:
        """The number of positions from 0 on."""
        return self.weight.shape[0]

    @sharded_as_pairs
    @jax.named_scope("eqx_posemb.TUPE")
    def __call__(
        self, q_positions: Int[Positions, " q"], k_positions: Int[Positions, " k"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries: integers from 0 up to, and
            without, `length`.
        - `k_positions`: the positions of the keys, likewise.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions are not integers; an error at run time
        if a position has no row.
        """
        q, k = self.low_rank(q_positions, k_positions)
        return jnp.einsum("hqd,hkd->hqk", q, k, precision=jax.lax.Precision.HIGHEST)

    def low_rank(
        self, q_positions: Int[Positions, " q"], k_positions: Int[Positions, " k"]
    ) -> Factors:
        """The projections, whose product is the bias: `head_dim` channels for queries
        and keys.

        !!! Example

            ```python
            import jax
            import jax.numpy as jnp
            import eqx_posemb as pe

            bias = pe.TUPE(8, dim=64, heads=4, head_dim=16, key=jax.random.key(0))
            p = jnp.arange(5)
            q, k = bias.low_rank(p, p)
            assert q.shape == k.shape == (4, 5, 16)
            assert jnp.allclose(q @ k.swapaxes(1, 2), bias(p, p), atol=1e-6)
            ```

        **Arguments:**

        - `q_positions`, `k_positions`: as in `__call__`.

        **Returns:**

        Channels of queries `[heads, q, head_dim]`, which have the scale, and of keys
        `[heads, k, head_dim]`. See [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** as `__call__`.
        """
        q = self._projected("q_positions", q_positions, self.q_weight, self.q_bias)
        k = self._projected("k_positions", k_positions, self.k_weight, self.k_bias)
        # The paper adds two products to a logit, so the scale counts twice the
        # channels.
        return (2 * q.shape[-1]) ** -0.5 * q, k

    def _projected(self, name, positions, weight, bias):
        check_sequence(name, positions, "to look rows up with")
        check_integers(name, positions, "to look rows up with")
        positions = as_positions(positions, name)
        # A lookup in JAX clamps a position beyond the table silently.
        rows = error_if(
            as_float(rows_of(self.weight, positions)),
            (positions < 0) | (positions >= self.length),
            f"`{name}` must be between 0 and {self.length - 1}, to have a row in the "
            "table of this `TUPE`. Build it with a larger `length`.",
        )
        normal = layer_norm(rows, self.norm_weight, self.norm_bias)
        projected = jnp.einsum(
            "hed,sd->hse", as_float(weight), normal, precision=jax.lax.Precision.HIGHEST
        )
        return projected + as_float(bias)[:, None]


def tupe(
    length: int,
    dim: int,
    heads: int,
    head_dim: int,
    *,
    relative: bool = True,
    special: tuple[int, ...] = (0,),
    num_buckets: int = 32,
    max_distance: int = 128,
    std: float = 0.02,
    key: PRNGKeyArray,
) -> ResetBias:
    r"""Untied positional encoding (TUPE), Ke et al. 2021.

    $$b_h(i, j) = \begin{cases} \theta_{1h} & i \in S \\
      \theta_{2h} & i \notin S,\; j \in S \\ b^{\text{abs}}_h(i, j) +
      b^{\text{rel}}_h(p_j - p_i) & \text{otherwise} \end{cases}$$

    where $b^{\text{abs}}$ is [`eqx_posemb.TUPE`][], $b^{\text{rel}}$ is
    [`eqx_posemb.T5Bias`][], not scaled, and $S$ are the special positions, for which
    [`eqx_posemb.ResetBias`][] has learned numbers. Attend with
    `scale=(2 * head_dim)**-0.5`.

    The numbers $\theta_1$ and $\theta_2$ are parameters here, as in the paper. The
    authors' code computes equal values from two more rows of the table and two unused
    buckets. [`eqx_posemb.TUPE.from_state_dict`][] loads its weights.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.tupe(length=128, dim=64, heads=4, head_dim=16, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(bias=bias, scale=(2 * 16) ** -0.5)
        q = k = v = jnp.ones((4, 10, 16))
        out = embedding.attend(q, k, v, jnp.arange(10), jnp.arange(10))
        ```

    **Arguments:**

    - `length`, `dim`, `heads`, `head_dim`: As in [`eqx_posemb.TUPE`][].
    - `relative`: Whether to add the bias by distance (TUPE-R) or not (TUPE-A).
    - `special`: The positions of special tokens; [CLS] comes first.
    - `num_buckets`, `max_distance`: As in [`eqx_posemb.T5Bias`][], bidirectional.
    - `std`: The standard deviation of the initial tables and projections.
    - `key`: A `jax.random` key. It initializes the weights.

    **Raises:** as its parts do.

    ??? cite "Reference"

        [Rethinking Positional Encoding in Language
        Pre-training](https://arxiv.org/abs/2006.15595), Section 3.

        ```bibtex
        @inproceedings{ke2021rethinking,
            author={Ke, Guolin and He, Di and Liu, Tie-Yan},
            title={Rethinking Positional Encoding in Language Pre-training},
            booktitle={International Conference on Learning Representations},
            year={2021},
        }
        ```
    """
    check_key(key)
    absolute_key, relative_key = jr.split(key)
    bias = TUPE(length, dim, heads, head_dim, std=std, key=absolute_key)
    if relative:
        by_distance = T5Bias(
            heads,
            num_buckets=num_buckets,
            max_distance=max_distance,
            std=std,
            key=relative_key,
        )
        bias = SumBias(bias, by_distance)
    return ResetBias(bias, heads, special)
