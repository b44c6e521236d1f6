"""Positions with a gap, which train distances beyond the training length."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from .._checks import check_count
from .._given import check_integers, check_sequence, in_common, Positions
from .._symbolic import error_if


def pose_positions(
    positions: Int[Positions, " seq"], *, longest: int, key: PRNGKeyArray
) -> Int[Array, " seq"]:
    r"""PoSE, Zhu et al. 2024: skips positions once, at a random token.

    $$p \mapsto \begin{cases} p & p < r \\ p + u & p \ge r \end{cases}, \qquad
      r \sim \mathcal{U}\{1, \dots, \lfloor (n + 1) / 2 \rfloor\}, \quad
      u \sim \mathcal{U}\{0, \dots, L - n\}$$

    for $n$ tokens and $L$ = `longest`. Training on short sequences then meets all
    distances below $L$, while neighbors within both parts stay neighbors. It fine-tunes
    a model for a context of $L$ positions, mostly together with
    [`eqx_posemb.linear_rope`][] or [`eqx_posemb.yarn`][]. Tokens after the gap may come
    from a later part of the document.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        key = jax.random.key(0)
        positions = pe.positions.pose_positions(jnp.arange(10), longest=2048, key=key)
        assert positions[0] == 0 and positions[-1] < 2048
        assert (jnp.diff(positions) > 1).sum() == 1
        ```

    **Arguments:**

    - `positions`: the positions of the tokens, integers from 0 up to, and without, the
        number of tokens.
    - `longest`: the number of positions to reach, which are 0 to `longest - 1`.
    - `key`: A `jax.random` key.

    **Returns:** positions, in the dtype of `positions`, or int32 if that is narrower.

    **Raises:** a `ValueError` if positions are not integers in one axis, or if
    `longest` is less than their number; an error at run time if a position is out of
    range.

    ??? cite "Reference"

        [PoSE: Efficient Context Window Extension of LLMs via Positional Skip-wise
        Training](https://arxiv.org/abs/2309.10400), Section 3.2, with two parts and the
        distributions of the released code.

        ```bibtex
        @inproceedings{zhu2024pose,
            author={Zhu, Dawei and Yang, Nan and Wang, Liang and Song, Yifan and Wu,
                    Wenhao and Wei, Furu and Li, Sujian},
            title={{PoSE}: Efficient Context Window Extension of {LLMs} via Positional
                   Skip-wise Training},
            booktitle={International Conference on Learning Representations},
            year={2024},
        }
        ```
    """
    check_sequence("positions", positions, "to be counted")
    check_integers("positions", positions, "to be counted")
    count = positions.shape[0]
    check_count("longest", longest, 1)
    if longest < count:
        raise ValueError(
            f"`longest` must be at least the number of tokens, {count}, but got "
            f"{longest}."
        )
    (positions,) = in_common(positions)
    to_start, to_gap = jr.split(key)
    # The gap begins in the first half, so both parts have tokens.
    start = jr.randint(to_start, (), 1, max((count + 1) // 2, 1) + 1)
    gap = jr.randint(to_gap, (), 0, longest - count + 1)
    index = jnp.asarray(positions)
    skipped = index + jnp.where(index < start, 0, gap).astype(index.dtype)
    # A position out of range would be on the wrong side of the gap silently.
    return error_if(
        skipped,
        (index < 0) | (index >= count),
        f"`positions` must be between 0 and {count - 1}, one less than the number of "
        "tokens, to have a gap among them. Shift them first.",
    )
