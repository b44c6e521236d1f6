"""Several rotary embeddings in sequence."""

import equinox as eqx
from jaxtyping import Array, Float, Num

from .._checks import require
from .._frequencies import in_context, Length
from .._given import Positions
from ._abstract import AbstractRotary, AbstractRotation, check_rotary, each_head


class Chain(AbstractRotary):
    r"""Several rotary embeddings in sequence, in their given order.

    $$q \mapsto T_n(p) \cdots T_1(p)\, q, \qquad k \mapsto T'_n(p) \cdots T'_1(p)\, k$$

    An example is a rotary embedding with a temperature, as in Ministral 3:

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        temperature = pe.Temperature(beta=0.1, length=16_384)
        both = pe.rotations.Chain((pe.rope(64), temperature))
        rotation = both(jnp.arange(20_000, 20_010))
        q = rotation.queries(jnp.ones((8, 10, 64)))
        ```
    """

    # The order matters, since a temperature or a basis may come before or after a
    # rotation.
    parts: tuple[AbstractRotary, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        cure = "`NoPE` changes nothing."
        require(self.parts, "parts", "have at least one map", words="none", cure=cure)
        for part in self.parts:
            check_rotary("parts", part)

    @property
    def dynamic(self) -> bool:
        """Whether a part depends on the context length."""
        return any(part.dynamic for part in self.parts)

    def for_length(self, length: int | Num[Array, ""]) -> "Chain":
        """The parts in a context of `length` positions."""
        return Chain([part.for_length(length) for part in self.parts])

    def __call__(
        self, positions: Num[Positions, "seq *axes"], *, length: Length = None
    ) -> "Chained":
        """**Arguments:**

        - `positions`: as every part has them.
        - `length`: as in [`eqx_posemb.Rotary`][].

        **Returns:**

        The rotations of the parts as one.
        """
        chain = in_context(self, positions, length=length)
        # All parts read the same context length, which the chain finds once.
        return Chained(tuple(part(positions) for part in chain.parts))


Chain.__init__.__doc__ = """**Arguments:**

- `parts`: What to apply, in that order.

**Raises:** a `ValueError` if there is none.
"""


class Chained(AbstractRotation):
    """A [`eqx_posemb.rotations.Chain`][] at given positions."""

    parts: tuple[AbstractRotation, ...]

    @property
    def heads(self) -> int | None:
        """The number of heads of the part that has one."""
        return next((p.heads for p in self.parts if p.heads is not None), None)

    def queries(self, q: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Applies the parts to queries, in their order."""
        return self._apply("queries", q)

    def keys(self, k: Float[Array, "... dim"]) -> Float[Array, "... to"]:
        """Applies the parts to keys, in their order."""
        return self._apply("keys", k)

    def inverse(self) -> "Chained":
        """The inverses of the parts, in reverse order."""
        return Chained(tuple(part.inverse() for part in reversed(self.parts)))

    def _apply(self, name, x):
        for part in self.parts:
            turn = getattr(part, name)
            x = turn(x) if self.heads is None else each_head(turn, x, part.heads)
        return x
