"""Disentangled attention: products of content and position in both directions."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .._buckets import firsts_of
from .._checks import check_count, check_even, check_positive
from .._given import Positions
from .._layers import layer_norm
from .._phase import as_float
from ._abstract import AbstractScore
from ._relative import check_whole
from ._rows import Rows


class DeBERTa(AbstractScore):
    r"""Disentangled attention (DeBERTa), He et al. 2021.

    It adds the product of the query with a vector for the distance of the key. It also
    adds the product of the key with a vector for the distance of the query:

    $$s_{ij} = \frac{q_i \cdot K^r_c + k_j \cdot Q^r_c}{\sqrt{3 D}}, \qquad
      c = \mathrm{clip}(\beta(p_i - p_j) + S,\, 0,\, 2 S - 1)$$

    for a table of $2 S$ vectors (`table`), with one vector for each bucket of distances
    $\beta$. `key_weight` and `query_weight`, of shape `[heads, head_dim, dim]`, project
    it to $K^r$ and $Q^r$. Together with the product of content there are three terms,
    which are all divided by $\sqrt{3 D}$. Attend with `scale = (3 * head_dim) ** -0.5`,
    which [`eqx_posemb.make`][] sets.

    The first version has a vector for each distance up to `reach` $= S$, so that
    $\beta(\delta) = \delta$. The second and third versions have $S$ = `buckets`. The
    first half of the buckets holds one near distance each. Far distances share the
    other half by their logarithm:

    $$\beta(\delta) = \mathrm{sign}(\delta) \Big(m + \Big\lceil
      \frac{\ln (|\delta| / m)}{\ln ((r - 1) / m)} (m - 1) \Big\rceil\Big),
      \qquad |\delta| > m = \lfloor S / 2 \rfloor$$

    where $r$ is `reach`. The host computes the first distance of each bucket in
    integers. So rounding a logarithm never moves a distance to another bucket.

    Both terms use the same row, as in the released code. The paper has the opposite
    sign for the key. The second version normalizes the table (`norm`). Most of its
    models project the table by the weights of the content (`share_att_key`). For these
    models, insert the weights of a layer by `equinox.tree_at` in its forward pass.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        score = pe.DeBERTa(heads=12, head_dim=64, dim=768, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(score=score, scale=(3 * 64) ** -0.5)
        q = k = jnp.ones((12, 10, 64))
        p = jnp.arange(10)
        assert embedding.logits(q, k, p, p).shape == (12, 10, 10)
        ```

    ??? cite "Reference"

        [DeBERTa: Decoding-enhanced BERT with Disentangled
        Attention](https://arxiv.org/abs/2006.03654), Section 3.1; buckets and
        normalization follow the released code.

        ```bibtex
        @inproceedings{he2021deberta,
            author={He, Pengcheng and Liu, Xiaodong and Gao, Jianfeng and Chen, Weizhu},
            title={{DeBERTa}: Decoding-enhanced {BERT} with Disentangled Attention},
            booktitle={International Conference on Learning Representations},
            year={2021},
        }
        ```
    """

    # In DeBERTa all layers share the table, and each layer has its own projections.
    table: Float[Array, "rows dim"]
    key_weight: Float[Array, "heads head_dim dim"]
    key_bias: Float[Array, "heads head_dim"] | None
    query_weight: Float[Array, "heads head_dim dim"]
    query_bias: Float[Array, "heads head_dim"]
    # Checkpoints of the first version have no norm, so both arrays may be absent.
    norm_weight: Float[Array, " dim"] | None
    norm_bias: Float[Array, " dim"] | None
    reach: int = eqx.field(static=True)
    buckets: int | None = eqx.field(static=True)
    eps: float = eqx.field(static=True)

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        reach: int = 512,
        buckets: int | None = None,
        norm: bool = False,
        key_bias: bool = False,
        eps: float = 1e-7,
        std: float = 0.02,
        key: PRNGKeyArray,
    ):
        """**Arguments:**

        - `heads`: The number of heads.
        - `head_dim`: The number of channels of a head.
        - `dim`: The number of channels of the table, which equals the channels of a
            token.
        - `reach`: All distances of at least this many positions share a vector
            (`max_relative_positions`, or `max_position_embeddings` if that is not set).
        - `buckets`: The number of buckets per direction (`position_buckets`, 256 in the
            second version). With `None`, each distance has a bucket.
        - `norm`: Whether the table is normalized, with a trained weight and bias, as
            in the second version.
        - `key_bias`: Whether the keys' projection has a bias, as in the second version.
        - `eps`: A small number that the norm adds to the variance.
        - `std`: The standard deviation of the initial weights; biases start at zero.
        - `key`: A `jax.random` key. It initializes the weights.

        **Raises:** a `ValueError` if a size, `eps` or `std` is not positive, or if
        `buckets` is odd or less than 4. The same if `reach` is within the exact
        buckets.
        """
        check_count("heads", heads, 1)
        check_count("head_dim", head_dim, 1)
        check_count("dim", dim, 1)
        check_count("reach", reach, 1)
        check_positive("eps", eps)
        check_positive("std", std)
        if buckets is not None:
            check_count("buckets", buckets, 4)
            check_even("buckets", buckets, "for each direction to have half")
            if reach <= buckets // 2 + 1:
                raise ValueError(
                    f"`reach` must be more than {buckets // 2 + 1}, for some of the "
                    f"{buckets} buckets to be shared, but got {reach}. Lower `buckets`."
                )
        table_key, key_key, query_key = jr.split(key, 3)
        normal = lambda key, *shape: std * jr.normal(key, shape)
        self.table = normal(table_key, 2 * (buckets or reach), dim)
        self.key_weight = normal(key_key, heads, head_dim, dim)
        self.key_bias = jnp.zeros((heads, head_dim)) if key_bias else None
        self.query_weight = normal(query_key, heads, head_dim, dim)
        self.query_bias = jnp.zeros((heads, head_dim))
        self.norm_weight = jnp.ones(dim) if norm else None
        self.norm_bias = jnp.zeros(dim) if norm else None
        self.reach = reach
        self.buckets = buckets
        self.eps = eps

    def rows(self, delta: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        The row of `table` for each.
        """
        behind, span = -delta, self.buckets or self.reach
        if self.buckets is not None:
            behind = _bucket(behind, self.buckets, self.reach)
        return jnp.clip(behind + span, 0, 2 * span - 1)

    @jax.named_scope("eqx_posemb.DeBERTa")
    def __call__(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "heads k dim"],
        q_positions: Int[Positions, " q"],
        k_positions: Int[Positions, " k"],
        *,
        prepared: tuple[Array, Array] | None = None,
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`: the queries.
        - `k`: the keys, one head of them for each head of queries.
        - `q_positions`: the positions of the queries, integers.
        - `k_positions`: the positions of the keys, integers.
        - `prepared`: what `prepare` gives for them, if it is at hand.

        **Returns:**

        What to add to the logits, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions are not integers.
        """
        check_whole(q_positions, k_positions)
        keys, queries = prepared or self.prepare(q_positions, k_positions)
        total = Rows(q, keys, self.rows).products(q_positions, k_positions)
        # From the key to the query the distance has the other sign, but the row is the
        # same.
        back = lambda delta: self.rows(-delta)
        of_keys = Rows(k, queries, back).products(k_positions, q_positions)
        total += of_keys.swapaxes(1, 2)
        return total * (3 * q.shape[-1]) ** -0.5

    def prepare(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> tuple[Array, Array]:
        """The table as keys and as queries, each projected for each head."""
        del q_positions, k_positions
        table = as_float(self.table)
        # The first version has no norm.
        if self.norm_weight is not None:
            table = layer_norm(table, self.norm_weight, self.norm_bias, eps=self.eps)
        keys = _projected(table, self.key_weight, self.key_bias)
        return keys, _projected(table, self.query_weight, self.query_bias)


def _projected(table, weight, bias):
    rows = jnp.einsum("rd,hed->hre", table, as_float(weight))
    return rows if bias is None else rows + as_float(bias)[:, None]


def shared_from(buckets: int, reach: int) -> list[int]:
    """The first distances of the logarithmic buckets, and of one bucket beyond the
    last.

    Bucket `middle + t` begins at the least `n` with
    `(n / middle) ** (middle - 1) > ((reach - 1) / middle) ** (t - 1)`.
    """
    middle = buckets // 2
    return firsts_of(middle, reach - 1, middle - 1, middle, beyond=True)


def _bucket(behind, buckets, reach):
    # A threshold beyond the dtype of distances would wrap, and no distance reaches it.
    most = jnp.iinfo(behind.dtype).max
    firsts = [first for first in shared_from(buckets, reach) if first <= most]
    firsts = jnp.array(firsts, behind.dtype)
    far = jnp.abs(behind)
    # Comparing with all thresholds would materialize them for each pair on a CPU.
    shared = jnp.searchsorted(firsts, far, side="right", method="scan_unrolled")
    middle = buckets // 2
    bucket = jnp.where(far <= middle, far, middle + shared.astype(far.dtype))
    return jnp.sign(behind) * bucket
