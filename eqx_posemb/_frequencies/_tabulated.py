"""A schedule as arrays, for scanned layers with different frequencies."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from .._phase import Turns
from ._base import AbstractFrequencies, AbstractStaticFrequencies, check_schedule


class Tabulated(AbstractFrequencies):
    r"""The exact frequencies of a schedule as arrays, for scanned layers.

    $$\omega_i \mapsto \omega_i$$

    Settings are static in this library, so two layers with different `theta` are two
    programs. Under one `jax.lax.scan` over layers, such as Gemma 3 with a local and a
    global `theta`, varying settings must be arrays. Wrap each schedule in this class,
    and stack the modules. The arrays are integers, so optimizers ignore them.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        ropes = [
            pe.Rotary(
                pe.frequencies.Tabulated(pe.frequencies.Geometric(dim=64, theta=theta))
            )
            for theta in (10_000.0, 1_000_000.0)
        ]
        stacked = jax.tree.map(lambda *words: jnp.stack(words), *ropes)
        positions, q = jnp.arange(10), jnp.ones((10, 64))


        def layer(q, rope):
            return rope(positions).queries(q), None


        q, _ = jax.lax.scan(layer, q, stacked)
        ```
    """

    # Words are unsigned integers, so gradients and optimizers skip them.
    words: Turns

    def __init__(self, base: AbstractStaticFrequencies):
        """**Arguments:**

        - `base`: The schedule to hold.

        **Raises:** a `ValueError` if `base` is no static schedule.
        """
        check_schedule("base", base)
        self.words = jax.tree.map(jnp.asarray, base.turns())

    @property
    def pairs(self) -> int:
        """The number of frequencies."""
        return self.words.low.shape[-1]

    def turns(self) -> Turns:
        """The frequencies in turns per unit of position, as 64-bit fixed point."""
        return self.words

    def __call__(self) -> Float[Array, " half"]:
        """The frequencies, in radians per unit of position."""
        return self.words.radians()
