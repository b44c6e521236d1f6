"""Positions of patches in vision transformers."""

import math
from collections.abc import Sequence
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Num

from .._checks import check_choice, check_count, check_positive, is_integer, require
from .._given import as_positions, check_array, cure_for_axes
from .._phase import as_float
from .._sharding import compiler_sharded
from ._grid import grid_positions


def merged_patch_positions(
    height: int, width: int, merge: int = 2
) -> Int[Array, "seq 2"]:
    """Lists the patches of an image block by block, as they will be merged.

    Some models, such as Qwen2-VL, merge `merge * merge` neighboring patches into one
    token, and keep the patches of a block together. The coordinates equal
    [`eqx_posemb.positions.grid_positions`][] in another order.

    !!! Example

        ```python
        import eqx_posemb as pe

        first_block = pe.positions.merged_patch_positions(4, 4, merge=2)[:4]
        assert first_block.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
        ```

    **Arguments:**

    - `height`, `width`: the number of patches along each side: multiples of `merge`.
    - `merge`: the number of patches along a side of a block.

    **Returns:** row and column of each patch, int32. A video has the same for every
    frame.

    **Raises:** a `ValueError` if `merge` does not divide `height` and `width`.
    """
    check_count("merge", merge, 1)
    check_count("height", height, 0)
    check_count("width", width, 0)
    if height % merge or width % merge:
        raise ValueError(
            f"`height` and `width` must be multiples of `merge`, {merge}, but got "
            f"{height} and {width}. Pad or resize the image."
        )
    # Patches that are merged into one token come one after the other, as models
    # read them.
    cells = grid_positions((height, width)).reshape(
        height // merge, merge, width // merge, merge, 2
    )
    return cells.transpose(0, 2, 1, 3, 4).reshape(-1, 2)


def centered_positions(shape: Sequence[int]) -> Int[Array, "seq axes"]:
    """Counts the cells of a grid from its middle.

    Images of different sizes then share their middle and not a corner. Text may start
    where the largest image ends, as in Qwen-Image.

    !!! Example

        ```python
        import eqx_posemb as pe

        assert pe.positions.centered_positions((1, 4))[:, 1].tolist() == [-2, -1, 0, 1]
        ```

    **Arguments:**

    - `shape`: the size of the grid along each axis.

    **Returns:** positions, int32, from `-(n - n // 2)` to `n // 2 - 1` along an axis of
    `n` cells; the last axis of the grid varies fastest.

    **Raises:** as [`eqx_posemb.positions.grid_positions`][].
    """
    cells = grid_positions(shape)
    # Qwen-Image has the extra row of an odd size before the middle.
    middle = jnp.array([n - n // 2 for n in shape], jnp.int32)
    return cells - middle[None]


def normalized_positions(
    shape: Sequence[int],
    by: Literal["each", "largest", "smallest", "area"] = "each",
    anchor: Literal["center", "corner"] = "center",
) -> Float[Array, "seq axes"]:
    r"""The centers of the cells of a grid, between -1 and 1.

    $$c_k = \frac{2 j_k + 1 - n_k}{m_k}$$

    for the cell $j_k$ of $n_k$ along axis $k$, and $m_k$ that number itself, the
    largest or smallest of all, or their geometric mean. An image then has the same
    coordinates at every resolution. DINOv3 normalizes each axis and turns by
    `eqx_posemb.frequencies.Scaled(..., 2 * math.pi)`.

    Anchored at the corner, the image begins at -1 along each axis:

    $$c_k = \frac{2 j_k + 1}{m_k} - 1$$

    DINOv3's own code and timm count so with one size for all axes. Distances between
    patches are equal. Distances to tokens at zero, such as class tokens, are not.

    !!! Example

        ```python
        import eqx_posemb as pe

        columns = pe.positions.normalized_positions((1, 4))[:, 1]
        assert columns.tolist() == [-0.75, -0.25, 0.25, 0.75]
        ```

    **Arguments:**

    - `shape`: the size of the grid along each axis.
    - `by`: the divisor of coordinates. `"each"` divides by the size of the axis.
        `"largest"`, `"smallest"` and `"area"` use one size for all axes, which keeps
        the aspect ratio. `"area"` is the side of the square with as many cells, as in
        Mochi.
    - `anchor`: `"center"` has zero in the middle of the image, and `"corner"` has -1
        at its first corner.

    **Returns:** positions in JAX's default float dtype; the last axis of the grid
    varies fastest.

    **Raises:** a `ValueError` if `by` or `anchor` is unknown, and as
    [`eqx_posemb.positions.grid_positions`][].
    """
    check_choice("by", by, ("each", "largest", "smallest", "area"))
    check_choice("anchor", anchor, ("center", "corner"))
    cells = grid_positions(shape)
    shape = tuple(shape)
    sizes = {
        "each": shape,
        "largest": (max(shape),),
        "smallest": (min(shape),),
        "area": (math.prod(shape) ** (1 / len(shape)),),
    }[by]
    # The center is half of the divisor, or half of the axis.
    middle = sizes if anchor == "corner" else shape
    wide = jnp.result_type(float)
    # Twice a center is an integer, so few operations round.
    from_middle = (2 * cells + 1).astype(wide) - jnp.array(middle, wide)[None]
    return from_middle / jnp.array(sizes, wide)[None]


def resized_positions(
    shape: Sequence[int], onto: Sequence[float], *, whole: bool = False
) -> Num[Array, "seq axes"]:
    r"""Spreads the cells of a grid over a grid of another size.

    $$p_k = j_k\, \frac{m_k}{n_k}$$

    for the cell $j_k$ of $n_k$ along axis $k$ and $m_k$ cells in `onto`, the grid of
    training. A model then reads another resolution within the positions that it has
    seen: PixArt and EVA. Positions may be rounded down to whole cells, as in CogView 4.

    !!! Example

        ```python
        import eqx_posemb as pe

        rows = pe.positions.resized_positions((4, 1), onto=(2, 1))[:, 0]
        assert rows.tolist() == [0.0, 0.5, 1.0, 1.5]
        ```

    **Arguments:**

    - `shape`: the size of the grid along each axis.
    - `onto`: the size of the grid of training along each axis; integers if `whole`.
    - `whole`: whether to round down to whole cells.

    **Returns:** positions, int32 if they are whole, and else in JAX's default float
    dtype; the last axis of the grid varies fastest.

    **Raises:** a `ValueError` if `onto` has not one positive size for each axis, and as
    [`eqx_posemb.positions.grid_positions`][].
    """
    cells = grid_positions(shape)
    onto = tuple(onto)
    rule = f"have one size for each of the {cells.shape[1]} axes of the grid"
    require(len(onto) == cells.shape[1], "onto", rule, onto)
    for size in onto:
        check_positive("onto", size)
        rule = "be integers where `whole` is"
        require(not whole or is_integer(size), "onto", rule, onto)
    if whole:
        return cells * jnp.array(onto, jnp.int32)[None] // jnp.array(tuple(shape))[None]
    # An axis without cells has no positions to scale.
    scale = [m / max(n, 1) for n, m in zip(shape, onto, strict=True)]
    return as_float(cells) * jnp.array(scale, jnp.result_type(float))[None]


def zero_prefixed(
    positions: Num[Array, "seq axes"], count: int
) -> Num[Array, "prefix_and_seq axes"]:
    """Prepends tokens outside of the grid, such as class tokens, at the position zero.

    Their coordinates are zeros, where a rotary embedding rotates by no angle.

    !!! Example

        ```python
        import jax.numpy as jnp
        import eqx_posemb as pe

        positions = pe.positions.zero_prefixed(
            pe.positions.grid_positions((14, 14)) + 1, count=5
        )
        rotation = pe.axial_rope(64)(positions)
        x = jnp.ones((201, 64))
        assert (rotation.queries(x)[:5] == x[:5]).all()
        ```

    **Arguments:**

    - `positions`: the positions of the grid. Where a patch must not have the place of
        the prefix, add one to them, as Llama 4 does.
    - `count`: the number of tokens before them.

    **Returns:** positions of all tokens, in the same dtype, or int32 if that is
    narrower.

    **Raises:** a `ValueError` if `count` is negative, or if positions have not two
    axes.
    """
    check_count("count", count, 0)
    check_array("positions", positions)
    rule = "have shape [seq, axes], to be on a grid"
    cure = cure_for_axes(positions, 2)
    require(positions.ndim == 2, "positions", rule, positions.shape, cure)
    pad = lambda positions: jnp.pad(positions, [(count, 0), (0, 0)])
    return compiler_sharded(pad, (None, None), as_positions(positions))
