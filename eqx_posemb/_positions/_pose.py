"""Positions with gaps, which train distances beyond the training length."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Int, PRNGKeyArray

from .._checks import check_count, check_key, check_positive, require
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
    positions, count = _counted(positions, longest, key)
    to_start, to_gap = jr.split(key)
    # The gap begins in the first half, so both parts have tokens.
    start = jr.randint(to_start, (), 1, max((count + 1) // 2, 1) + 1)
    gap = jr.randint(to_gap, (), 0, longest - count + 1)
    return _moved(positions, count, jnp.where(positions < start, 0, gap))


def cream_positions(
    positions: Int[Positions, " seq"],
    *,
    longest: int,
    mean: float | None = None,
    deviation: float = 3.0,
    key: PRNGKeyArray,
) -> Int[Array, " seq"]:
    r"""CREAM, Wu et al. 2024: a start, a random part of the middle, and an end.

    $$p \mapsto \begin{cases} p & p < h \\ p + u & h \le p < n - h \\
      p + L - n & \text{otherwise} \end{cases}$$

    for $n$ tokens and $L$ = `longest`. The ends have $h = \lfloor n / 3 \rfloor$ tokens
    or $h = \lfloor 4 L / n \rfloor$, each in half of the draws. The middle has the
    $m = n - 2 h$ other tokens, and its last position $e$ is drawn in two steps:

    $$a = \lfloor \mathcal{N}(\mu, \sigma) \rfloor, \qquad e \sim \mathcal{U} \{h +
      (m - 1) \tfrac{a}{2}, \dots, n \tfrac{a}{2} - h - 1\}$$

    where the normal number is clipped to the range from 2 to $2 L / n$. Far ends teach
    long distances, and short ends keep most tokens consecutive. The normal distribution
    prefers the middle of the context, which models with extended contexts tend to
    forget. [`eqx_posemb.positions.pose_positions`][] has one gap and no preference.

    It fine-tunes a model for a context of $L$ positions, together with
    [`eqx_posemb.linear_rope`][] or another extension. Take the tokens of a document at
    these positions, if the document is as long.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        key = jax.random.key(1)
        positions = pe.positions.cream_positions(jnp.arange(240), longest=960, key=key)
        assert positions[0] == 0 and positions[-1] == 959
        assert (jnp.diff(positions) > 1).sum() == 2
        ```

    **Arguments:**

    - `positions`: the positions of the tokens, integers from 0 up to, and without, the
        number of tokens.
    - `longest`: the number of positions to reach, which are 0 to `longest - 1`.
    - `mean`: the mean $\mu$, in halves of the number of tokens. By default $1 + L / n$,
        the middle of the range. The authors have 9 for $L = 8 n$.
    - `deviation`: the standard deviation $\sigma$ in the same unit.
    - `key`: A `jax.random` key.

    **Returns:** positions, in the dtype of `positions`, or int32 if that is narrower.

    **Raises:** a `ValueError` if positions are not integers in one axis, if `longest`
    is less than their number, or if the ends leave no middle. The same if `mean` or
    `deviation` is not positive. An error at run time if a position is out of range.

    ??? cite "Reference"

        [Never Miss A Beat: An Efficient Recipe for Context Window Extension of Large
        Language Models with Consistent "Middle"
        Enhancement](https://arxiv.org/abs/2406.07138), Section 3, with the
        distributions of the released code. That code draws the size of the ends once
        for many sequences.

        ```bibtex
        @inproceedings{wu2024never,
            author={Wu, Tong and Zhao, Yanpeng and Zheng, Zilong},
            title={Never Miss A Beat: An Efficient Recipe for Context Window Extension
                   of Large Language Models with Consistent ``Middle'' Enhancement},
            booktitle={Advances in Neural Information Processing Systems},
            year={2024},
        }
        ```
    """
    positions, count = _counted(positions, longest, key)
    short = 4 * longest // max(count, 1)
    if count <= 2 * short:
        raise ValueError(
            f"`positions` must have more than {2 * short} tokens for a `longest` of "
            f"{longest}, to have tokens between the ends, but got {count}."
        )
    check_positive("deviation", deviation)
    mean = 1 + longest / count if mean is None else mean
    check_positive("mean", mean)
    to_ends, to_part, to_last = jr.split(key, 3)
    ends = jnp.where(jr.bernoulli(to_ends), count // 3, short)
    middle = count - 2 * ends
    drawn = mean + deviation * jr.normal(to_part)
    part = jnp.clip(drawn, 2, 2 * longest / count).astype(jnp.int32)
    lowest = ends + (middle - 1) * part // 2
    highest = part * count // 2 - ends - 1
    gap = jr.randint(to_last, (), lowest, highest + 1) - (ends + middle - 1)
    after = jnp.where(positions < count - ends, gap, longest - count)
    return _moved(positions, count, jnp.where(positions < ends, 0, after))


def _counted(positions, longest, key):
    """Positions as an array and their number, if they are integers in one axis."""
    check_sequence("positions", positions, "to be counted")
    check_integers("positions", positions, "to be counted")
    count = positions.shape[0]
    check_count("longest", longest, 1)
    check_key(key)
    rule = f"be at least the number of tokens, {count}"
    require(longest >= count, "longest", rule, longest)
    (positions,) = in_common(positions)
    return jnp.asarray(positions), count


def _moved(positions, count, steps):
    # A position out of range would be on the wrong side of a gap silently.
    return error_if(
        positions + steps.astype(positions.dtype),
        (positions < 0) | (positions >= count),
        f"`positions` must be between 0 and {count - 1}, one less than the number of "
        "tokens, to have gaps among them. Shift them first.",
    )
