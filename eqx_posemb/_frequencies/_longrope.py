"""Dividing every frequency by a number of its own, found by search."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from .._checks import check_positive
from .._phase import as_float, decimals, Turns
from ._base import AbstractFrequencies, AbstractStaticFrequencies, Length


class Divided(AbstractStaticFrequencies):
    r"""Divides each frequency by its own divisor.

    $$\omega_i \mapsto \omega_i / \lambda_i$$

    for the $\lambda$ given by `divisors`. The part that
    [`eqx_posemb.LongRoPEFrequencies`][] is made of, twice.

    !!! Example

        ```python
        import eqx_posemb as pe

        schedule = pe.Divided(pe.Geometric(dim=4), divisors=(1.0, 4.0))
        assert list(schedule()) == [1.0, 0.0025]
        ```
    """

    base: AbstractStaticFrequencies
    divisors: tuple[float, ...] = eqx.field(
        static=True, converter=lambda values: tuple(float(value) for value in values)
    )

    def __check_init__(self):
        half = len(self.base())
        if len(self.divisors) != half:
            raise ValueError(
                f"`divisors` must have one number per frequency, {half}, but got "
                f"{len(self.divisors)}."
            )
        if not all(0 < value < math.inf for value in self.divisors):
            raise ValueError(
                f"`divisors` must be positive and finite, but got {self.divisors}."
            )

    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        return self.base.exact() / decimals(self.divisors)


Divided.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies to divide.
- `divisors`: A positive number for each.

**Raises:** a `ValueError` if there are not as many divisors as frequencies, or if one
is not positive.
"""


class LongRoPEFrequencies(AbstractFrequencies):
    r"""Has one schedule up to the original length, and another one beyond it.

    $$\omega_i(L) = \begin{cases} \omega_i^\text{short} & L \le L_0 \\
                                  \omega_i^\text{long}  & L > L_0 \end{cases}$$

    for a context of $L$ positions now (`length`) and $L_0$ in training
    (`original_length`). Both are exact, and the switch is a select, so that `length`
    may be traced. Keys rotated before the switch do not fit queries rotated after it:
    where a KV-cache may cross $L_0$, fix `length` ahead, or use `long` throughout.

    !!! Example

        ```python
        import eqx_posemb as pe

        base = pe.Geometric(dim=4)
        schedule = pe.LongRoPEFrequencies(base, pe.Linear(base, 4.0), original_length=8)
        assert float(schedule(length=8)[0]) == 1.0
        assert float(schedule(length=9)[0]) == 0.25
        ```

    ??? cite "Reference"

        [LongRoPE: Extending LLM Context Window Beyond 2 Million
        Tokens](https://arxiv.org/abs/2402.13753), Section 3, as released with Phi-3:
        the paper's first few positions that stay as they were are in no released model,
        and are not here.

        ```bibtex
        @inproceedings{ding2024longrope,
            author={Ding, Yiran and Zhang, Li Lyna and Zhang, Chengruidong and Xu,
                    Yuanyuan and Shang, Ning and Xu, Jiahang and Yang, Fan and Yang,
                    Mao},
            title={{LongRoPE}: Extending {LLM} Context Window Beyond 2 Million Tokens},
            booktitle={International Conference on Machine Learning},
            year={2024},
        }
        ```
    """

    short: AbstractStaticFrequencies
    long: AbstractStaticFrequencies
    original_length: int = eqx.field(static=True)

    def __check_init__(self):
        check_positive("original_length", self.original_length)
        counts = len(self.short()), len(self.long())
        if counts[0] != counts[1]:
            raise ValueError(
                "`short` and `long` must have as many frequencies, but got "
                f"{counts[0]} and {counts[1]}."
            )

    def turns(self, length: Length = None) -> Turns:
        """The frequencies in turns per unit of position, as 64-bit fixed point."""
        return self._switch(self.short.turns(), self.long.turns(), length)

    def __call__(self, length: Length = None) -> Float[Array, " half"]:
        """**Arguments:**

        - `length`: one more than the largest position in use. None stands for
            `original_length`.

        **Returns:**

        The frequencies, in radians per unit of position.
        """
        return self._switch(
            as_float(jnp.asarray(self.short())),
            as_float(jnp.asarray(self.long())),
            length,
        )

    def _switch(self, short, long, length):
        if length is None:
            return short
        use_long = length > self.original_length
        return jax.tree.map(lambda s, l: jnp.where(use_long, l, s), short, long)


LongRoPEFrequencies.__init__.__doc__ = """**Arguments:**

- `short`: The frequencies for lengths up to `original_length`.
- `long`: The frequencies beyond.
- `original_length`: The context length, in positions, of training.

**Raises:** a `ValueError` if `original_length` is not positive, or if `short` and
`long` have different numbers of frequencies.
"""
