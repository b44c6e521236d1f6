"""Random positions for training, which cover more positions than the training length.

Each function maps positions to positions, and takes a `jax.random` key. Use a new key
for every example and step, and the same key for queries and keys. Every embedding
accepts the result. Evaluate on the original positions, unless the docstring says
otherwise.
"""

import math
from collections.abc import Sequence

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Num, PRNGKeyArray

from .._checks import check_at_least, check_count, check_key, check_positive, require
from .._given import (
    as_positions,
    check_integers,
    check_positions,
    check_sequence,
    in_common,
    Positions,
)
from .._phase import as_float
from .._sharding import rows_of
from .._symbolic import error_if


def randomized_positions(
    positions: Int[Positions, " seq"], *, longest: int, key: PRNGKeyArray
) -> Int[Array, " seq"]:
    r"""Randomized positional encodings, Ruoss et al. 2023.

    They train a short sequence at random positions of a long sequence, in order:

    $$p \mapsto r_p, \qquad r_0 < r_1 < \dots < r_{n-1} < L$$

    for $n$ different numbers drawn uniformly from those below $L$ = `longest`, and
    sorted. The order is kept and distances are not. Training therefore covers all
    positions and distances up to $L$, and a sequence of length $L$ has no new ones. It
    works with any embedding. The authors also draw positions in evaluation.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        key = jax.random.key(0)
        positions = pe.positions.randomized_positions(
            jnp.arange(10), longest=2048, key=key
        )
        assert (jnp.diff(positions) > 0).all() and positions[-1] < 2048
        ```

    **Arguments:**

    - `positions`: the positions of the tokens, integers from 0 up to, and without, the
        number of tokens: as they are counted, packed or padded.
    - `longest`: the number of positions to draw from, which are 0 to `longest - 1`.
    - `key`: A `jax.random` key.

    **Returns:** positions, in the dtype of `positions`, or int32 if that is narrower.

    **Raises:** a `ValueError` if positions are not integers in one axis, or if
    `longest` is less than their number. An error at run time if a position is out of
    range.

    ??? cite "Reference"

        [Randomized Positional Encodings Boost Length Generalization of
        Transformers](https://arxiv.org/abs/2305.16843), Section 3.

        ```bibtex
        @inproceedings{ruoss2023randomized,
            author={Ruoss, Anian and Del{\'e}tang, Gr{\'e}goire and Genewein, Tim and
                    Grau-Moya, Jordi and Csord{\'a}s, R{\'o}bert and Bennani, Mehdi and
                    Legg, Shane and Veness, Joel},
            title={Randomized Positional Encodings Boost Length Generalization of
                   Transformers},
            booktitle={Annual Meeting of the Association for Computational Linguistics},
            year={2023},
        }
        ```
    """
    check_sequence("positions", positions, "to be counted")
    check_integers("positions", positions, "to be counted")
    check_key(key)
    check_count("longest", longest, 1)
    count = positions.shape[0]
    rule = f"be at least the number of tokens, {count}"
    require(longest >= count, "longest", rule, longest)
    (positions,) = in_common(positions)
    # Without replacement, no two tokens have equal positions.
    drawn = jnp.sort(jr.choice(key, longest, (count,), replace=False))
    return error_if(
        rows_of(drawn.astype(positions.dtype), positions),
        (positions < 0) | (positions >= count),
        f"`positions` must be between 0 and {count - 1}, one less than the number of "
        "tokens, to be replaced in order. Shift them first.",
    )


def shifted_positions(
    positions: Num[Positions, "seq *axes"], *, furthest: int, key: PRNGKeyArray
) -> Num[Array, "seq *axes"]:
    r"""Shifted absolute position embedding (SHAPE), Kiyono et al. 2021.

    It moves the whole sequence by a random step, so that only distances can be learned:

    $$p \mapsto p + k, \qquad k \sim \mathcal{U}\{0, \dots, K - 1\}$$

    for one $k$ for all tokens and $K$ = `furthest`. An absolute encoding that is
    trained with it behaves like a relative encoding, at no cost. A relative embedding
    does not change. The released code evaluates with $k = K$: add `furthest` to match
    it.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        key = jax.random.key(0)
        positions = pe.positions.shifted_positions(
            jnp.arange(10), furthest=100, key=key
        )
        assert (positions - positions[0] == jnp.arange(10)).all()
        ```

    **Arguments:**

    - `positions`: the positions of the tokens; on a grid, every axis has a step of its
        own.
    - `furthest`: the number of steps to draw from, which are 0 to `furthest - 1`.
    - `key`: A `jax.random` key.

    **Returns:** positions, in the dtype of `positions`, or int32 if that is narrower.

    **Raises:** a `ValueError` if `furthest` is less than one, or if positions have
    neither one axis nor two.

    ??? cite "Reference"

        [SHAPE: Shifted Absolute Position Embedding for
        Transformers](https://arxiv.org/abs/2109.05644), Section 3.

        ```bibtex
        @inproceedings{kiyono2021shape,
            author={Kiyono, Shun and Kobayashi, Sosuke and Suzuki, Jun and Inui,
                    Kentaro},
            title={{SHAPE}: Shifted Absolute Position Embedding for Transformers},
            booktitle={Empirical Methods in Natural Language Processing},
            year={2021},
        }
        ```
    """
    check_count("furthest", furthest, 1)
    check_key(key)
    check_positions("positions", positions)
    (positions,) = in_common(positions)
    steps = jr.randint(key, positions.shape[1:], 0, furthest)
    return positions + steps[None].astype(positions.dtype)


def cape_positions(
    positions: Num[Positions, "seq *axes"],
    *,
    shift: float = 0.0,
    jitter: float = 0.0,
    scale: float = 1.0,
    spacing: float | Sequence[float] = 1.0,
    key: PRNGKeyArray,
) -> Float[Array, "seq *axes"]:
    r"""Continuous augmented positional embeddings (CAPE), Likhomanenko et al. 2021.

    It shifts, scales and jitters positions at random in training:

    $$p_i \mapsto (p_i + g + \epsilon_i)\, e^\lambda, \qquad
      g \sim \mathcal{U}(\pm G), \quad \epsilon_i \sim \mathcal{U}(\pm \epsilon h),
      \quad \lambda \sim \mathcal{U}(\pm \ln \Lambda)$$

    for $G$ = `shift`, $\epsilon$ = `jitter`, $\Lambda$ = `scale` and the distance $h$
    of neighbors (`spacing`). Training then covers fractional positions, shifts and
    other rates. An absolute encoding generalizes to new lengths and rates. On a grid
    every axis has its own $g$ and $\epsilon_i$, and all axes share $\lambda$. A jitter
    of at most one half keeps the order.

    $\Lambda$ scales around position 0. To scale around the middle, as for audio, center
    the sequence first: `positions - positions.mean()`. The paper uses
    [`eqx_posemb.Sinusoidal`][], with positions in seconds times 30 for speech, and
    multiplies tokens by $\sqrt d$. For images it uses positions from −1 to 1, with the
    spacing $2 / (n - 1)$. It encodes them by `GaussianFourier(d, matrix=...)` with the
    frequencies $10^{m/(d/2-1)} (\cos m, \sin m) / 2$ and cosines first.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.positions.cape_positions(
            jnp.arange(10), shift=5.0, jitter=0.5, scale=1.03, key=jax.random.key(0)
        )
        encoding = pe.Sinusoidal(64)(positions)
        ```

    **Arguments:**

    - `positions`: the positions of the tokens, integers or floats.
    - `shift`: the largest step of all together, in the unit of positions.
    - `jitter`: the largest step of each alone, as a part of `spacing`.
    - `scale`: the largest factor; the least is one over it.
    - `spacing`: how far apart neighbors are, or that for each axis.
    - `key`: A `jax.random` key.

    **Returns:** positions, in JAX's default float dtype.

    **Raises:** a `ValueError` if `shift` or `jitter` is negative, `scale` is less than
    one, or `spacing` is not positive. The same if `spacing` does not match the axes, or
    if positions do not have one or two axes.

    ??? cite "Reference"

        [CAPE: Encoding Relative Positions with Continuous Augmented Positional
        Embeddings](https://arxiv.org/abs/2106.03143), Section 3.1.

        ```bibtex
        @inproceedings{likhomanenko2021cape,
            author={Likhomanenko, Tatiana and Xu, Qiantong and Synnaeve, Gabriel and
                    Collobert, Ronan and Rogozhnikov, Alex},
            title={{CAPE}: Encoding Relative Positions with Continuous Augmented
                   Positional Embeddings},
            booktitle={Advances in Neural Information Processing Systems},
            year={2021},
        }
        ```
    """
    check_positions("positions", positions)
    check_at_least("shift", shift, 0)
    check_at_least("jitter", jitter, 0)
    check_at_least("scale", scale, 1)
    check_key(key)
    apart = (spacing,) if isinstance(spacing, int | float) else tuple(spacing)
    for step in apart:
        check_positive("spacing", step)
    axes = positions.shape[1:]
    rule = (
        f"be one number, or one for each axis of positions of shape {positions.shape}"
    )
    require(len(apart) <= 1 or axes == (len(apart),), "spacing", rule, apart)
    positions = as_float(as_positions(positions))
    shift_key, jitter_key, scale_key = jr.split(key, 3)
    uniform = lambda key, shape: jr.uniform(
        key, shape, positions.dtype, minval=-1.0, maxval=1.0
    )
    step = jnp.array(apart, positions.dtype)
    step = jnp.broadcast_to(step[0] if len(apart) == 1 else step, axes)
    moved = positions + shift * uniform(shift_key, axes)[None]
    shaken = moved + jitter * step[None] * uniform(jitter_key, positions.shape)
    # One factor for all axes keeps the aspect ratio of a grid.
    return shaken * jnp.exp(math.log(scale) * uniform(scale_key, ()))
