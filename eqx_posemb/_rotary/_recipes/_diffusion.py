"""Rotary embeddings of images and videos beyond the size of training."""

from collections.abc import Sequence
from typing import Literal

from jaxtyping import Array, Real

from ..._checks import check_count, check_shape, require
from ..._frequencies import DyPE, Geometric, RIFLEx
from .._pairing import Layout, Pairing
from .._rotary import Rotary
from ._axes import axial, thirds


def riflex_rope(
    dim: int,
    *,
    pair: int,
    length: int,
    widths: Sequence[int] | None = None,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
) -> Rotary:
    r"""Rotates by frame, row and column, for videos longer than in training: RIFLEx.

    $$\alpha_{t, k} = 0.9\, \frac{2\pi}{L}\, t$$

    for the pair $k$ of the time $t$ and a video of $L$ = `length` frames of latents.
    The other pairs are as in [`eqx_posemb.axial_rope`][]. A pair that would begin a new
    turn, and so repeat the video, stays below one turn. It needs no training.
    [`eqx_posemb.frequencies.RIFLEx`][] says which pair it is.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        rope = pe.riflex_rope(  # HunyuanVideo, at twice its 33 frames
            128, pair=3, length=66, widths=(16, 56, 56), theta=256.0, pairing="adjacent"
        )
        rotation = rope(pe.positions.grid_positions((66, 2, 2)))
        ```

    **Arguments:**

    - `pair`: The pair of the time that is slowed down, from zero.
    - `length`: The number of frames to generate.
    - `widths`: The channels of time, rows and columns. By default rows and columns have
        a third of `dim` each, rounded down to pairs, as in Wan.
    - `dim`, `theta`, `pairing`: as in [`eqx_posemb.axial_rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][] over positions [seq, 3].

    **Raises:** a `ValueError` as [`eqx_posemb.axial_rope`][] and
    [`eqx_posemb.frequencies.RIFLEx`][].

    ??? cite "Reference"

        [RIFLEx: A Free Lunch for Length Extrapolation in Video Diffusion
        Transformers](https://arxiv.org/abs/2502.15894), Section 3.3.

        ```bibtex
        @inproceedings{zhao2025riflex,
            author={Zhao, Min and He, Guande and Chen, Yixiao and Zhu, Hongzhou and Li,
                    Chongxuan and Zhu, Jun},
            title={{RIFLEx}: A Free Lunch for Length Extrapolation in Video Diffusion
                   Transformers},
            booktitle={International Conference on Machine Learning},
            year={2025},
        }
        ```
    """
    widths = thirds(dim) if widths is None else widths
    time, *others = (Geometric(width, theta) for width in widths)
    return axial(dim, [RIFLEx(time, pair, length), *others], pairing)


def dype_rope(
    dim: int,
    *,
    factor: float | Sequence[float],
    time: float | Real[Array, ""] = 1.0,
    method: Literal["ntk", "yarn"] = "ntk",
    original_length: int | None = None,
    widths: Sequence[int] | None = None,
    theta: float = 10_000.0,
    pairing: Layout | Pairing = "halves",
) -> Rotary:
    r"""Rotates by row and column, for images larger than in training: DyPE.

    $$\alpha_{k, i} = p_k\, \theta^{-2i/d_k}\, s_k^{-2 t^2 i / (d_k / 2 - 1)}, \qquad
      i = 0, \dots, d_k / 2 - 1$$

    for the coordinate $p_k$ of $d_k$ channels, its scaling factor $s_k$, and the time
    $t$ of diffusion from 1, pure noise, to 0. Frequencies are scaled in early steps,
    which draw the whole. The last step has the trained frequencies. It needs no
    training. Build the embedding within the step: the time may be traced, and all steps
    share one program. [`eqx_posemb.frequencies.DyPE`][] has the formula of `"yarn"`.

    !!! Example

        ```python
        import jax
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.positions.grid_positions((8, 8))


        @jax.jit
        def step(q, time):
            rope = pe.dype_rope(64, factor=4.0, time=time)
            return rope(positions).queries(q)


        q = jnp.ones((64, 64))
        plain = pe.axial_rope(64)(positions).queries(q)
        assert jnp.allclose(step(q, 0.0), plain, atol=1e-5)
        ```

    **Arguments:**

    - `factor`: The size of the image over the size in training: a number for all
        coordinates, or one for each. One leaves a coordinate as it is.
    - `time`: The time of diffusion from 1, pure noise, to 0.
    - `method`: `"ntk"`, or `"yarn"` with an `original_length`.
    - `original_length`: The number of positions along an axis in training.
    - `dim`, `widths`, `theta`, `pairing`: as in [`eqx_posemb.axial_rope`][].

    **Returns:** a [`eqx_posemb.Rotary`][] over positions [seq, len(widths)].

    **Raises:** a `ValueError` if `factor` has not one number for each coordinate, and
    as [`eqx_posemb.axial_rope`][] and [`eqx_posemb.frequencies.DyPE`][].

    ??? cite "Reference"

        [DyPE: Dynamic Position Extrapolation for Ultra High Resolution
        Diffusion](https://arxiv.org/abs/2510.20766), Section 3.2, as in the authors'
        code.

        ```bibtex
        @misc{issachar2025dype,
            author={Issachar, Noam and Yariv, Guy and Benaim, Sagie and Adi, Yossi and
                    Lischinski, Dani and Fattal, Raanan},
            title={{DyPE}: Dynamic Position Extrapolation for Ultra High Resolution
                   Diffusion},
            howpublished={arXiv:2510.20766},
            year={2025},
        }
        ```
    """
    check_count("dim", dim, 2)
    widths = (dim // 2, dim // 2) if widths is None else check_shape("widths", widths)
    one = isinstance(factor, int | float)
    factors = (factor,) * len(widths) if one else tuple(factor)
    rule = f"be one number, or one for each of the {len(widths)} coordinates"
    require(len(factors) == len(widths), "factor", rule, factors)
    axes = list(zip(widths, factors, strict=True))
    # Equal axes share one schedule, which is evaluated once.
    schedules = {
        (width, each): DyPE(
            Geometric(width, theta), each, method, original_length
        ).for_time(time)
        for width, each in dict.fromkeys(axes)
    }
    return axial(dim, [schedules[axis] for axis in axes], pairing)
