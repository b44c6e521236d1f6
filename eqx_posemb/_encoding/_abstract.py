"""What an encoding is."""

import abc

from jaxtyping import Array, Float, Num

from .._given import Positions
from .._module import Part


class AbstractEncoding(Part):
    """A vector for each position, to be added to the token there.

    What reads the tokens themselves is no encoding but a layer of the model, though its
    paper may call it one: the convolutions over frames of wav2vec 2.0 and over patches
    of CPVT. They know where a token is by its neighbors in memory, and by the padding
    at the edge; given positions they would not know what to do with them, and a cache,
    a packed batch or a shard would change their result.
    """

    @abc.abstractmethod
    def __call__(
        self, positions: Num[Positions, "seq *axes"]
    ) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the positions of the tokens; with a second axis for grids.

        **Returns:**

        What to add to the tokens, in at least float32.
        """
