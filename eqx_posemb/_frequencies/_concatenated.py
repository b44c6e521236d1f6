"""Several schedules as one, for coordinates that differ in width or unit."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._checks import require
from .._phase import Frequencies, Turns
from ._base import AbstractFrequencies, check_schedule


class Concatenated(AbstractFrequencies):
    r"""Several schedules as one, for the coordinates of a grid or a video.

    $$\omega = (\omega^{(1)}, \dots, \omega^{(n)})$$

    It gives each coordinate its own schedule, such as time, height and width of a
    video. [`eqx_posemb.axes.Sections`][] assigns the parts to the coordinates, as
    [`eqx_posemb.axial_rope`][] does. To extend one axis, scale its part.

    !!! Example

        ```python
        import eqx_posemb as pe

        parts = (
            pe.frequencies.Geometric(dim=16),
            pe.frequencies.Geometric(dim=24),
            pe.frequencies.Geometric(dim=24),
        )
        video = pe.Rotary(
            pe.frequencies.Concatenated(parts), axes=pe.axes.Sections((8, 12, 12))
        )
        assert video.dim == 64
        ```
    """

    # The field is no static one, since a part may be learned.
    parts: tuple[AbstractFrequencies, ...] = eqx.field(converter=tuple)

    def __check_init__(self):
        require(self.parts, "parts", "have at least one schedule", words="none")
        for part in self.parts:
            check_schedule("parts", part, AbstractFrequencies)

    @property
    def pairs(self) -> int:
        """The number of frequencies of all parts together."""
        return sum(part.pairs for part in self.parts)

    @property
    def dynamic(self) -> bool:
        """Whether a part depends on the context length."""
        return any(part.dynamic for part in self.parts)

    @property
    def unscaled(self) -> "Concatenated":
        """The parts before any scaling."""
        return Concatenated([part.unscaled for part in self.parts])

    @property
    def scaling_factor(self) -> float:
        """The largest scaling factor of the parts."""
        return max(part.scaling_factor for part in self.parts)

    def for_length(self, length: int | Num[Array, ""]) -> "Concatenated":
        """The parts in a context of `length` positions."""
        return Concatenated([part.for_length(length) for part in self.parts])

    def turns(self) -> Frequencies:
        """The frequencies of all parts, exact if every part is exact."""
        parts = [part.turns() for part in self.parts]
        if all(isinstance(part, Turns) for part in parts):
            # NumPy keeps static parts on the host, where they become constants of the
            # program.
            traced = any(isinstance(x, jax.Array) for x in jax.tree.leaves(parts))
            join = jnp.concatenate if traced else np.concatenate
            return jax.tree.map(lambda *words: join(words), *parts)
        # A float part makes all angles float products, since one table has one kind of
        # frequency.
        return jnp.concatenate(
            [part.radians() if isinstance(part, Turns) else part for part in parts]
        )

    def __call__(self) -> Float[Array, " half"] | Float[np.ndarray, " half"]:
        """The frequencies, in radians per unit of position."""
        parts = [part() for part in self.parts]
        if all(isinstance(part, np.ndarray) for part in parts):
            return np.concatenate(parts)
        return jnp.concatenate([jnp.asarray(p, jnp.result_type(float)) for p in parts])


Concatenated.__init__.__doc__ = """**Arguments:**

- `parts`: The schedules.

**Raises:** a `ValueError` if there is none.
"""
