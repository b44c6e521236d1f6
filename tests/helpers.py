"""What the laws are tested on: a layer of attention around any embedding."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int

import eqx_posemb as pe
from eqx_posemb._registry import Sizes, VARIANTS


HEADS, HEAD_DIM, DIM, LENGTH = 4, 16, 64, 32
SIZES = Sizes(HEADS, HEAD_DIM, DIM, LENGTH)
NAMES = pe.variants()
ROWS = {row.name: row for row in VARIANTS}


def build(name: str, **settings) -> pe.PositionalEmbedding:
    return pe.make(
        name,
        heads=HEADS,
        head_dim=HEAD_DIM,
        dim=DIM,
        length=LENGTH,
        key=jr.key(7),
        **settings,
    )


def at(name: str, indices: Int[Array, " seq"]) -> Int[Array, "seq ..."]:
    """The positions that a variant has for tokens in a row: numbers, or the cells of a
    grid six wide, which the tokens fill in order, after those that are on no grid."""
    if (row_axes := ROWS[name].axes) is None:
        return indices
    which, indices = indices, indices - ROWS[name].prefix
    digits = [indices // 6**i for i in reversed(range(row_axes(SIZES)))]
    cells = jnp.stack([digits[0], *(digit % 6 for digit in digits[1:])], axis=-1)
    apart = jnp.stack([jnp.full_like(which, -1)] * (len(digits) - 1) + [which], axis=-1)
    return jnp.where((which < ROWS[name].prefix)[:, None], apart, cells)


def past(q_positions, k_positions) -> dict[str, object]:
    """The rule that a query sees what is not after it; on a grid, in reading order."""
    if q_positions.ndim == 1:
        return dict(causal=True)
    seen = jnp.ones((q_positions.shape[0], k_positions.shape[0]), bool)
    for axis in reversed(range(q_positions.shape[1])):
        q, k = q_positions[:, None, axis], k_positions[None, :, axis]
        seen = (k < q) | ((k == q) & seen)
    return dict(mask=seen)


class Layer(eqx.Module):
    """Self- or cross-attention of tokens that know nothing of order by themselves.

    Two heads of keys serve four of queries.
    """

    embedding: pe.PositionalEmbedding
    w_q: Float[Array, "heads head_dim dim"]
    w_k: Float[Array, "kv_heads head_dim dim"]
    w_v: Float[Array, "kv_heads head_dim dim"]

    def __init__(self, embedding: pe.PositionalEmbedding, dtype=jnp.float32):
        q_key, k_key, v_key = jr.split(jr.key(3), 3)
        weights = lambda key, heads: jr.normal(key, (heads, HEAD_DIM, DIM), dtype)
        self.embedding = embedding
        self.w_q = weights(q_key, HEADS) * DIM**-0.5
        self.w_k = weights(k_key, HEADS // 2) * DIM**-0.5
        self.w_v = weights(v_key, HEADS // 2) * DIM**-0.5

    def __call__(self, x_q, x_k, q_positions, k_positions, **rules):
        x_q = self.embedding.embed(x_q, q_positions)
        x_k = self.embedding.embed(x_k, k_positions)
        q = jnp.einsum("hed,sd->hse", self.w_q, x_q)
        k = jnp.einsum("hed,sd->hse", self.w_k, x_k)
        v = jnp.einsum("hed,sd->hse", self.w_v, x_k)
        rules |= states(self.embedding, q, k)
        # One length for all calls: what a dynamic schedule needs to be consistent.
        return self.embedding.attend(
            q, k, v, q_positions, k_positions, length=LENGTH, **rules
        )


@eqx.filter_jit
def run(layer, x_q, x_k, q_positions, k_positions, **rules):
    return layer(x_q, x_k, q_positions, k_positions, **rules)


@eqx.filter_jit
def logits(embedding, q, k, q_positions, k_positions):
    return embedding.logits(
        q, k, q_positions, k_positions, length=LENGTH, **states(embedding, q, k)
    )


def states(embedding, q, k) -> dict[str, Array]:
    """What tokens bring along for an embedding that reads it: their hidden states,
    which for these tests are all heads side by side."""

    def hidden(x):
        heads, seq, head_dim = x.shape
        side_by_side = x.swapaxes(0, 1).reshape(seq, heads * head_dim)
        return jnp.concatenate([side_by_side] * (HEADS // heads), axis=1)

    every = dict(q_state=hidden(q), k_state=hidden(k))
    return {name: every[name] for name in embedding.reads}


def attend(layer, x, positions, mask=None, **rules):
    rules |= past(positions, positions)
    if mask is not None:
        rules["mask"] = mask & rules.get("mask", True)
    return run(layer, x, x, positions, positions, **rules)


def tokens(seq: int, dtype=jnp.float32, seed: int = 5) -> Float[Array, "seq dim"]:
    return jr.normal(jr.key(seed), (seq, DIM), dtype)


def assert_close(a, b, *, logit: float = 20.0, value: float = 5.0) -> None:
    """Equal but for rounding.

    A logit of size `logit` is known to a few of its ulps, whatever the order of its
    sums, and so is the weight that its softmax gives to values of size `value`.
    """
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    wide = jnp.result_type(float)
    error = jnp.max(jnp.abs(a.astype(wide) - b.astype(wide)), initial=0)
    eps = float(jnp.finfo(a.dtype).eps)
    bound = 8 * eps * logit * value
    assert float(error) <= bound, f"{float(error)} > {bound}"


def leaves(module) -> dict[str, Array]:
    """The trained arrays of a module, by path."""
    arrays = eqx.filter(module, eqx.is_inexact_array)
    paths = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in paths}
