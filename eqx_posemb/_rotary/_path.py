"""PaTH: the tokens between key and query transform the key, one after another."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

from .._checks import check_count
from .._given import check_both, check_sequence, check_state, in_common, Positions
from .._phase import computing_dtype
from .._sharding import alike, repeated
from .._spread import either, keys_in_order
from ._products import AbstractProducts, check_queries


# The number of keys that are transformed together, a power of two.
_TOGETHER = 64
# As the authors' normalization has it.
_EPS = 1e-6


class PaTH(AbstractProducts):
    r"""PaTH attention by Householder transformations, Yang et al. 2025.

    Each token between key and query transforms the key by a matrix of its content:

    $$\ell_{ij} = \frac{1}{\sqrt{D}}\, q_i \cdot H_i H_{i-1} \cdots H_{j+1}\, k_j,
      \qquad H_l = I - \beta_l w_l w_l^\top, \qquad
      w_l = \frac{U V x_l}{\lVert U V x_l \rVert}, \quad
      \beta_l = 2 \sigma(b \cdot x_l + c)$$

    for the hidden state $x_l$ of the token $l$, and for each head the weights $U$
    (`up`), $b$ (`gate_weight`) and $c$ (`gate_bias`). All heads share $V$ (`down`) of
    few rows. With $\beta = 2$ a matrix is a reflection, with $\beta = 1$ it removes a
    direction, and with $\beta = 0$ it changes nothing. A rotary embedding is the case
    of matrices that are the same for all tokens. Here a model tracks states that
    tokens change, such as which of two variables has a value.

    Give the hidden states of the keys to [`eqx_posemb.PositionalEmbedding.attend`][] as
    `k_state`, and cache them together with the keys. Each layer has its own weights.
    The token of each query must be among the keys, as in self-attention. The authors
    also have layers that convolve $U V x$ over three tokens, which this class has not.

    A logit reads all keys between its two tokens, and only keys that the query attends
    to transform others. Positions have an order here and no other effect, so all tokens
    of a document need different positions. Blocks have some queries and all keys, and
    there is no ring. Where the keys of a query have no gap between them, blocks of 64
    keys are transformed by matrix products, and elsewhere one key after another. For
    packed documents, give the indices of the tokens as `q_order` and `k_order`, which
    leaves no gaps.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        path = pe.PaTH(heads=8, head_dim=64, dim=512, key=jax.random.key(0))
        embedding = pe.PositionalEmbedding(rotary=path)
        assert embedding.reads == ("k_state",)
        x, q = jnp.ones((10, 512)), jnp.ones((8, 10, 64))
        p = jnp.arange(10)
        out = embedding.attend(q, q, q, p, p, causal=True, k_state=x)
        assert out.shape == (8, 10, 64)
        ```

    ??? cite "Reference"

        [PaTH Attention: Position Encoding via Accumulating Householder
        Transformations](https://arxiv.org/abs/2505.16381), Section 3, with code in
        flash-linear-attention.

        ```bibtex
        @inproceedings{yang2025path,
            author={Yang, Songlin and Shen, Yikang and Wen, Kaiyue and Tan, Shawn and
                    Mishra, Mayank and Ren, Liliang and Panda, Rameswar and Kim, Yoon},
            title={{PaTH} Attention: Position Encoding via Accumulating Householder
                   Transformations},
            booktitle={Advances in Neural Information Processing Systems},
            year={2025},
        }
        ```
    """

    traits = ("between", "causal")

    reads = ("k_state",)
    down: Float[Array, "rank dim"]
    up: Float[Array, "heads head_dim rank"]
    gate_weight: Float[Array, "heads dim"]
    gate_bias: Float[Array, " heads"]

    def __init__(
        self,
        heads: int,
        head_dim: int,
        dim: int,
        *,
        rank: int = 32,
        key: PRNGKeyArray,
    ):
        r"""**Arguments:**

        - `heads`: The number of heads of queries.
        - `head_dim`: The number of channels of a head.
        - `dim`: The number of channels of a hidden state.
        - `rank`: The number of rows of `down`.
        - `key`: A `jax.random` key. It initializes the weights. Each $\beta$ starts
            near one.

        **Raises:** a `ValueError` if a size is less than one.
        """
        sizes = dict(heads=heads, head_dim=head_dim, dim=dim, rank=rank)
        for name, size in sizes.items():
            check_count(name, size, 1)
        down, up, gate = jr.split(key, 3)
        self.down = dim**-0.5 * jr.normal(down, (rank, dim))
        self.up = rank**-0.5 * jr.normal(up, (heads, head_dim, rank))
        self.gate_weight = dim**-0.5 * jr.normal(gate, (heads, dim))
        self.gate_bias = jnp.zeros(heads)

    def transformations(
        self, k_state: Float[Array, "k dim"]
    ) -> tuple[Float[Array, "heads k head_dim"], Float[Array, "heads k"]]:
        r"""The transformation of each token.

        **Arguments:**

        - `k_state`: the hidden states of the tokens.

        **Returns:**

        The direction $w$ and the number $\beta$ of each token, in at least float32.
        """
        x = k_state.astype(computing_dtype(k_state.dtype))
        narrow = x @ self.down.T.astype(x.dtype)
        w = jnp.einsum("hdr,kr->hkd", self.up.astype(x.dtype), narrow)
        w = w * jax.lax.rsqrt(jnp.sum(w * w, axis=-1, keepdims=True) + _EPS)
        opened = jnp.einsum("hm,km->hk", self.gate_weight.astype(x.dtype), x)
        # Twice a sigmoid, so that a transformation can be a reflection.
        beta = 2 * jax.nn.sigmoid(opened + self.gate_bias.astype(x.dtype)[:, None])
        return w, beta

    @jax.named_scope("eqx_posemb.PaTH")
    def products(
        self,
        q: Float[Array, "heads q dim"],
        k: Float[Array, "kv_heads k dim"],
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
        *,
        k_state: Float[Array, "k model_dim"] | None = None,
        seen: Bool[Array, "*heads q k"] | None = None,
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q`, `k`: queries and keys.
        - `q_positions`, `k_positions`: their positions. Only their order matters.
        - `k_state`: the hidden states that the keys were projected from.
        - `seen`: True where a query attends to a key, for all heads or for each head.
            By default a query attends to all keys.

        **Returns:**

        Products, not scaled, in at least float32. A key after the query is not
        transformed.

        **Raises:** a `ValueError` if there is no `k_state`, or one of another width, if
        queries have another number of heads or channels, or if positions are not
        one-dimensional.
        """
        k_state = self._check(q, q_positions, k_positions, k_state)
        q_positions, k_positions = in_common(q_positions, k_positions)
        dtype = computing_dtype(q.dtype)
        # Each head of queries transforms the keys that it shares with other heads.
        k = repeated(k, q.shape[0] // k.shape[0])
        w, beta = self.transformations(k_state)
        order, shown = keys_in_order(q_positions, k_positions, seen)
        count = k_positions.shape[0]
        size = _TOGETHER
        if isinstance(count, int):
            # Short texts have one block, of the next power of two.
            size = min(size, 1 << max(count - 1, 0).bit_length())
        # `jax.export` proves in this form that the padded number divides into blocks.
        number = -(-count // size)
        missing = number * size - count

        def blocks(x, axis):
            """Blocks of keys in order, as a first axis."""
            x = jnp.pad(x, [(0, missing if i == axis else 0) for i in range(x.ndim)])
            x = x.reshape(*x.shape[:axis], number, size, *x.shape[axis + 1 :])
            return jnp.moveaxis(x, axis, 0)

        keys = (x[:, order].astype(dtype) for x in (k, w, beta))
        q, *keys = alike([q.astype(dtype), *keys, shown])
        keys = [blocks(x, axis) for x, axis in zip(keys, (1, 1, 1, 2), strict=True)]
        no_gaps = True if seen is None else _has_no_gaps(shown)
        # Gaps need a step for each key, which is slower than products.
        found = either(
            no_gaps, lambda: _walk(q, keys, _together), lambda: _walk(q, keys, _singly)
        )
        found = jnp.moveaxis(found, 0, 2).reshape(*q.shape[:2], number * size)
        found = found[..., :count]
        # The order of an order is its inverse.
        return jnp.take(found, jnp.argsort(order), axis=2)

    def _check(self, q, q_positions, k_positions, k_state):
        heads, head_dim, _ = self.up.shape
        check_queries("PaTH", q, heads, head_dim)
        check_both(check_sequence, q_positions, k_positions, "to have keys in order")
        return check_state("k_state", k_state, self.down.shape[1])


def _has_no_gaps(shown):
    """Whether the keys of each query are consecutive in the order of keys."""
    begins = shown[..., 1:] & ~shown[..., :-1]
    count = jnp.sum(begins, axis=-1) + jnp.sum(shown[..., :1], axis=-1)
    return jnp.all(count <= 1)


def _walk(q, keys, step):
    """The products of all queries with blocks of keys, from the last block to the
    first: `[blocks, heads, q, size]`. The queries are transformed on the way."""
    # A derivative stores the queries before each block, and nothing of the steps.
    _, found = jax.lax.scan(jax.checkpoint(step), q, keys, reverse=True)
    return found


def _together(q, keys):
    """A block of keys by products, where the keys of each query have no gaps.

    A key that the query does not attend to is then later than all others, or earlier.
    """
    k, w, beta, shown = keys
    # Each transformation before changes the part along `w` that is then removed. A
    # triangular system has all of them.
    later = jnp.tril(jnp.ones((w.shape[1],) * 2, bool), -1)[None]
    products = jnp.einsum("htd,hsd->hts", w, w) * beta[:, None]
    inverse = _inverse(jnp.where(later, products, 0))
    along = jnp.where(shown, jnp.einsum("hqd,htd->hqt", q, w), 0) * beta[:, None]
    removed = jnp.einsum("hqt,hts->hqs", along, inverse)
    between = jnp.where(later, jnp.einsum("htd,hsd->hts", w, k), 0)
    found = jnp.einsum("hqd,hsd->hqs", q, k)
    found = found - jnp.einsum("hqt,hts->hqs", removed, between)
    return q - jnp.einsum("hqt,htd->hqd", removed, w), found


def _inverse(lower):
    """The inverses of unit matrices plus strictly lower triangular ones, whose number
    of rows is a power of two.

    The inverses of two blocks on the diagonal give the inverse of the block of both, by
    products. All entries are at most 2 in size, since no transformation enlarges a
    vector. A triangular solver was as fast alone on a CPU, and at times stood still
    beside other programs.
    """
    *batch, rows, _ = lower.shape
    size, inverse = 1, jnp.ones((*batch, rows, 1, 1), lower.dtype)
    while size < rows:
        count = rows // (2 * size)
        tiles = lower.reshape(*batch, count, 2 * size, count, 2 * size)
        corner = jnp.moveaxis(jnp.diagonal(tiles, axis1=-4, axis2=-2), -1, -3)
        corner = corner[..., size:, :size]
        first, second = inverse[..., 0::2, :, :], inverse[..., 1::2, :, :]
        below = -second @ corner @ first
        above = jnp.concatenate([first, jnp.zeros_like(first)], axis=-1)
        below = jnp.concatenate([below, second], axis=-1)
        size, inverse = 2 * size, jnp.concatenate([above, below], axis=-2)
    return inverse[..., 0, :, :]


def _singly(q, keys):
    """A block of keys one after another, for any mask."""
    k, w, beta, shown = keys

    def one(q, key):
        k, w, beta, shown = key
        found = jnp.einsum("hqd,hd->hq", q, k)
        removed = jnp.where(shown, jnp.einsum("hqd,hd->hq", q, w), 0) * beta[:, None]
        return q - removed[..., None] * w[:, None], found

    each = *(jnp.moveaxis(x, 1, 0) for x in (k, w, beta)), jnp.moveaxis(shown, 2, 0)
    q, found = jax.lax.scan(one, q, each, reverse=True)
    return q, jnp.moveaxis(found, 0, 2)
