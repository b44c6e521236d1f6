"""The base classes of rotary embeddings, and of the rotations that they give."""

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
from jaxtyping import Array, Float, Num

from .._checks import check_kind
from .._given import Positions
from .._module import Module, Part
from .._sharding import repeated


AXES = (
    "The axes before are heads and batches. For [seq, heads, dim] use `jax.vmap` with "
    "`in_axes=1, out_axes=1`."
)


FIRST_POSITIONS = (
    "Call it with positions, and rotate tokens by the result: "
    "`rope(positions).queries(q)`."
)


class AbstractRotation(Module):
    """A rotation: maps of queries and keys at given positions.

    Tokens are the second axis from the end, and heads the axis before it.
    """

    @property
    @abc.abstractmethod
    def heads(self) -> int | None:
        """`None` if all heads share the map. Otherwise the number of heads that queries
        and keys `[heads, seq, dim]` must have."""

    @abc.abstractmethod
    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """**Arguments:**

        - `q`: queries, `[seq, dim]`, or `[heads, seq, dim]` where there are `heads`.

        **Returns:**

        The mapped queries, in the dtype of `q`. Their products with mapped keys are the
        logits before the scale.
        """

    @abc.abstractmethod
    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """**Arguments:**

        - `k`: keys, of the shape that queries have.

        **Returns:**

        The mapped keys, in the dtype of `k`.
        """

    def values(self, v: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Rotates values as keys, as RoFormer's `rotate_value` and DeepSeek-V4 do.

        **Arguments:**

        - `v`: values, at the positions of their keys.

        **Returns:**

        The rotated values, in the dtype of `v`.
        """
        return self.keys(v)

    def outputs(self, o: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Undoes the rotation of values, for attended values that then depend on
        relative positions alone, as in DeepSeek-V4.

        **Arguments:**

        - `o`: attended values, at the positions of their queries.

        **Returns:**

        The outputs, in the dtype of `o`.

        **Raises:** as `inverse`.
        """
        return self.inverse().keys(o)

    def inverse(self) -> "AbstractRotation":
        """The inverse rotation, for queries and for keys.

        **Raises:** a `ValueError` if there is none.
        """
        raise ValueError(
            f"`{type(self).__name__}` has no inverse, as it is no rotation of the "
            "channels. Rotate values by another embedding, such as "
            "`eqx_posemb.rope(64)`."
        )

    # Type checkers do not read this method, so they report a call of a rotation.
    if not TYPE_CHECKING:

        def __call__(self, *x):
            raise TypeError(
                "A rotation has the methods `queries` and `keys`, but got a call with "
                f"{len(x)} argument(s). Write `rotation.queries(q)` and "
                "`rotation.keys(k)`."
            )


class AbstractRotary(Part):
    """Multiplies positions into queries and keys.

    The logit of a pair is then a product of two functions. One reads the query and its
    position, and the other reads the key and its position.
    """

    # With a visible `__getattr__`, type checkers would accept every attribute.
    if not TYPE_CHECKING:

        def __getattr__(self, name):
            cure = f" {FIRST_POSITIONS}" if hasattr(AbstractRotation, name) else ""
            raise AttributeError(
                f"`{type(self).__name__}` has no attribute `{name}`.{cure}"
            )

    @property
    def dynamic(self) -> bool:
        """Whether the embedding depends on the context length."""
        return False

    def for_length(self, length: int | Num[Array, ""]) -> "AbstractRotary":
        """The embedding in a context of `length` positions: itself, unless it is
        `dynamic`."""
        del length
        return self

    @abc.abstractmethod
    def __call__(self, positions: Num[Positions, "seq *axes"]) -> AbstractRotation:
        """**Arguments:**

        - `positions`: the position of each token.

        **Returns:**

        The rotation of queries and keys at these positions. On a block of positions it
        must equal the same block of the full rotation.
        """


def check_rotary(name: str, value: object) -> None:
    check_kind(name, value, AbstractRotary, "Give one, such as `eqx_posemb.rope(64)`.")


def each_head(
    turn: Callable[[Float[Array, "... dim"]], Float[Array, "... to"]],
    x: Float[Array, "some_heads seq dim"],
    heads: int | None,
) -> Float[Array, "heads seq to"]:
    """Applies the `queries` or `keys` of a rotation to all heads.

    If heads have maps of their own, a shared head of keys is repeated.
    """
    # A rotation without heads takes `[seq, dim]`, and need not broadcast over heads
    # itself.
    if heads is None:
        return jax.vmap(turn)(x)
    return turn(repeated(x, heads // x.shape[0]))
