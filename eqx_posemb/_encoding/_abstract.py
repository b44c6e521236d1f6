"""What an encoding is."""

import abc

import equinox as eqx
from jaxtyping import Array, Float, Num


class AbstractEncoding(eqx.Module):
    """A vector for each position, to be added to the token there."""

    @abc.abstractmethod
    def __call__(self, positions: Num[Array, "seq *axes"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the positions of the tokens; with a second axis for grids.

        **Returns:**

        What to add to the tokens, in at least float32.
        """
