"""Several biases in one."""

import operator
from functools import reduce

from jaxtyping import Array, Bool, Float, Num

from .._checks import require
from .._given import Positions
from .._low_rank import Factors, factors, side_by_side
from .._phase import as_float
from ._abstract import AbstractBias, check_bias


class SumBias(AbstractBias):
    r"""Adds several biases.

    $$b_h(i, j) = \sum_n b^{(n)}_h(i, j)$$

    The bundle has one slot for a bias, and this class combines several. Examples are
    the absolute and the relative bias of TUPE, or a table for near distances with a
    penalty for far distances. All biases read the same positions.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        table = pe.ClippedBias(heads=8, max_distance=16, key=jax.random.key(0))
        bias = pe.SumBias(table, pe.ALiBi(heads=8))
        p = jnp.arange(10)
        assert jnp.allclose(bias(p, p), table(p, p) + pe.ALiBi(heads=8)(p, p))
        ```
    """

    # The tuple is a pytree, so optimizers train the parameters of all terms.
    biases: tuple[AbstractBias, ...]

    def __init__(self, *biases: AbstractBias):
        """**Arguments:**

        - `biases`: The biases to add, which have equal numbers of heads.

        **Raises:** a `ValueError` if there are none.
        """
        require(biases, "biases", "have at least one to add", words="none")
        for bias in biases:
            check_bias("biases", bias)
        self.biases = biases

    @property
    def relative(self) -> bool:
        """Whether all biases depend on distances alone."""
        return all(bias.relative for bias in self.biases)

    def by_position(
        self, positions: Num[Positions, "seq *axes"]
    ) -> Bool[Array, " seq"] | None:
        """The exceptions of all biases.

        **Arguments:**

        - `positions`: the positions of the queries or of the keys.

        **Returns:** whether each token is an exception, or `None` without exceptions.
        """
        each = [bias.by_position(positions) for bias in self.biases]
        exceptions = [tokens for tokens in each if tokens is not None]
        return reduce(operator.or_, exceptions) if exceptions else None

    def __call__(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.

        **Raises:** a `ValueError` if the biases have different numbers of heads.
        """
        terms = [as_float(bias(q_positions, k_positions)) for bias in self.biases]
        # Broadcasting would silently add the bias of one head to all heads.
        if len({term.shape for term in terms}) > 1:
            raise ValueError(
                "`biases` must have the same number of heads, but got "
                f"{', '.join(str(term.shape[0]) for term in terms)}."
            )
        return sum(terms[1:], start=terms[0])

    def strip(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Float[Array, "heads distances"] | None:
        each = [bias.strip(q_positions, k_positions) for bias in self.biases]
        strips = [strip for strip in each if strip is not None]
        return sum(strips[1:], start=strips[0]) if len(strips) == len(each) else None

    def low_rank(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Factors:
        """The channels of all biases, concatenated.

        **Arguments:**

        - `q_positions`, `k_positions`: as in `__call__`.

        **Returns:**

        Channels of queries `[heads, q, rank]` and of keys `[heads or 1, k, rank]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** a `ValueError` if one of the biases is not low-rank.
        """
        each = [factors("biases", b, q_positions, k_positions) for b in self.biases]
        return side_by_side(*each)
