"""Positions of packed and padded sequences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from .._given import as_ids, check_sequence
from .._sharding import compiler_sharded, mesh_axes


def segment_positions(segment_ids: Int[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts from zero within each run of equal ids: positions of a packed sequence.

    Give the same ids to [`eqx_posemb.PositionalEmbedding.attend`][] as `q_segments` and
    `k_segments`, since restarted positions alone do not mask other documents.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.positions.segment_positions(jnp.array([0, 0, 0, 1, 1]))
        assert positions.tolist() == [0, 1, 2, 0, 1]
        ```

    **Arguments:**

    - `segment_ids`: which document each token belongs to; only changes matter.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if `segment_ids` has not one axis.
    """
    check_sequence("segment_ids", segment_ids, "with an id for each token")
    ids = jnp.asarray(as_ids(segment_ids, "segment_ids"))
    return compiler_sharded(_within_runs, mesh_axes(ids), ids)


def _within_runs(segment_ids):
    starts = jnp.concatenate([jnp.ones(1, bool), segment_ids[1:] != segment_ids[:-1]])
    return _since(starts[: segment_ids.shape[0]])


def _since(starts):
    """The number of tokens since the last start."""
    index = jnp.arange(starts.shape[0], dtype=jnp.int32)
    # A cumulative maximum carries the start of a run to all of its tokens.
    return index - jax.lax.cummax(jnp.where(starts, index, 0))


def bilevel_positions(ends: Bool[Array, " seq"]) -> Int[Array, "seq 2"]:
    r"""BiPE, He et al. 2024: counts tokens within a sentence, and sentences.

    $$p_i = (i - e_i,\; m_i)$$

    for the number $m_i$ of sentences that end before token $i$, and the index $e_i$ of
    the first token of its sentence. Both numbers stay small in long texts. The authors
    add a learned vector for the place within a sentence, and rotate (or bias) by the
    number of the sentence.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        ends = jnp.array([False, True, False, False, True, False])
        within, sentence = pe.positions.bilevel_positions(ends).T
        assert within.tolist() == [0, 1, 0, 1, 2, 0]
        assert sentence.tolist() == [0, 0, 1, 1, 1, 2]

        learned = pe.Learned(1024, 64, key=jax.random.key(0))
        x = jnp.ones((6, 64)) + learned(within)
        order = jnp.arange(6)  # Tokens of a sentence have the same number.
        out = pe.PositionalEmbedding(rotary=pe.rope(64)).attend(
            x[None], x[None], x[None], sentence, sentence,
            causal=True, q_order=order, k_order=order,
        )
        ```

    **Arguments:**

    - `ends`: True for a token that ends a sentence, such as a full stop or a new line.

    **Returns:** the place within the sentence, and the number of the sentence, int32.

    **Raises:** a `ValueError` if `ends` has not one axis.

    ??? cite "Reference"

        [Two Stones Hit One Bird: Bilevel Positional Encoding for Better Length
        Extrapolation](https://arxiv.org/abs/2401.16421), Section 3.

        ```bibtex
        @inproceedings{he2024two,
            author={He, Zhenyu and Feng, Guhao and Luo, Shengjie and Yang, Kai and Wang,
                    Liwei and Xu, Jingjing and Zhang, Zhi and Yang, Hongxia and He, Di},
            title={Two Stones Hit One Bird: Bilevel Positional Encoding for Better
                   Length Extrapolation},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """
    check_sequence("ends", ends, "to count sentences")
    ends = jnp.asarray(ends)

    def count(ends):
        starts = jnp.concatenate([jnp.zeros(1, bool), ends])[: ends.shape[0]]
        return jnp.stack([_since(starts), jnp.cumsum(starts, dtype=jnp.int32)], axis=1)

    return compiler_sharded(count, (*mesh_axes(ends), None), ends)


def left_padded_positions(mask: Bool[Array, " seq"]) -> Int[Array, " seq"]:
    """Counts the tokens of a padded sequence from zero, wherever the padding is.

    Padding before the first token has position 0, and later padding repeats the
    previous position. So every table has a row for it. Mask the padding in attention.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        mask = jnp.array([False, False, True, True, True])
        assert pe.positions.left_padded_positions(mask).tolist() == [0, 0, 0, 1, 2]
        ```

    **Arguments:**

    - `mask`: True for tokens, False for padding.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if `mask` has not one axis.
    """
    check_sequence("mask", mask, "to count its tokens")
    count = lambda mask: jnp.maximum(jnp.cumsum(mask, dtype=jnp.int32) - 1, 0)
    mask = jnp.asarray(mask)
    return compiler_sharded(count, mesh_axes(mask), mask)
