"""Arrays on meshes with Explicit axes, the default of `jax.make_mesh`, and Manual axes.

With Explicit axes, the type of an array contains its sharding, and each operation must
state the sharding of its result. Here a whole computation states the sharding of its
result. The compiler chooses all other shardings, as with Auto axes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, Num, PyTree


# The mesh axes that an axis of an array is sharded over.
MeshAxes = None | str | tuple[str, ...]


def mesh_axes(x: Array) -> tuple[MeshAxes, ...]:
    """The Explicit axes of the mesh that each axis of an array is sharded over."""
    spec = tuple(getattr(_sharding(x), "spec", ()))
    return spec + (None,) * (x.ndim - len(spec))


def shards(x: Array, axis: int) -> int:
    """The number of shards of an axis, by the Explicit axes of the mesh."""
    if not _explicit(getattr(_sharding(x), "mesh", None)):
        return 1
    return Shards(_sharding(x).mesh, mesh_axes(x)[axis]).count


@dataclasses.dataclass(frozen=True)
class Shards:
    """How an axis of arrays is sharded over Explicit axes of a mesh."""

    mesh: AbstractMesh
    axes: MeshAxes

    @property
    def count(self) -> int:
        """The number of shards."""
        return math.prod(self.mesh.shape[name] for name in _names(self.axes))


def by_heads(*arrays: Array) -> Shards | None:
    """How the first axis of the first array is sharded; `None` if another axis of an
    array is sharded as well. Only where all axes of a mesh are Explicit."""
    mesh = getattr(_sharding(arrays[0]), "mesh", None)
    # Arrays from outside of a program have no mesh, and its devices have all of them.
    if mesh is None or mesh.empty:
        mesh = _context()
    if mesh is None or mesh.empty or len(_explicit(mesh)) < len(mesh.axis_names):
        return None
    others = (axes for x in arrays for axes in mesh_axes(x)[1:])
    if any(others):
        return None
    return Shards(mesh, mesh_axes(arrays[0])[0])


def compiler_sharded(
    function: Callable[..., Any],
    result: tuple[MeshAxes, ...] | list[tuple[MeshAxes, ...]],
    *arguments: Any,
) -> Any:
    """Calls `function(*arguments)`, with the Explicit axes of the mesh as Auto.

    **Arguments:**

    - `function`: gives an array, or a list of arrays. It captures no arrays.
    - `result`: the mesh axes that each axis of that array is to be sharded over, or a
        list of them. A mesh axis that comes twice is taken where it comes first.
    - `arguments`: pytrees.
    """
    arrays, static = eqx.partition(arguments, lambda x: isinstance(x, jax.Array))
    shardings = map(_sharding, jax.tree.leaves(arrays))
    meshes = (getattr(sharding, "mesh", None) for sharding in shardings)
    mesh = next((mesh for mesh in meshes if _explicit(mesh)), None)
    # Without Explicit axes, the compiler shards the function already.
    if mesh is None:
        return function(*arguments)
    call = lambda arrays: function(*eqx.combine(arrays, static))
    of = lambda result: NamedSharding(mesh, PartitionSpec(*_once(result)))
    sharding = list(map(of, result)) if isinstance(result, list) else of(result)
    automatic: Any = jax.sharding.auto_axes(
        call, axes=_explicit(mesh), out_sharding=sharding
    )
    return automatic(arrays)


def sharded_as_pairs(call: Callable[..., Array]) -> Callable[..., Array]:
    """Shards the result `[heads, q, k]` of a method as the positions of the queries and
    the keys that it takes."""

    @functools.wraps(call)
    def sharded(self, q_positions, k_positions):
        both = q_positions, k_positions
        has_axes = lambda p: isinstance(p, jax.Array) and p.ndim
        axes = (mesh_axes(p)[0] if has_axes(p) else None for p in both)
        return compiler_sharded(call, (None, *axes), self, *both)

    return sharded


def gathered(tree: PyTree, axis: int = 0) -> PyTree:
    """Arrays with all entries of an axis on every device, where the mesh has Auto axes.

    A comparison of neighbors would otherwise exchange data in each of its steps.
    """
    if not getattr(_context(), "auto_axes", ()):
        return tree

    def whole(x):
        if x.ndim == 0:
            return x
        # The compiler goes on choosing the sharding of all other axes.
        spec = [PartitionSpec.UNCONSTRAINED] * x.ndim
        spec[axis] = None
        return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))

    return jax.tree.map(whole, tree)


def rows_of(
    table: Num[Array, "rows *dim"], rows: Int[Array, "*shape"]
) -> Num[Array, "..."]:
    """Rows of a table. An index out of range gives the nearest row."""
    look_up = lambda table, rows: table.at[rows].get(mode="clip")
    result = *mesh_axes(rows), *mesh_axes(table)[1:]
    return compiler_sharded(look_up, result, table, rows)


def repeated(x: Array, times: int) -> Array:
    """Repeats each entry of the first axis, as `jnp.repeat`."""
    # `jnp.repeat` would need the sharding of its result.
    wide = jnp.broadcast_to(x[:, None], (x.shape[0], times, *x.shape[1:]))
    return wide.reshape(x.shape[0] * times, *x.shape[1:])


def axis_size(name: str) -> int:
    """The number of devices along an axis of the mesh, under `jax.shard_map`.

    **Raises:** a `NameError` for an axis that is not bound.
    """
    # JAX 0.5 has no `jax.lax.axis_size`. The sum of a constant is known at trace time.
    return jax.lax.psum(1, name)


def varying(x: Array | jax.ShapeDtypeStruct) -> frozenset[str]:
    """Under `jax.shard_map`, the axes of the mesh over which an array varies."""
    kind = jax.typeof(x)
    kind = getattr(kind, "manual_axis_type", kind)  # Where JAX 0.10 has it.
    return getattr(kind, "varying", getattr(kind, "vma", frozenset()))


def vary_over(x: Array, axes: frozenset[str]) -> Array:
    """An array that varies over these axes of the mesh as well."""
    missing = tuple(axes - varying(x))
    if not missing:
        return x
    lax: Any = jax.lax
    if hasattr(lax, "pcast"):
        return lax.pcast(x, missing, to="varying")
    return lax.pvary(x, missing)  # Before JAX 0.8.


def alike(tree: PyTree) -> PyTree:
    """Arrays that all vary over the same axes of the mesh."""
    axes = frozenset[str]().union(*map(varying, jax.tree.leaves(tree)))
    return jax.tree.map(lambda x: vary_over(x, axes), tree)


def varying_as(x: Array, shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
    """The shape and dtype of a result that varies over the axes of the mesh as `x`."""
    kind = jax.typeof(x)
    name = "manual_axis_type" if hasattr(kind, "manual_axis_type") else "vma"
    return jax.ShapeDtypeStruct(shape, dtype, **{name: getattr(kind, name)})


def _context() -> Any:
    """The mesh of the context, or `None` where JAX has no such function."""
    return getattr(jax.sharding, "get_abstract_mesh", lambda: None)()


def _sharding(x) -> Any:
    return getattr(jax.typeof(x), "sharding", None)


def _explicit(mesh) -> tuple[str, ...]:
    # Before `auto_axes` was public, Explicit axes were an experiment.
    if not hasattr(jax.sharding, "auto_axes"):
        return ()
    return tuple(getattr(mesh, "explicit_axes", ()))


def _names(entry):
    return (entry,) if isinstance(entry, str) else entry or ()


def _once(axes):
    # A mesh axis shards at most one axis of an array.
    seen, found = set(), []
    for entry in axes:
        names = tuple(name for name in _names(entry) if name not in seen)
        seen.update(names)
        found.append(names or None)
    return found
