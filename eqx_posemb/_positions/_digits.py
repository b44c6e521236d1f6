"""Positions of the digits of numbers."""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from .._checks import check_count, check_key
from .._given import check_sequence
from .._sharding import compiler_sharded, mesh_axes


def abacus_positions(
    digits: Bool[Array, " seq"],
    *,
    furthest: int = 99,
    key: PRNGKeyArray | None = None,
) -> Int[Array, " seq"]:
    r"""Abacus embeddings, McLeish et al. 2024.

    They count the digits of each number, so that equal digits have equal positions:

    $$p_i = \begin{cases} n_i + k & \text{token } i \text{ is the } n_i\text{-th digit
      of a number} \\ 0 & \text{it is no digit} \end{cases}$$

    with one $k$ for all tokens. In training it is drawn uniformly from 0 to `furthest`,
    and without a key it is 0. Look the positions up in [`eqx_posemb.Learned`][], and
    add the vectors to tokens in addition to another embedding. Equal digits of two
    numbers then have equal vectors. The random start trains places beyond the length of
    the training numbers. Write numbers with the lowest digit first, one digit per
    token.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        digits = jnp.array([True, True, False, True, True, True])  # 12+345
        places = pe.positions.abacus_positions(digits)
        assert places.tolist() == [1, 2, 0, 1, 2, 3]
        encoding = pe.Learned(1024, 64, key=jax.random.key(0))
        x = jnp.ones((6, 64)) + encoding(places)
        ```

    **Arguments:**

    - `digits`: True where the token is a digit.
    - `furthest`: the largest start beyond one.
    - `key`: A `jax.random` key, in training.

    **Returns:** positions, int32.

    **Raises:** a `ValueError` if `furthest` is negative, or `digits` has not one axis.

    ??? cite "Reference"

        [Transformers Can Do Arithmetic with the Right
        Embeddings](https://arxiv.org/abs/2405.17399), Section 3.1.

        ```bibtex
        @inproceedings{mcleish2024transformers,
            author={McLeish, Sean and Bansal, Arpit and Stein, Alex and Jain, Neel and
                    Kirchenbauer, John and Bartoldson, Brian R. and Kailkhura, Bhavya
                    and Bhatele, Abhinav and Geiping, Jonas and Schwarzschild, Avi and
                    Goldstein, Tom},
            title={Transformers Can Do Arithmetic with the Right Embeddings},
            booktitle={Advances in Neural Information Processing Systems},
            year={2024},
        }
        ```
    """
    check_sequence("digits", digits, "to count the digits of each number")
    start = _start(furthest, key)

    def places(digits, start):
        return jnp.where(digits, _counted_up(digits) + start, 0)

    return compiler_sharded(places, mesh_axes(jnp.asarray(digits)), digits, start)


def coupled_positions(
    digits: Bool[Array, " seq"],
    *,
    lowest_first: Bool[Array, " seq"] | bool = False,
    furthest: int = 99,
    key: PRNGKeyArray | None = None,
) -> Int[Array, " seq"]:
    r"""Position coupling, Cho et al. 2024: equal digits of numbers share a position.

    $$p_i = \begin{cases} 1 + n_i + k & \text{token } i \text{ is the } n_i\text{-th
      digit of a number, from the lowest on} \\ 1 + k & \text{it is no digit}
      \end{cases}$$

    with one $k$ for all tokens. In training it is drawn uniformly from 0 to `furthest`,
    and without a key it is 0. These positions replace the positions of an embedding,
    mostly of [`eqx_posemb.Learned`][] without another embedding. A model that learns to
    add short numbers then adds longer numbers. Other than
    [`eqx_posemb.positions.abacus_positions`][], operators move along, and numbers may
    have their highest digit first. Copies of a text couple in the same way, with
    `lowest_first=True`.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        text = "65+49=411"  # The answer, 114, has its lowest digit first.
        digits = jnp.array([each.isdigit() for each in text])
        answer = jnp.arange(len(text)) > text.index("=")
        positions = pe.positions.coupled_positions(digits, lowest_first=answer)
        assert positions.tolist() == [3, 2, 1, 3, 2, 1, 2, 3, 4]

        learned = pe.Learned(102, 64, key=jax.random.key(0))
        x = jnp.ones((9, 64)) + learned(positions)
        ```

    **Arguments:**

    - `digits`: True where the token is a digit.
    - `lowest_first`: True for numbers with the lowest digit first: one value, or one
        for each token. Otherwise the highest digit is first.
    - `furthest`: the largest start beyond one.
    - `key`: A `jax.random` key, in training.

    **Returns:** positions, int32, from 1 on.

    **Raises:** a `ValueError` if `furthest` is negative, if `digits` has not one axis,
    or if `lowest_first` has another shape.

    ??? cite "Reference"

        [Position Coupling: Improving Length Generalization of Arithmetic Transformers
        Using Task Structure](https://arxiv.org/abs/2405.20671), Section 3. [Arithmetic
        Transformers Can Length-Generalize in Both Operand Length and
        Count](https://arxiv.org/abs/2410.15787) adds more than two numbers.

        ```bibtex
        @inproceedings{cho2024position,
            author={Cho, Hanseul and Cha, Jaeyoung and Awasthi, Pranjal and
                    Bhojanapalli, Srinadh and Gupta, Anupam and Yun, Chulhee},
            title={Position Coupling: Improving Length Generalization of Arithmetic
                   Transformers Using Task Structure},
            booktitle={Advances in Neural Information Processing Systems},
            year={2024},
        }
        ```
    """
    check_sequence("digits", digits, "to count the digits of each number")
    if jnp.ndim(lowest_first) and jnp.shape(lowest_first) != digits.shape:
        raise ValueError(
            "`lowest_first` must be True or False, or have shape [seq] = "
            f"{digits.shape} as `digits`, but got shape {jnp.shape(lowest_first)}."
        )
    start = _start(furthest, key)

    def places(digits, lowest_first, start):
        # An expression has numbers of both orders, so each token selects its count.
        counted = jnp.where(lowest_first, _counted_up(digits), _counted_down(digits))
        return 1 + counted + start

    axes = mesh_axes(jnp.asarray(digits))
    return compiler_sharded(places, axes, digits, lowest_first, start)


def _start(furthest, key):
    check_count("furthest", furthest, 0)
    if key is None:
        return 0
    check_key(key)
    return jr.randint(key, (), 0, furthest + 1, jnp.int32)


def _counted_up(digits):
    """1 for the first digit of each number, and 0 for other tokens."""
    index = jnp.arange(1, digits.shape[0] + 1, dtype=jnp.int32)
    # A cumulative maximum finds the last token before the number without a loop.
    return index - jax.lax.cummax(jnp.where(digits, 0, index))


def _counted_down(digits):
    """1 for the last digit of each number, and 0 for other tokens."""
    return jnp.flip(_counted_up(jnp.flip(digits)))
