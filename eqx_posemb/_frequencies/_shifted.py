"""Frequencies with a trained shift of their logarithm."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._checks import require
from .._phase import as_float
from .._state_dicts import array
from ._base import AbstractFrequencies, check_schedule


class LogShifted(AbstractFrequencies):
    r"""Learned factors of frequencies (LeRoPE), as in Mistral Large 4.

    $$\omega_i \mapsto \omega_i\, e^{\alpha_i}$$

    for the `weight` $\alpha$, which starts at zero. Frequencies stay positive for every
    weight, and weight decay pulls them towards the schedule `base`. Mistral Large 4
    trains it on top of YaRN, with one weight for all layers. The commuting form of
    GRAPE-M (Zhang et al., 2025) trains the same frequencies on top of
    [`eqx_posemb.frequencies.Geometric`][].

    Angles are float32 products, which are off by about `6e-8 * position * frequency`.
    [`eqx_posemb.frequencies.LearnedFrequencies`][] trains the frequencies themselves.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.frequencies.Geometric(dim=64)
        rope = pe.Rotary(pe.frequencies.LogShifted(base))
        ```

    **Source:** the code of Mistral Large 4 in transformers, which calls it LeRoPE;
    [Group Representational Position Encoding](https://arxiv.org/abs/2512.07805),
    Section 3.1.
    """

    base: AbstractFrequencies
    # Zeros leave `base` unchanged, so weight decay pulls frequencies towards the
    # schedule.
    weight: Float[Array, " half"]

    def __init__(
        self,
        base: AbstractFrequencies,
        weight: Float[Array | np.ndarray, " half"] | None = None,
    ):
        """**Arguments:**

        - `base`: The schedule to shift.
        - `weight`: What to start from, [half]; by default zeros.

        **Raises:** a `ValueError` if `base` is no schedule, or `weight` has another
        shape than its frequencies.
        """
        check_schedule("base", base, AbstractFrequencies)
        weight = jnp.zeros(base.pairs) if weight is None else weight
        rule = f"have a number for each of the {base.pairs} frequencies of `base`"
        require(getattr(weight, "shape", None) == (base.pairs,), "weight", rule, weight)
        self.base = base
        self.weight = jnp.asarray(weight, jnp.result_type(float))

    @classmethod
    def from_state_dict(
        cls,
        state: Mapping[str, Any],
        base: AbstractFrequencies,
        *,
        prefix: str = "",
    ) -> "LogShifted":
        """Builds a [`eqx_posemb.frequencies.LogShifted`][] with the weights of a
        checkpoint.

        This name must be there, after `prefix` (`model.rotary_emb.` in transformers):

        - `alpha`, [half].

        !!! Example

            ```python
            import numpy as np
            import eqx_posemb as pe

            base = pe.frequencies.Geometric(dim=4)
            state = {"rotary_emb.alpha": np.zeros(2)}
            made = pe.frequencies.LogShifted.from_state_dict(
                state, base, prefix="rotary_emb."
            )
            assert np.allclose(made(), [1.0, 0.01])
            ```

        **Arguments:**

        - `state`: arrays by name, of NumPy or anything that it understands.
        - `base`: the schedule to shift.
        - `prefix`: what comes before the name.

        **Returns:** the schedule, with weights in JAX's default float dtype.

        **Raises:** a `ValueError` if the name is missing or the array does not fit.
        """
        return cls(base, array(state, f"{prefix}alpha"))

    @property
    def pairs(self) -> int:
        """The number of frequencies, which equals the number of `base`."""
        return self.base.pairs

    @property
    def dynamic(self) -> bool:
        """Whether `base` depends on the context length."""
        return self.base.dynamic

    def for_length(self, length: int | Num[Array, ""]) -> "LogShifted":
        """The same with `base` in a context of `length` positions."""
        return LogShifted(self.base.for_length(length), self.weight)

    @property
    def unscaled(self) -> AbstractFrequencies:
        """The schedule `base` before any scaling."""
        return self.base.unscaled

    @property
    def scaling_factor(self) -> float:
        """The scaling factor of `base`."""
        return self.base.scaling_factor

    def turns(self) -> Float[Array, " half"]:
        """The frequencies, in radians per unit of position, in at least float32."""
        # An exponential keeps frequencies positive for every weight.
        return jnp.asarray(self.base(), jnp.result_type(float)) * jnp.exp(
            as_float(self.weight)
        )

    def __call__(self) -> Float[Array, " half"]:
        """The frequencies, in radians per unit of position."""
        return self.turns()
