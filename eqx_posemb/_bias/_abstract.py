"""What a bias is."""

import abc

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_kind
from .._given import in_common, Positions
from .._module import Part
from .._spread import all_distances, are_consecutive
from ._spread import spread


class AbstractBias(Part):
    """Numbers to add to the logits that depend on positions alone."""

    @property
    def relative(self) -> bool:
        """Whether the bias depends on distances alone. Attention in blocks evaluates
        such a bias once for all tiles with the same distances."""
        return False

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

        What to add to the finished logits `scale * q·k`, in at least float32. On a
        block of queries and keys it must be that block of the whole.
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

    A subclass says what the bias of each distance is, and has here that of each pair.
    Consecutive positions take one evaluation for each distance and not for each pair,
    and the gradient takes no memory of the size of the bias. Any other positions are
    right as well. The program decides at run time, and
    [`eqx_posemb.positions.consecutive`][] decides at trace time. Under `jax.vmap` a
    batch of positions is decided as one.

    By integer positions, gradients are there to any order, but not in forward mode
    (`jax.jvp`).
    """

    @property
    def relative(self) -> bool:
        """True: the bias depends on distances alone."""
        return True

    @abc.abstractmethod
    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query: negative looks back.

        **Returns:**

        What to add to the finished logits of queries and keys so far apart, in at least
        float32.
        """

    def __call__(
        self,
        q_positions: Num[Positions, " q"],
        k_positions: Num[Positions, " k"],
    ) -> Float[Array, "heads q k"]:
        """**Arguments:**

        - `q_positions`: the positions of the queries.
        - `k_positions`: the positions of the keys.

        **Returns:**

        What to add to the logits of each pair, as `along` gives it.
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
        if not known or are_consecutive(q_positions, k_positions) is not True:
            return None
        return self.along(all_distances(q, k))


def check_bias(name: str, value: object) -> None:
    check_kind(name, value, AbstractBias, "Give one, such as `eqx_posemb.ALiBi(8)`.")
