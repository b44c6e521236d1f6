"""xPos: logits that decay with distance, by growing queries and shrinking keys."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._checks import as_number, check_even, check_finite, check_positive
from .._given import in_common, Positions
from .._module import Module
from .._phase import as_float


class XPosDecay(Module):
    r"""The growth of xPos, per pair of channels, in nepers.

    $$g_j(p) = \frac{p - c}{B} \ln \zeta_j, \qquad
      \zeta_j = \frac{2j + 0.4\, d}{1.4\, d}, \qquad j = 0, \dots, d/2 - 1$$

    for the position $p$, `scale_base` $B$, `center` $c$ and $d$ rotated channels
    (`dim`). Queries are multiplied by $e^{g(p)}$ and keys by $e^{-g(p)}$, so that their
    product has the factor $\zeta_j^{(p_q - p_k) / B} \le 1$ towards the past. Towards
    the *future* it grows: xPos is for causal attention only.

    The center cancels in every logit, and matters only for the range of numbers:
    float32 reaches about 36,000 positions from it, and float16 4,500.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        decay = pe.rotations.XPosDecay(dim=64, scale_base=512.0)
        rope = pe.Rotary(pe.frequencies.Geometric(dim=64), decay=decay)
        rotated = rope(jnp.arange(10)).keys(jnp.ones((10, 64)))
        ```
    """

    dim: int = eqx.field(static=True)
    scale_base: float = eqx.field(static=True, default=512.0, converter=as_number)
    center: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        check_even("dim", self.dim, "to be rotated in pairs")
        check_positive("scale_base", self.scale_base)
        check_finite("center", self.center)

    def __call__(self, positions: Num[Positions, " seq"]) -> Float[Array, "seq pairs"]:
        """**Arguments:**

        - `positions`: the positions of the tokens.

        **Returns:**

        The growth of queries, and the negated growth of keys, in nepers.
        """
        # Logarithms do not overflow. `Rotation` checks their range before it takes the
        # exponential.
        rates = as_float(jnp.asarray(log_zeta(self.dim) / self.scale_base))
        # Unsigned positions would wrap below the center.
        (positions,) = in_common(positions)
        return as_float(positions - self.center)[:, None] * rates[None]


XPosDecay.__init__.__doc__ = """**Arguments:**

- `dim`: The number of rotated channels.
- `scale_base`: How many positions it takes for pair `j` to fade by the factor `zeta_j`.
- `center`: The position at which queries and keys keep their size. One constant for a
    model: a center that moves with the length, as some implementations have it, makes
    cached keys wrong.

**Raises:** a `ValueError` if `dim` is odd or not positive, or if `scale_base` is not
positive.
"""


def log_zeta(dim: int) -> Float[np.ndarray, " pairs"]:
    """The logarithm of each pair's ζ."""
    return np.log((np.arange(0, dim, 2) + 0.4 * dim) / (1.4 * dim))
