"""Sines and cosines of coordinates at fixed frequencies, for points in a box."""

import decimal
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from .._checks import check_choice, check_count, check_even, check_positive, require
from .._given import as_positions, check_grid
from .._phase import as_float, cos_sin, HOST_PRECISION, Turns, TWO_PI
from ._abstract import AbstractEncoding


class Fourier(AbstractEncoding):
    r"""Fourier features of Perceiver, Jaegle et al. 2021.

    They encode points of the box from −1 to 1 at every scale down to a resolution:

    $$e(p) = \big(p_1, \dots, p_n,\; \sin \pi f_{11} p_1, \sin \pi f_{12} p_1, \dots,
      \sin \pi f_{nK} p_n,\; \cos \pi f_{11} p_1, \dots\big)$$

    for a coordinate $p_a$ between −1 and 1 and $K$ frequencies $f_{a1}, \dots, f_{aK}$
    from 1 to $r_a / 2$. The lowest frequency covers the whole box, and the highest is
    the Nyquist frequency of a grid of $r_a$ points. Perceiver spaces frequencies
    evenly. In NeRF each frequency is twice the frequency before, with $r_a = 2^K$.

    Perceiver concatenates this encoding with the bytes or pixels. To add it to tokens,
    choose `bands` and `include_positions` so that the channels match. NeRF orders the
    channels by frequency, and its code omits the factor $\pi$.

    Perceiver spreads its points from corner to corner, `jnp.linspace(-1, 1, n)` along
    an axis. Other models take the centers of cells.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        encoding = pe.Fourier(bands=6, resolution=(32, 32))
        points = jnp.array([[-1.0, -1.0], [0.0, 0.5]])
        assert encoding(points).shape == (2, 2 + 2 * 2 * 6)
        ```

    ??? cite "Reference"

        [Perceiver: General Perception with Iterative
        Attention](https://arxiv.org/abs/2103.03206), Section 3.2.

        ```bibtex
        @inproceedings{jaegle2021perceiver,
            author={Jaegle, Andrew and Gimeno, Felix and Brock, Andrew and Zisserman,
                    Andrew and Vinyals, Oriol and Carreira, Joao},
            title={Perceiver: General Perception with Iterative Attention},
            booktitle={International Conference on Machine Learning},
            year={2021},
        }
        ```
    """

    bands: int = eqx.field(static=True)
    resolution: tuple[float, ...] = eqx.field(
        static=True, converter=lambda sizes: tuple(map(float, sizes))
    )
    spacing: Literal["linear", "geometric"] = eqx.field(static=True, default="linear")
    include_positions: bool = eqx.field(static=True, default=True)

    def __check_init__(self):
        check_count("bands", self.bands, 1)
        check_choice("spacing", self.spacing, ("linear", "geometric"))
        rule = "have a number for each axis"
        require(self.resolution, "resolution", rule, words="none")
        for size in self.resolution:
            check_positive("resolution", size)

    @property
    def dim(self) -> int:
        """The number of channels."""
        return len(self.resolution) * (2 * self.bands + self.include_positions)

    @jax.named_scope("eqx_posemb.Fourier")
    def __call__(self, positions: Num[Array, "seq axes"]) -> Float[Array, "seq dim"]:
        """**Arguments:**

        - `positions`: the coordinates of the points, between −1 and 1.

        **Returns:**

        What to add to, or to concatenate with, the tokens, in JAX's default float
        dtype.

        **Raises:** a `ValueError` if positions have another number of axes.
        """
        check_grid("positions", positions, len(self.resolution))
        waves = [
            cos_sin(positions[:, axis], self._turns(size))
            for axis, size in enumerate(self.resolution)
        ]
        parts = [sin for _, sin in waves] + [cos for cos, _ in waves]
        if self.include_positions:
            # Perceiver has the coordinates before the sines.
            parts.insert(0, as_float(as_positions(positions)))
        return jnp.concatenate(parts, axis=-1)

    def _turns(self, size):
        with decimal.localcontext(HOST_PRECISION):
            # A single band would divide by zero.
            last = Decimal(max(self.bands - 1, 1))
            along = [Decimal(band) / last for band in range(self.bands)]
            highest = Decimal(size) / 2
            if self.spacing == "linear":
                frequencies = [1 + (highest - 1) * step for step in along]
            else:
                frequencies = [highest**step for step in along]
            radians = [frequency * TWO_PI / 2 for frequency in frequencies]
            return Turns.from_radians(np.array(radians, dtype=object))


Fourier.__init__.__doc__ = """**Arguments:**

- `bands`: The number of frequencies of each axis.
- `resolution`: For each axis, the number of points to distinguish.
- `spacing`: `"linear"`, as in Perceiver, or `"geometric"`.
- `include_positions`: Whether the coordinates themselves come first.

**Raises:** a `ValueError` if `bands` or a resolution is not positive, if there is no
axis, or `spacing` is unknown.
"""


class GaussianFourier(AbstractEncoding):
    r"""Gaussian Fourier features (SAM), Tancik et al. 2020.

    They encode points by cosines and sines along fixed random directions:

    $$e(p) = (\sin 2\pi G^\top p, \; \cos 2\pi G^\top p), \qquad
      G_{am} \sim \mathcal{N}(0, \sigma^2)$$

    for the coordinates $p$ and a matrix $G$ of $d/2$ columns. [`eqx_posemb.Fourier`][]
    encodes each axis separately, and so favors the axes. Random directions favor none.
    A larger $\sigma$ (`scale`) distinguishes nearer points, and relates far points
    less. SAM encodes points, corners of boxes and pixels with it.

    $G$ is not trained: it follows from `seed`, or is given as `matrix`, for a
    checkpoint that has one. SAM's points are between −1 and 1, pixels at their centers,
    and have the *column* first, so that the rows of its matrix change places:

    !!! Example

        ```python
        import numpy as np
        import eqx_posemb as pe

        buffer = np.ones((2, 128))  # prompt_encoder.pe_layer's, of a checkpoint
        encoding = pe.GaussianFourier(256, matrix=buffer[::-1])
        points = (2 * pe.positions.grid_positions((64, 64)) + 1) / 64 - 1
        assert encoding(points).shape == (4096, 256)
        ```

    Products of positions and frequencies are rounded to the float dtype, so keep
    positions small.

    ??? cite "Reference"

        [Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
        Domains](https://arxiv.org/abs/2006.10739), Section 5; sines come first as in
        SAM's code, and the paper starts with cosines.

        ```bibtex
        @inproceedings{tancik2020fourier,
            author={Tancik, Matthew and Srinivasan, Pratul P. and Mildenhall, Ben and
                    Fridovich-Keil, Sara and Raghavan, Nithin and Singhal, Utkarsh and
                    Ramamoorthi, Ravi and Barron, Jonathan T. and Ng, Ren},
            title={Fourier Features Let Networks Learn High Frequency Functions in Low
                   Dimensional Domains},
            booktitle={Advances in Neural Information Processing Systems},
            year={2020},
        }
        ```
    """

    dim: int = eqx.field(static=True)
    axes: int = eqx.field(static=True)
    scale: float = eqx.field(static=True)
    # A seed in place of an array keeps the matrix out of the leaves.
    seed: int = eqx.field(static=True)
    # Tuples are static, so no optimizer trains the matrix of a checkpoint.
    given: tuple[tuple[float, ...], ...] | None = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        axes: int = 2,
        scale: float = 1.0,
        seed: int = 0,
        matrix: Sequence[Sequence[float]]
        | Float[np.ndarray, "axes half"]
        | None = None,
    ):
        """**Arguments:**

        - `dim`: The number of channels of a token.
        - `axes`: The number of coordinates of a position.
        - `scale`: The standard deviation of the frequencies, in turns per unit of
            position.
        - `seed`: The seed of the random matrix, which is the same on every machine.
        - `matrix`: Replaces the random matrix. Each axis has `dim / 2` frequencies, in
            turns per unit of position.

        **Raises:** a `ValueError` if `dim` is odd or not positive, if `axes` or `scale`
        is not positive, or if `matrix` has another shape.
        """
        check_even("dim", dim, "for every sine to have its cosine")
        check_count("axes", axes, 1)
        check_positive("scale", scale)
        check_count("seed", seed, 0)
        if matrix is not None and np.shape(matrix) != (axes, dim // 2):
            raise ValueError(
                f"`matrix` must have shape [axes, dim / 2], ({axes}, {dim // 2}), but "
                f"got {np.shape(matrix)}."
            )
        self.dim = dim
        self.axes = axes
        self.scale = float(scale)
        self.seed = seed
        self.given = (
            None
            if matrix is None
            else tuple(tuple(float(wave) for wave in row) for row in matrix)
        )

    @property
    def matrix(self) -> Float[np.ndarray, "axes half"]:
        """The frequencies of each axis, in turns per unit of position, are float64."""
        if self.given is not None:
            return np.array(self.given)
        # NumPy guarantees that the stream of this generator never changes.
        stream = np.random.RandomState(self.seed)
        return self.scale * stream.standard_normal((self.axes, self.dim // 2))

    @jax.named_scope("eqx_posemb.GaussianFourier")
    def __call__(
        self, positions: Num[Array, "seq {self.axes}"]
    ) -> Float[Array, "seq {self.dim}"]:
        """**Arguments:**

        - `positions`: the coordinates of the points, integers or floats.

        **Returns:**

        What to add to the tokens, in JAX's default float dtype.

        **Raises:** a `ValueError` if positions have another number of axes.
        """
        check_grid("positions", positions, self.axes)
        points = as_float(as_positions(positions))
        waves = jnp.asarray(self.matrix, points.dtype)
        turns = jnp.matmul(points, waves, precision="highest")
        # Whole turns are removed before the angle is rounded.
        angles = 2 * np.pi * (turns - jnp.round(turns))
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
