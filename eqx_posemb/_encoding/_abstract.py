"""The base class of encodings."""

import abc

from jaxtyping import Array, Float, Num

from .._given import Positions
from .._module import Part


class AbstractEncoding(Part):
    """An encoding: a vector for each position, which is added to its token.

    A layer that reads the tokens is no encoding, even if its paper says so. Examples
    are the convolutions of wav2vec 2.0 over frames and of CPVT over patches. They
    depend on neighbors in memory and on padding, and ignore positions. A cache, a
    packed batch or a shard would change their result. The layer of wav2vec 2.0 is
    [`eqx_posemb.PositionalConvolution`][], which a model calls.
    """

    @abc.abstractmethod
    def __call__(
        self, positions: Num[Positions, "seq *axes"]
    ) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the positions of the tokens; with a second axis for grids.

        **Returns:**

        The vectors to add to the tokens, in at least float32.
        """
