"""A schedule of the frames of videos that are longer than in training."""

from decimal import Decimal

import equinox as eqx
import numpy as np
from jaxtyping import Shaped

from .._checks import as_number, check_between, check_count, check_positive
from .._phase import TWO_PI
from ._base import (
    AbstractDerivedFrequencies,
    AbstractStaticFrequencies,
    check_schedule,
    evaluated_once,
)


class RIFLEx(AbstractDerivedFrequencies):
    r"""RIFLEx, Zhao et al. 2025: slows the one pair whose period is too short.

    A video longer than in training repeats itself when the pair that stands for its
    whole length begins a new turn. RIFLEx gives this pair a longer period, and keeps
    the others:

    $$\omega_k \mapsto r\, \frac{2\pi}{L}$$

    for the pair $k$, the number of frames $L$ = `length` and $r$ = `turns_in_length`,
    which is 0.9 in the authors' code. It needs no training, and doubles the length of a
    video. A frame is a frame of latents.

    The pair is the one whose period is nearest to the frame at which videos first
    repeat. Counted from zero, it is 3 in HunyuanVideo and 1 in CogVideoX, by the
    authors' code.

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        time = pe.frequencies.Geometric(16, theta=256.0)  # HunyuanVideo
        pair = int(abs(2 * np.pi / time() - 48).argmin())  # The video repeats at 48.
        longer = pe.frequencies.RIFLEx(time, pair=pair, length=66)
        assert pair == 3 and longer()[3] < time()[3]
        ```

    ??? cite "Reference"

        [RIFLEx: A Free Lunch for Length Extrapolation in Video Diffusion
        Transformers](https://arxiv.org/abs/2502.15894), Section 3.3.
    """

    base: AbstractStaticFrequencies
    # The index of the pair whose period is near the length of training.
    pair: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    turns_in_length: float = eqx.field(static=True, default=0.9, converter=as_number)

    def __check_init__(self):
        check_schedule("base", self.base)
        check_count("pair", self.pair, 0)
        check_count("length", self.length, 1)
        check_positive("turns_in_length", self.turns_in_length)
        check_between("pair", self.pair, 0, self.pairs - 1, "the last pair of `base`")
        # A pair that turned faster than before would repeat within the video.
        if self.scaling_factor < self.base.scaling_factor:
            raise ValueError(
                f"`length` must be long enough for the period of pair {self.pair} to "
                f"grow, but got {self.length} frames. Use the base for short videos."
            )

    @evaluated_once
    def exact(self) -> Shaped[np.ndarray, " half"]:
        """The frequencies in radians per unit of position, as `decimal.Decimal`."""
        # The base shares its array with every caller, so a copy is changed.
        frequencies = self.base.exact().copy()
        frequencies[self.pair] = self._slower()
        return frequencies

    @property
    def unscaled(self) -> AbstractStaticFrequencies:
        """The schedule of training."""
        return self.base.unscaled

    @property
    def scaling_factor(self) -> float:
        """How many times slower the pair turns, times the factor of `base`."""
        slower = float(self.base.exact()[self.pair] / self._slower())
        return slower * self.base.scaling_factor

    def _slower(self):
        # Decimals keep the angle exact at every frame.
        return Decimal(self.turns_in_length) * TWO_PI / self.length


RIFLEx.__init__.__doc__ = """**Arguments:**

- `base`: The frequencies of the frames.
- `pair`: The pair to slow down, from zero.
- `length`: The number of frames of latents to generate.
- `turns_in_length`: How far the pair turns over the video, in turns.

**Raises:** a `ValueError` if `pair` is none of `base`, if `length` is so short that the
pair would turn faster, or if `turns_in_length` is not positive.
"""
