"""Positions of pixels in images that are padded to a common size."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Num

from .._checks import require


def detr_positions(
    mask: Bool[Array, "height width"],
    *,
    normalized: bool = True,
    centered: bool = False,
    scale: float = 2 * math.pi,
) -> Num[Array, "seq 2"]:
    r"""Positions of pixels in padded images (DETR), Carion et al. 2020.

    Pixels are counted from one, and scaled by the size of the image:

    $$p = n \quad \text{or} \quad p = \frac{n - c}{N + 10^{-6}}\, S$$

    for the number $n$ of pixels of the image up to and including a pixel, and the
    number $N$ of all pixels. Both are counted along a column for the first coordinate,
    and along a row for the second. $c$ is $1/2$ if centered and 0 otherwise, and $S$ is
    `scale`. Padding beside the image has positions without a meaning, as in DETR. Use
    them with `eqx_posemb.SinusoidalGrid(dim, layout="detr")`.

    In DETR no pixel is at zero, and the last pixel is at $S$. Deformable DETR is
    centered.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        image = jnp.ones((2, 3), bool)
        counted = pe.positions.detr_positions(image, normalized=False)
        assert (counted == pe.positions.grid_positions((2, 3)) + 1).all()
        encoding = pe.SinusoidalGrid(64, layout="detr")
        assert encoding(pe.positions.detr_positions(image)).shape == (6, 64)
        ```

    **Arguments:**

    - `mask`: True where the image is, False where it is padded.
    - `normalized`: whether to divide by the size, as the released models do.
    - `centered`: whether to count centers of pixels instead of their far edges.
    - `scale`: what the far edge of the image is at.

    **Returns:** positions, row by row; int32 if not normalized, and else in JAX's
    default float dtype.

    **Raises:** a `ValueError` if `centered` is set for positions that are not
    normalized, or if `mask` has not two axes.
    """
    rule = "be False where `normalized` is, as no model has half pixels"
    cure = "Subtract a half from the positions."
    require(not centered or normalized, "centered", rule, True, cure)
    rule = "have shape [height, width], to count along both"
    require(mask.ndim == 2, "mask", rule, mask.shape, "Use `jax.vmap` over a batch.")
    counts = [jnp.cumsum(mask, axis=axis, dtype=jnp.int32) for axis in (0, 1)]
    if normalized:
        along = [jnp.asarray(n, jnp.result_type(float)) for n in counts]
        ends = along[0][-1:, :], along[1][:, -1:]
        shift = 0.5 if centered else 0.0
        counts = [
            # DETR adds 1e-6, which keeps columns without pixels finite.
            (n - shift) / (jnp.broadcast_to(end, n.shape) + 1e-6) * scale
            for n, end in zip(along, ends, strict=True)
        ]
    return jnp.stack(counts, axis=-1).reshape(-1, 2)
