"""Trained frequencies."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from .._checks import described, require
from .._phase import as_float
from ._base import AbstractFrequencies


class LearnedFrequencies(AbstractFrequencies):
    r"""Learned frequencies, for all heads or for each head.

    $$\omega_i = w_i, \qquad \omega_{h, i} = w_{h, i}$$

    in radians per unit of position, for the `weight` $w$ and head $h$. RoPE-Mixed,
    LightGlue and Mochi use it for images, where positions are few and small. Start from
    another schedule, or from directions as [`eqx_posemb.mixed_rope`][] does.

    Angles are float32 products, which are off by about `6e-8 * position * frequency`,
    as in other libraries. Use a static schedule for far positions.

    !!! Example

        ```python
        import eqx_posemb as pe

        learned = pe.frequencies.LearnedFrequencies(pe.frequencies.Geometric(dim=64)())
        rope = pe.Rotary(learned)
        ```
    """

    # The weight is a leaf and therefore trained, unlike the frequencies of static
    # schedules.
    weight: Float[Array, "*heads half"]

    def __init__(self, weight: Float[Array | np.ndarray, "*heads half"]):
        """**Arguments:**

        - `weight`: What to start from, in radians per unit of position: `[half]`, or
            `[heads, half]` for frequencies of each head.

        **Raises:** a `ValueError` if `weight` is no array or has another shape.
        """
        # A schedule in place of its values is a likely mistake, so it has its own cure.
        if isinstance(weight, AbstractFrequencies):
            raise ValueError(
                f"`weight` must be an array, but got {described(weight)}. Call the "
                "schedule for its frequencies: `LearnedFrequencies(schedule())`."
            )
        cure = "Use `jnp.array`."
        require(hasattr(weight, "ndim"), "weight", "be an array", weight, cure)
        if weight.ndim not in (1, 2) or 0 in weight.shape:
            raise ValueError(
                "`weight` must have shape [half] or [heads, half], but got "
                f"{weight.shape}."
            )
        self.weight = jnp.asarray(weight, jnp.result_type(float))

    @property
    def pairs(self) -> int:
        """The number of frequencies of a head."""
        return self.weight.shape[-1]

    def turns(self) -> Float[Array, "*heads half"]:
        """The frequencies, in radians per unit of position, in at least float32."""
        return as_float(self.weight)

    def __call__(self) -> Float[Array, "*heads half"]:
        """The frequencies, in radians per unit of position."""
        return self.weight
