"""What the laws are tested on: a layer of attention around any embedding.

A test compiles few programs: laws call `attend` with arrays of the same shapes, and
compare in NumPy. Each `jnp` operation outside of a program is compiled by itself.
"""

import functools
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int

import eqx_posemb as pe
from eqx_posemb._registry import resolved, VARIANTS


HEADS, HEAD_DIM, DIM, LENGTH = 4, 16, 64, 32
SIZES = dict(heads=HEADS, head_dim=HEAD_DIM, dim=DIM, length=LENGTH)
NAMES = pe.variants()
GOLDEN = Path(__file__).parent / "golden"
ROWS = {row.name: row for row in VARIANTS}


def build(name: str, **settings) -> pe.PositionalEmbedding:
    """The embedding of that name, made once in each mode, as modules do not change."""
    return _build(name, jax.config.read("jax_enable_x64"), tuple(settings.items()))


@functools.cache
def shape_of(name: str) -> pe.PositionalEmbedding:
    """The same without arrays, for tests that are selected by it."""
    return eqx.filter_eval_shape(_build.__wrapped__, name, False, ())


@functools.cache
def _build(name, x64, settings):
    return pe.make(name, key=jr.key(7), **SIZES, **dict(settings))


def at(name: str, indices: Int[Array | np.ndarray, " seq"]) -> Int[Array, "seq ..."]:
    """The positions that a variant has for tokens in a row: numbers, or the cells of a
    grid six wide, which the tokens fill in order, after those that are on no grid."""
    if (axes := resolved(ROWS[name].axes, SIZES)) == 1:
        return jnp.asarray(indices)
    xp = jnp if isinstance(indices, jax.core.Tracer) else np
    which = xp.asarray(indices)
    indices = which - ROWS[name].prefix
    # Later powers would overflow int32.
    digits = [indices // 6 ** min(i, 10) for i in reversed(range(axes))]
    cells = xp.stack([digits[0], *(digit % 6 for digit in digits[1:])], axis=-1)
    apart = xp.stack([xp.full_like(which, -1)] * (len(digits) - 1) + [which], axis=-1)
    return jnp.asarray(xp.where((which < ROWS[name].prefix)[:, None], apart, cells))


def past(q_positions, k_positions) -> dict[str, object]:
    """The rule that a query sees what is not after it; on a grid, in reading order."""
    if q_positions.ndim == 1:
        return dict(causal=True)
    traced = any(isinstance(p, jax.core.Tracer) for p in (q_positions, k_positions))
    xp = jnp if traced else np
    q_positions, k_positions = xp.asarray(q_positions), xp.asarray(k_positions)
    seen = xp.ones((q_positions.shape[0], k_positions.shape[0]), bool)
    for axis in reversed(range(q_positions.shape[1])):
        q, k = q_positions[:, None, axis], k_positions[None, :, axis]
        seen = (k < q) | ((k == q) & seen)
    return dict(mask=jnp.asarray(seen))


class Layer(eqx.Module):
    """Self- or cross-attention of tokens that know nothing of order by themselves.

    Two heads of keys serve four of queries.
    """

    embedding: pe.PositionalEmbedding
    w_q: Float[Array, "heads head_dim dim"]
    w_k: Float[Array, "kv_heads head_dim dim"]
    w_v: Float[Array, "kv_heads head_dim dim"]

    def __init__(self, embedding: pe.PositionalEmbedding, dtype=jnp.float32):
        weights = lambda heads, seed: normal((heads, HEAD_DIM, DIM), dtype, seed) / 8
        self.embedding = embedding
        self.w_q = weights(HEADS, 3)
        self.w_k = weights(HEADS // 2, 4)
        self.w_v = weights(HEADS // 2, 5)

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
def with_gradients(layer, x, positions, **rules):
    """Self-attention, and gradients of its squares by the layer and the tokens."""

    def loss(arguments):
        layer, x = arguments
        out = layer(x, x, positions, positions, **rules)
        return jnp.sum(out**2), out

    return eqx.filter_grad(loss, has_aux=True)((layer, x))[::-1]


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


def attend(layer, x, positions, **rules) -> np.ndarray:
    """Attention of the tokens among themselves, by the program of `full_pass`."""
    return np.asarray(full_pass(layer, x, positions, **rules)[0])


def full_pass(layer, x, positions, mask=True, ids=0, causal=True, how=with_gradients):
    """The same beside its gradients, by one program for all laws: a mask says which
    keys are in the past."""
    n, p = len(x), np.asarray(positions)
    if causal:
        rules = past(p, p)
        mask = mask & np.asarray(rules.get("mask", p[None] <= p[:, None]))
    mask = jnp.asarray(np.broadcast_to(mask, (n, n)))
    ids = jnp.asarray(np.broadcast_to(ids, n), jnp.int32)
    return how(layer, x, positions, mask=mask, q_segments=ids, k_segments=ids)


def normal(shape, dtype=jnp.float32, seed: int = 1) -> Array:
    """Without a program for each shape, unlike `jax.random`."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape).astype(dtype))


def tokens(seq: int, dtype=jnp.float32, seed: int = 6) -> Float[Array, "seq dim"]:
    return normal((seq, DIM), dtype, seed)


def assert_close(a, b, *, logit: float = 20.0, value: float = 5.0) -> None:
    """Equal but for rounding.

    A logit of size `logit` is known to a few of its ulps, whatever the order of its
    sums, and so is the weight that its softmax gives to values of size `value`.
    """
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert a.dtype == b.dtype
    error = np.max(np.abs(a.astype(np.float64) - b.astype(np.float64)), initial=0)
    bound = 8 * float(jnp.finfo(a.dtype).eps) * logit * value
    assert error <= bound, f"{error} > {bound}"


def leaves(module) -> dict[str, Array]:
    """The trained arrays of a module, by path."""
    arrays = eqx.filter(module, eqx.is_inexact_array)
    paths = jax.tree_util.tree_leaves_with_path(arrays)
    return {jax.tree_util.keystr(path).lstrip("."): leaf for path, leaf in paths}
