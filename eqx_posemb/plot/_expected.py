"""The expected logits of an embedding, for random tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._bundle import PositionalEmbedding


@eqx.filter_jit
def expected_logits(
    embedding: PositionalEmbedding,
    q_positions: Num[Array, "q *axes"],
    k_positions: Num[Array, "k *axes"],
    heads: int,
    head_dim: int,
) -> Float[Array, "heads q k"]:
    """The mean logits of queries that have the content of their keys.

    The content is random, of mean zero and unit variance in each channel. A logit is a
    quadratic form of the content, whose mean is a sum over the channels. Linear terms,
    such as a score of the query alone, cancel between a channel and its negative.
    """

    def logits(x):
        q, k = (
            jnp.broadcast_to(x, (heads, len(positions), head_dim))
            for positions in (q_positions, k_positions)
        )
        return embedding.logits(q, k, q_positions, k_positions)

    # Content of zeros gives the constant term, such as a bias.
    blind = logits(jnp.zeros(head_dim))

    def of_channel(x):
        return (logits(x) + logits(-x)) / 2 - blind

    return blind + jnp.sum(jax.lax.map(of_channel, jnp.eye(head_dim)), axis=0)


def check_readable(embedding: PositionalEmbedding) -> None:
    """Refuses an embedding whose logits have no mean without a model around it."""
    if embedding.reads:
        raise ValueError(
            f"`embedding` must not read {' and '.join(sorted(embedding.reads))}, which "
            "only a model has, to be drawn by itself."
        )
    of_logits = embedding.rotary, embedding.bias, embedding.score
    if embedding.encoding is not None and not any(of_logits):
        raise ValueError(
            "`embedding` must change logits, to be drawn over the distance, but got "
            f"{type(embedding.encoding).__name__}, which is added to tokens."
        )


def similarities(
    embedding: PositionalEmbedding,
    q_positions: Num[Array, "q *axes"],
    k_positions: Num[Array, "k *axes"],
    heads: int,
    head_dim: int,
) -> tuple[Float[np.ndarray, "q k"], str]:
    """The similarity of positions, and the name of its measure: the cosine of
    encodings, or the mean expected logit over heads."""
    if embedding.encoding is not None:
        vectors = [
            np.asarray(embedding.encoding(positions), np.float64)
            for positions in (q_positions, k_positions)
        ]
        q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in vectors)
        return q @ k.T, "cosine of the encodings"
    check_readable(embedding)
    found = expected_logits(embedding, q_positions, k_positions, heads, head_dim)
    return np.asarray(found, np.float64).mean(axis=0), "expected logit"
