"""What a bias is."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Num


class AbstractBias(eqx.Module):
    """Numbers to add to the logits that depend on positions alone."""

    @abc.abstractmethod
    def __call__(
        self, q_positions: Num[Array, " q"], k_positions: Num[Array, " k"]
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        What to add to the finished logits `scale * q·k`, in at least float32. On a
        block of queries and keys it must be that block of the whole.
        """
