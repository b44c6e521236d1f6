"""A penalty that grows linearly with distance."""

import math
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_at_least, check_choice
from .._phase import as_float
from ._abstract import AbstractRelativeBias


class ALiBi(AbstractRelativeBias):
    r"""Subtracts from each logit a multiple of the distance to the key.

    $$b_h(\delta) = m_h\, \delta \quad \text{(causal)}, \qquad
      b_h(\delta) = -m_h\, |\delta| \quad \text{(symmetric)}$$

    for the distance $\delta = p_k - p_q$ and a fixed slope $m_h$ for each head $h$:
    steep heads see near, shallow heads see far. No parameters, and of the methods here
    among the best beyond the trained length, since far keys fade whatever the length.
    The reverse of the coin: what is far is hard to retrieve.

    The slopes run geometrically from $2^{-8/H}$ to $2^{-8}$ for $H$ heads. For an $H$
    that is no power of two there are two conventions, and checkpoints need their own:

    - `"power_of_two"`: the slopes for the power of two below $H$, then every second one
        for twice that power. The authors' code, Bloom, MPT, Falcon.
    - `"geometric"`: $2^{-8h/H}$ for $h = 1, \dots, H$. The paper's text.

    The causal form rewards keys in the future; mask them. Bloom adds $m_h p_k$ alone,
    which is the same after the softmax.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        bias = pe.ALiBi(heads=8)
        assert bias.slopes[0] == 0.5
        assert bias(jnp.array([9]), jnp.arange(10))[0, 0, 0] == -4.5
        ```

    ??? cite "Reference"

        [Train Short, Test Long: Attention with Linear Biases Enables Input Length
        Extrapolation](https://arxiv.org/abs/2108.12409), Section 3; slopes as in the
        authors' code.

        ```bibtex
        @inproceedings{press2022train,
            author={Press, Ofir and Smith, Noah A. and Lewis, Mike},
            title={Train Short, Test Long: Attention with Linear Biases Enables Input
                   Length Extrapolation},
            booktitle={International Conference on Learning Representations},
            year={2022},
        }
        ```
    """

    heads: int = eqx.field(static=True)
    symmetric: bool = eqx.field(static=True, default=False)
    convention: Literal["power_of_two", "geometric"] = eqx.field(
        static=True, default="power_of_two"
    )

    def __check_init__(self):
        check_at_least("heads", self.heads, 1)
        check_choice("convention", self.convention, ("power_of_two", "geometric"))

    @property
    def slopes(self) -> tuple[float, ...]:
        """The slope of each head, in logits per unit of position."""
        if self.convention == "geometric":
            return _geometric_slopes(self.heads, self.heads)
        power = 2 ** math.floor(math.log2(self.heads))
        between = _geometric_slopes(2 * power, 2 * power)[::2]
        return _geometric_slopes(power, power) + between[: self.heads - power]

    def along(self, delta: Num[Array, " distances"]) -> Float[Array, "heads distances"]:
        """**Arguments:**

        - `delta`: distances, key minus query.

        **Returns:**

        What to add to the logits, in JAX's default float dtype.
        """
        delta = as_float(delta)
        slopes = jnp.array(self.slopes)[:, None]
        return slopes * (-jnp.abs(delta) if self.symmetric else delta)[None]


ALiBi.__init__.__doc__ = """**Arguments:**

- `heads`: The number of heads.
- `symmetric`: Whether the future is penalised as the past is, for encoders. By default
    the bias is for causal attention.
- `convention`: Which slopes to use if `heads` is no power of two.

**Raises:** a `ValueError` if `heads` is less than one or `convention` is unknown.
"""


def _geometric_slopes(heads: int, count: int) -> tuple[float, ...]:
    return tuple(2 ** (-8 * (h + 1) / heads) for h in range(count))
