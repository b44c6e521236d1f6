"""Learned numbers in place of the bias of special tokens."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from .._checks import check_count, check_shape
from .._given import as_positions, Positions
from .._low_rank import Factors, factors, side_by_side
from .._phase import as_float
from .._sharding import sharded_as_pairs
from ._abstract import AbstractBias, check_bias


class ResetBias(AbstractBias):
    r"""Replaces the bias of special tokens by learned numbers, after TUPE, Ke et al.
    2021.

    $$b_h(i, j) = \begin{cases} \theta_{1h} & i \in S \\
      \theta_{2h} & i \notin S,\; j \in S \\
      b'_h(i, j) & \text{otherwise} \end{cases}$$

    for a query at position $i$ and a key at $j$. $S$ (`special`) holds special
    positions, and $b'$ (`bias`) is the wrapped bias. The numbers $\theta_1$
    (`from_special`) and $\theta_2$ (`to_special`) are learned for each head $h$. A
    token such as [CLS] represents the whole sequence. A bias that fades with distance
    would limit it to the first words. The row of a special token has priority over its
    column, as in TUPE. A row with one number does not change the softmax, so a special
    token attends by content alone.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.ResetBias(pe.ALiBi(8, form="symmetric"), heads=8)
        p = jnp.arange(10)
        assert (bias(p, p)[:, 0] == 0).all()  # Position 0 sees all alike.
        ```
    """

    bias: AbstractBias
    from_special: Float[Array, " heads"]
    to_special: Float[Array, " heads"]
    # Positions identify special tokens, since a bias reads no content.
    special: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, bias: AbstractBias, heads: int, special: tuple[int, ...] = (0,)):
        """**Arguments:**

        - `bias`: The bias of all other pairs.
        - `heads`: The number of heads of `bias`. The learned numbers start at zero.
        - `special`: The positions of special tokens.

        **Raises:** a `ValueError` if `heads` is less than one or `special` is empty.
        """
        check_bias("bias", bias)
        check_count("heads", heads, 1)
        rule = "have at least one position"
        special = check_shape("special", special, bound=-(2**31), rule=rule)
        self.bias = bias
        self.from_special = jnp.zeros(heads)
        self.to_special = jnp.zeros(heads)
        self.special = special

    @property
    def relative(self) -> bool:
        """Whether the wrapped bias depends on distances alone."""
        return self.bias.relative

    def by_position(self, positions: Num[Positions, " seq"]) -> Bool[Array, " seq"]:
        """The special tokens, and the exceptions of the wrapped bias.

        **Arguments:**

        - `positions`: the positions of the queries or of the keys.

        **Returns:** whether each token is an exception.
        """
        special, wrapped = self._is_special(positions), self.bias.by_position(positions)
        return special if wrapped is None else special | wrapped

    @sharded_as_pairs
    @jax.named_scope("eqx_posemb.ResetBias")
    def __call__(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias of each pair, in JAX's default float dtype.

        **Raises:** a `ValueError` if `bias` has a different number of heads.
        """
        bias = as_float(self.bias(q_positions, k_positions))
        if bias.shape[:1] != self.from_special.shape:
            raise ValueError(
                f"`bias` must be for `heads` = {self.from_special.shape[0]} heads, but "
                f"got one for {bias.shape[0]}."
            )
        of_row, of_column = (
            as_float(x)[:, None, None] for x in (self.from_special, self.to_special)
        )
        row = self._is_special(q_positions)[None, :, None]
        column = self._is_special(k_positions)[None, None]
        return jnp.where(row, of_row, jnp.where(column, of_column, bias))

    def low_rank(
        self, q_positions: Num[Positions, " q"], k_positions: Num[Positions, " k"]
    ) -> Factors:
        """The channels of the wrapped bias, which are zero for special tokens, and two
        more channels for the learned numbers.

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        Channels of queries `[heads, q, rank]` and of keys `[heads or 1, k, rank]`. See
        [`eqx_posemb.PositionalEmbedding.for_kernel`][].

        **Raises:** a `ValueError` if `bias` is not low-rank.
        """
        of_q, of_k = factors("bias", self.bias, q_positions, k_positions)
        row = self._is_special(q_positions)[None, :, None]
        column = self._is_special(k_positions)[None, :, None]
        of_row, of_column = (
            as_float(x)[:, None, None] for x in (self.from_special, self.to_special)
        )
        # The new channels of keys are booleans, which every dtype represents exactly.
        return side_by_side(
            (
                jnp.where(row, 0, of_q),
                jnp.where(column, jnp.zeros((), of_k.dtype), of_k),
            ),
            (jnp.where(row, of_row, 0), jnp.ones_like(column)),
            (jnp.where(row, 0, of_column), column),
        )

    def _is_special(self, positions: Num[Positions, " seq"]) -> Bool[Array, " seq"]:
        positions = as_positions(positions)
        special = jnp.array(self.special, positions.dtype)
        return jnp.any(positions[:, None] == special[None], axis=1)
