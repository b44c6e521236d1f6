"""YaRN, by the names of its authors' code."""

import decimal
import math

import jax.numpy as jnp
from jaxtyping import Array, Float, Num

from .._checks import check_positive, require
from .._frequencies import index_of_turns
from .._given import Positions
from .._phase import HOST_PRECISION
from .._rotary import magnitude, yarn as yarn_rotary


def find_correction_dim(
    num_rotations: float,
    dim: int,
    base: float = 10_000,
    max_position_embeddings: int = 2048,
) -> float:
    r"""The index of the frequency that turns so many times within a context.

    $$i(n) = \frac{d \ln (L / 2 \pi n)}{2 \ln \theta}$$

    for $n$ = `num_rotations`, $d$ = `dim`, a context of $L$ positions and the base
    $\theta$. It lies between indices, and beyond them where no frequency does so.

    !!! Example

        ```python
        from eqx_posemb.functional import find_correction_dim

        index = find_correction_dim(8, dim=256)
        assert abs(index - 51.5219) < 1e-4
        ```

    **Arguments:**

    - `num_rotations`: the number of turns.
    - `dim`: the number of rotated channels, which is twice the number of frequencies.
    - `base`: the base of the frequencies; not 1.
    - `max_position_embeddings`: the context length, in positions.

    **Returns:** a Python number.

    **Raises:** a `ValueError` if a number is not positive, or `base` is 1.
    """
    check_positive("num_rotations", num_rotations)
    check_positive("max_position_embeddings", max_position_embeddings)
    check_positive("base", base)
    cure = "It is 10,000 in most models."
    require(base != 1, "base", "not be 1, for frequencies to differ", base, cure)
    # The schedule computes the same decimals, so both round to the same indices.
    with decimal.localcontext(HOST_PRECISION):
        index = index_of_turns(num_rotations, dim, base, max_position_embeddings)
    return float(index)


def find_correction_range(
    low_rot: float,
    high_rot: float,
    dim: int,
    base: float = 10_000,
    max_position_embeddings: int = 2048,
) -> tuple[int, int]:
    """Where YaRN's ramp over the indices of frequencies begins and ends.

    The range lies between `low_rot` and `high_rot` turns, in either order. Its ends are
    rounded outwards to whole indices, from 0 to `dim - 1`. The authors' code requires
    the larger number first. Its documented call gives an inverted ramp.

    !!! Example

        ```python
        from eqx_posemb.functional import find_correction_range

        assert find_correction_range(32, 1, dim=256) == (32, 81)
        assert find_correction_range(1, 32, dim=256) == (32, 81)
        ```

    **Arguments:**

    - `low_rot`, `high_rot`: two numbers of turns; 1 and 32 in YaRN.
    - `dim`, `base`, `max_position_embeddings`: as in `find_correction_dim`.

    **Returns:** two indices, the lower one first.

    **Raises:** as `find_correction_dim`.
    """
    first, last = (
        find_correction_dim(turns, dim, base, max_position_embeddings)
        for turns in (max(low_rot, high_rot), min(low_rot, high_rot))
    )
    return max(math.floor(first), 0), min(math.ceil(last), dim - 1)


def linear_ramp_mask(min: float, max: float, dim: int) -> Float[Array, " {dim}"]:
    """A ramp from zero at the index `min` to one at `max`.

    If they are equal it is a step, and if `max` is less it falls, as in the authors'
    code.

    !!! Example

        ```python
        from eqx_posemb.functional import linear_ramp_mask

        assert linear_ramp_mask(1, 3, dim=5).tolist() == [0, 0, 0.5, 1, 1]
        ```

    **Arguments:**

    - `min`, `max`: the indices.
    - `dim`: the length of the ramp.

    **Returns:** an array `[dim]`, in JAX's default float dtype.
    """
    # The authors' code widens an empty ramp to 0.001, against a division by zero.
    width = 0.001 if min == max else max - min
    return jnp.clip((jnp.arange(dim, dtype=float) - min) / width, 0, 1)


def get_mscale(scale: float = 1) -> float:
    r"""What YaRN multiplies queries and keys by.

    $$m(s) = 0.1 \ln s + 1$$

    for a scaling factor $s$ above one. For other factors it is one.

    !!! Example

        ```python
        from eqx_posemb.functional import get_mscale

        assert get_mscale(0.5) == get_mscale() == 1
        assert abs(get_mscale(2.0) - 1.0693) < 1e-4
        ```

    **Arguments:**

    - `scale`: the scaling factor of the context.

    **Returns:** a Python number.
    """
    return magnitude(scale)


def yarn(
    x: Float[Array, "seq dim"],
    positions: Num[Positions, " seq"] | None = None,
    *,
    factor: float,
    original_length: int,
    theta: float = 10_000.0,
) -> Float[Array, "seq dim"]:
    """Rotates and scales queries or keys as [`eqx_posemb.yarn`][] does.

    !!! Example

        ```python
        import jax.numpy as jnp
        from eqx_posemb.functional import yarn

        q = yarn(jnp.ones((10, 64)), factor=4.0, original_length=2048)
        ```

    **Arguments:**

    - `x`: queries or keys.
    - `positions`: their positions; by default from 0 on.
    - `factor`, `original_length`, `theta`: as in [`eqx_posemb.yarn`][].

    **Returns:** an array like `x`.

    **Raises:** a `ValueError` as [`eqx_posemb.yarn`][].
    """
    rotary = yarn_rotary(
        x.shape[-1], factor=factor, original_length=original_length, theta=theta
    )
    if positions is None:
        positions = jnp.arange(x.shape[0])
    return rotary(positions).queries(x)
