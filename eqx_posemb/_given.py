"""Positions as users give them: arrays, or `Consecutive` positions.

Every part accepts both, checks them by the same functions, and computes with them in
the same dtypes.
"""

from collections.abc import Callable, Iterator
from typing import Any, cast, TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, Num, Shaped
from numpy.lib.mixins import NDArrayOperatorsMixin

from ._checks import described, require
from ._module import Module


class Consecutive(NDArrayOperatorsMixin, Module):
    """The positions `start, start + 1, …`.

    [`eqx_posemb.positions.consecutive`][] makes the value.

    It behaves as an array: operators, indices, methods and functions of `jax.numpy`
    compute with the positions. Functions of `jax.lax` and the indices of another array
    need `jnp.asarray(positions)`. It is a pytree with the leaf `start`.

    !!! Example

        ```python
        import eqx_posemb as pe

        positions = pe.positions.consecutive(3, start=5)
        assert isinstance(positions, pe.positions.Consecutive)
        assert (positions + 1).tolist() == [6, 7, 8]
        ```
    """

    # Filters of pytrees replace the integer by None, as in cotangents.
    start: Int[Array, "*batch"] | None
    length: int = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int]:
        """`(length,)`."""
        return (self.length,)

    @property
    def ndim(self) -> int:
        """1, since each token has one position."""
        return 1

    @property
    def size(self) -> int:
        """The number of positions."""
        return self.length

    @property
    def dtype(self) -> np.dtype:
        """The dtype of `start`."""
        assert self.start is not None
        return self.start.dtype

    def part(self, first: Int[Array, "*batch"], length: int) -> "Consecutive":
        """`length` of the positions, from the index `first` on; or a batch of such
        parts."""
        # Cotangents have no start, as positions are integers.
        shift = lambda start: start + jnp.asarray(first, start.dtype)
        start = jax.tree.map(shift, self.start)
        return Consecutive(start, length)

    def __jax_array__(self) -> Int[Array, " length"]:
        assert self.start is not None
        return self.start + jnp.arange(self.length, dtype=self.dtype)

    def __array__(self, *arguments, **keywords) -> np.ndarray:
        return np.asarray(self.__jax_array__()).__array__(*arguments, **keywords)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **keywords):
        # `positions += 1` names another array from then on, as it does in JAX.
        ours = not out or out[0] is self
        if ours and method == "__call__" and not keywords:
            # NumPy's function would leave JAX, and fail for a traced start.
            return getattr(jnp, ufunc.__name__)(*map(jnp.asarray, inputs))
        inputs = (np.asarray(x) if isinstance(x, Consecutive) else x for x in inputs)
        if not ours:
            keywords["out"] = out
        return getattr(ufunc, method)(*inputs, **keywords)

    # JAX clips an index out of range, so Python's default iteration would never end.
    def __iter__(self) -> Iterator[Array]:
        return iter(self.__jax_array__())

    def __bool__(self) -> bool:
        return bool(self.__jax_array__())

    def __getitem__(self, index) -> Array:
        return self.__jax_array__()[index]

    def __getattr__(self, name: str) -> Any:
        # Copying and pickling probe private names, which must not compute positions.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.__jax_array__(), name)

    def __len__(self) -> int:
        return self.length


# Type checkers see an array, so that a part of a user may declare one.
if TYPE_CHECKING:
    Positions = Array
else:
    Positions = Array | Consecutive


def as_given(
    positions: Shaped[Positions, "..."], name: str
) -> Shaped[Positions, "..."]:
    """`Consecutive` unchanged, and arrays as `as_positions` returns them."""
    if isinstance(positions, Consecutive):
        return positions
    return as_positions(positions, name)


def as_consecutive(positions: Num[Positions, "..."]) -> Num[Positions, "..."]:
    """Concrete consecutive integers as `Consecutive`, and other positions unchanged."""
    if isinstance(positions, Consecutive | Tracer) or positions.ndim != 1:
        return positions
    # A process cannot read the shards of other processes.
    whole = getattr(positions, "is_fully_addressable", True)
    integers = jnp.issubdtype(positions.dtype, jnp.integer)
    if not (whole and integers and positions.size):
        return positions
    # NumPy compares in Python, also while a program is traced.
    array = np.asarray(positions)
    if not np.array_equal(array[1:] - array[:-1], np.ones(array.size - 1, array.dtype)):
        return positions
    return cast(Positions, Consecutive(jnp.asarray(array[0]), array.size))


def as_positions(positions: Any, name: str = "positions") -> Shaped[Array, "..."]:
    """Positions as all parts compute with them: no integers narrower than int32.

    **Raises:** a `ValueError` if positions are not numbers, or if their dtype is
    boolean or rounds integers, as bfloat16 does. The same for NumPy integers that JAX
    would wrap.
    """
    if isinstance(positions, np.generic):
        positions = np.asarray(positions)
    elif not isinstance(positions, np.ndarray):
        try:
            positions = jnp.asarray(positions)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(
                f"`{name}` must be an array of integers or floats that JAX has, but "
                f"got {described(positions)}. Tokens from 0 on have "
                "`jnp.arange(count)`."
            ) from error
    dtype = positions.dtype
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        raise ValueError(
            f"`{name}` must be integers or float32, as {dtype} rounds integers beyond "
            f"{2 ** (jnp.finfo(dtype).nmant + 1)}, but got {dtype}. Use `jnp.int32`, "
            "or `jnp.float32` for positions between integers."
        )
    if jnp.issubdtype(dtype, jnp.floating):
        return cast(Array, positions)
    rule = "be integers or floats"
    cure = "`eqx_posemb.positions.left_padded_positions` makes positions of a mask."
    fine = jnp.issubdtype(dtype, jnp.integer)
    require(fine, name, rule, cure=cure, words=str(dtype))
    # Without 64-bit mode, JAX would silently wrap NumPy's int64.
    kept = jax.dtypes.canonicalize_dtype(dtype)
    if isinstance(positions, np.ndarray) and kept != dtype:
        least, most = (int(f(positions, initial=0)) for f in (np.min, np.max))
        end = jnp.iinfo(kept)
        if least < end.min or most > end.max:
            raise ValueError(
                f"`{name}` must be from {end.min} to {end.max}, as {dtype} becomes "
                f"{kept} in JAX, but got {most if most > end.max else least}. Set "
                "`jax_enable_x64`."
            )
    # Differences of narrow integers wrap early: int8 ends at 127.
    if kept.itemsize < 4:
        kept = np.dtype(np.int32)
    elif not isinstance(positions, np.ndarray):
        return positions
    return cast(Array, positions.astype(kept))


def as_integers(
    positions: Shaped[Positions, "..."], name: str
) -> Shaped[Positions, "..."]:
    """Integers that are compared, as `as_given` returns them."""
    check_integers(name, positions, "to be compared")
    return as_given(positions, name)


def as_ids(ids: Shaped[Array, "..."], name: str) -> Shaped[Array, "..."]:
    """Ids of documents, which may be a mask of padding."""
    return ids if ids.dtype == bool else as_integers(ids, name)


def in_common(*positions: Num[Positions, "..."]) -> list[Num[Array, "..."]]:
    """Positions in one signed dtype, whose differences do not wrap."""
    arrays = tuple(map(as_positions, positions))
    if not all(jnp.issubdtype(p.dtype, jnp.integer) for p in arrays):
        return [p.astype(jnp.result_type(float)) for p in arrays]
    # Differences of unsigned integers would wrap below zero.
    wide = any(p.dtype.itemsize == 8 for p in arrays)
    return [p.astype(jnp.int64 if wide else jnp.int32) for p in arrays]


def check_array(name: str, positions: Any) -> None:
    cure = (
        "Tokens from 0 on have `jnp.arange(count)`, and `jnp.asarray` converts a list."
    )
    require(hasattr(positions, "ndim"), name, "be an array", positions, cure)


def check_tokens(name: str, x: Any, shape: str = "") -> None:
    # A tensor of PyTorch has an `ndim` as well, and would fail inside of a trace.
    if not (hasattr(x, "ndim") and eqx.is_array_like(x)):
        raise ValueError(
            f"`{name}` must be an array{shape}, but got {described(x)}. `jnp.asarray` "
            "converts a list, and `eqx_posemb.interop.torch.as_torch` takes tensors of "
            "PyTorch."
        )


def check_both(
    check: Callable[..., None],
    q_positions: Shaped[Positions, "..."],
    k_positions: Shaped[Positions, "..."],
    *settings: Any,
) -> None:
    """Checks the positions of queries and of keys by one rule."""
    check("q_positions", q_positions, *settings)
    check("k_positions", k_positions, *settings)


def check_state(
    name: str, state: Float[Array, "seq dim"] | None, dim: int
) -> Float[Array, "seq dim"]:
    """Hidden states of tokens, which must be there and have `dim` channels."""
    if state is None or state.ndim != 2 or state.shape[1] != dim:
        raise ValueError(
            f"`{name}` must be the hidden states of the tokens, [seq, dim] with "
            f"dim={dim}, which this part reads, but got {described(state)}."
        )
    return state


def check_sequence(name: str, positions: Shaped[Positions, "..."], why: str) -> None:
    check_array(name, positions)
    rule = f"have shape [seq], {why}"
    cure = cure_for_axes(positions)
    require(positions.ndim == 1, name, rule, positions.shape, cure)


def check_positions(name: str, positions: Shaped[Positions, "..."]) -> None:
    check_array(name, positions)
    rule = "have shape [seq] or [seq, axes]"
    cure = cure_for_axes(positions)
    require(positions.ndim in (1, 2), name, rule, positions.shape, cure)


def check_grid(name: str, positions: Shaped[Positions, "..."], axes: int) -> None:
    check_array(name, positions)
    if positions.ndim != 2 or positions.shape[1] != axes:
        raise ValueError(
            f"`{name}` must have shape [seq, axes] with {axes} axes, but got shape "
            f"{positions.shape}. {cure_for_axes(positions, 2)}"
        )


def check_sums(
    q_positions: Shaped[Positions, "..."],
    k_positions: Shaped[Positions, "..."],
    numbers: int,
    each: str,
) -> None:
    """Positions made by a gate must have a number for each sum of gates."""
    check_both(_check_sums, q_positions, k_positions, numbers, each)


def _check_sums(name, positions, numbers, each):
    check_array(name, positions)
    if positions.ndim != 2 or positions.shape[1] != numbers:
        raise ValueError(
            f"`{name}` must have shape [{name[0]}, {numbers}], a number for each "
            f"{each}, but got {positions.shape}. Make them by a `ForgetGate` with "
            f"`heads={numbers}`."
        )


def cure_for_axes(positions: Shaped[Positions, "..."], axes: int = 1) -> str:
    """The cure for positions with a wrong number of axes."""
    if positions.ndim == 0:
        return "Give one for each token: from 0 on they are `jnp.arange(count)`."
    if positions.ndim > axes:
        return "Use `jax.vmap` over a batch."
    return "`eqx_posemb.positions.grid_positions` lists the positions of a grid."


def check_integers(name: str, positions: Shaped[Positions, "..."], why: str) -> None:
    check_array(name, positions)
    if not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ValueError(
            f"`{name}` must be integers, {why}, but got {positions.dtype}. Use "
            "`jnp.int32`."
        )
