"""The base classes of biases."""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from .._checks import check_kind
from .._given import in_common, Positions
from .._module import Part
from .._sharding import sharded_as_pairs
from .._spread import all_distances, are_consecutive
from ._spread import spread


class AbstractBias(Part):
    """A bias: numbers that depend on positions alone and are added to the logits."""

    @property
    def relative(self) -> bool:
        """Whether the bias depends on distances alone. Attention in blocks evaluates
        such a bias once for all tiles with the same distances."""
        return False

    def by_position(
        self, positions: Num[Positions, "seq *axes"]
    ) -> Bool[Array, " seq"] | None:
        """The tokens that are exceptions of a `relative` bias. Attention in blocks
        evaluates the tiles of such tokens one by one.

        **Arguments:**

        - `positions`: the positions of the queries or of the keys.

        **Returns:**

        Whether the bias of each token depends on more than distances. `None`, the
        default, means that there are no exceptions.
        """
        del positions
        return None

    @abc.abstractmethod
    def __call__(
        self,
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias, in at least float32, which is added to the finished logits `scale *
        q·k`. On a block of positions it must equal the same block of the full bias.
        """

    def strip(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Float[Array, "heads distances"] | None:
        """The bias of each distance of consecutive positions, for a fused kernel.

        **Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias of all `q + k - 1` distances in ascending order, from the last query to
        the first key on. `None` if the bias depends on more than distances, or if
        positions are not known to be consecutive at trace time.
        """
        del q_positions, k_positions
        return None


class AbstractRelativeBias(AbstractBias):
    """A bias that depends on the distance from query to key alone.

    A subclass defines the bias of each distance, and this class evaluates it for each
    pair. Consecutive positions need one evaluation per distance, and their gradient
    needs no array of the size of the bias. Other positions need one evaluation per
    pair. The program finds out at run time which case holds.
    [`eqx_posemb.positions.consecutive`][] states it at trace time. Under `jax.vmap` a
    batch uses the fast case if all of its positions are consecutive.

    With integer positions, reverse mode gives gradients of any order. Forward mode
    (`jax.jvp`) raises an error.
    """

    @property
    def relative(self) -> bool:
        """True: the bias depends on distances alone."""
        return True

    @abc.abstractmethod
    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query. Past keys have negative distances.

        **Returns:**

        The bias of each distance, in at least float32.
        """

    @sharded_as_pairs
    def __call__(
        self,
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        The bias of each pair, as `along` defines it.
        """
        with jax.named_scope(f"eqx_posemb.{type(self).__name__}"):
            return spread(self, q_positions, k_positions)

    def strip(
        self,
        q_positions: Num[Positions, "q *axes"],
        k_positions: Num[Positions, "k *axes"],
    ) -> Float[Array, "heads distances"] | None:
        q, k = in_common(q_positions, k_positions)
        known = jnp.issubdtype(q.dtype, jnp.integer) and 0 not in (q.size, k.size)
        # A fused kernel has no second form, so positions must be consecutive at trace
        # time.
        if not known or are_consecutive(q_positions, k_positions) is not True:
            return None
        return self.along(all_distances(q, k))


def check_bias(name: str, value: object) -> None:
    check_kind(name, value, AbstractBias, "Give one, such as `eqx_posemb.ALiBi(8)`.")
