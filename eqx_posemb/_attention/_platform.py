"""Functions that differ by the platform that a program is compiled for.

`jax.lax.platform_dependent` lowers all functions for all platforms of an exported
program, which fails for a kernel of one platform. Here each function is traced and
lowered for its own platform only.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.core
import jax.extend
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import PyTree


PLATFORMS = "cpu", "cuda", "rocm", "tpu"


def by_platform(
    forms: Mapping[str, Callable[..., PyTree]],
    result: PyTree[jax.ShapeDtypeStruct],
    *arguments: PyTree,
    no_derivative: str | None = None,
    divided: bool = False,
) -> PyTree:
    """Calls the function for the platform of the compiled program.

    **Arguments:**

    - `forms`: functions of pytrees of arrays, by platform. `"default"` is for other
        platforms. It is also for TPUs and GPUs where the compiler shards the arrays,
        since no compiler divides a kernel.
    - `result`: the shapes and dtypes of the results, which are the same for all.
    - `arguments`: the arguments. Under `jax.shard_map` all arrays must vary over the
        same mesh axes, as `alike` makes them.
    - `divided`: whether forms divide their arrays among the devices of a mesh
        themselves. TPUs and GPUs then have their forms where the compiler shards as
        well.
    - `no_derivative`: the message of the error that a derivative raises. By default all
        platforms have the derivative of `forms["default"]`.
    """
    leaves, structure = jax.tree.flatten(arguments)
    shapes, out = jax.tree.flatten(result)
    # Functions are traced during lowering, when other settings may be in force.
    config: Any = jax.config
    precision = config.jax_default_matmul_precision
    flat = {name: _Flat(form, structure, precision) for name, form in forms.items()}
    found = _choice.bind(
        *leaves,
        forms=tuple(flat.items()),
        shapes=tuple((tuple(x.shape), x.dtype) for x in shapes),
        no_derivative=no_derivative,
        divided=divided,
    )
    return jax.tree.unflatten(out, found)


# JAX compares and hashes the parameters of a primitive, which frozen dataclasses
# support.
@dataclasses.dataclass(frozen=True)
class _Flat:
    """A form as a function from leaves to leaves."""

    form: Callable
    structure: Any
    precision: Any

    def __call__(self, *leaves):
        arguments = jax.tree.unflatten(self.structure, leaves)
        with jax.default_matmul_precision(self.precision):
            return jax.tree.leaves(self.form(*arguments))


@dataclasses.dataclass(frozen=True)
class _Mapped:
    form: Callable
    axes: tuple
    mesh_axis: Any
    """The Explicit axis of a mesh that the mapped axis is sharded over."""

    def __call__(self, *leaves):
        # A form is mapped when it is lowered, so no other form is traced.
        call = jax.vmap(self.form, self.axes, spmd_axis_name=self.mesh_axis)
        return call(*leaves)


_choice = jax.extend.core.Primitive("choice_of_platform")
_choice.multiple_results = True


@_choice.def_impl
def _evaluated(*arrays, forms, **_):
    forms, backend = dict(forms), jax.default_backend()
    # JAX calls both platforms of GPUs by one name.
    platform = "cuda" if backend == "gpu" else backend
    return forms.get(platform, forms["default"])(*arrays)


@_choice.def_abstract_eval
def _abstract(*arrays, shapes, **_):
    # All arguments vary over the same mesh axes, so the first argument stands for all.
    first = arrays[0]

    def like(shape, dtype):
        # The result varies over the same axes of a `jax.shard_map` as the arguments.
        spec = PartitionSpec(*[None] * len(shape))
        sharding = NamedSharding(first.sharding.mesh, spec)
        return first.update(
            shape=shape, dtype=dtype, weak_type=False, sharding=sharding
        )

    return [like(*entry) for entry in shapes]


def _lowered(platform, ctx, *arrays, forms, divided, **_):
    forms = dict(forms)
    form = forms.get(platform, forms["default"])
    if (
        not divided
        and platform != "cpu"
        and _is_divided(ctx.module_context.axis_context)
    ):
        form = forms["default"]
    # Tracing has already checked which mesh axes the arrays vary over.
    plain = [jax.core.ShapedArray(x.shape, x.dtype) for x in ctx.avals_in]
    call = mlir.lower_fun(lambda *arrays: form(*arrays), multiple_results=True)
    return call(ctx.replace(avals_in=plain), *arrays)


# A rule that is registered for one platform lowers the form of that platform alone.
for _platform in PLATFORMS:
    mlir.register_lowering(_choice, partial(_lowered, _platform), platform=_platform)


def _is_divided(context):
    """Whether the compiler divides the program among devices."""
    # `jax.jit` lowers in a context that counts devices. Under `jax.shard_map` the
    # context has a mesh and its Manual axes.
    if hasattr(context, "num_devices"):
        return context.num_devices != 1
    mesh = getattr(context, "mesh", None)
    manual = getattr(context, "manual_axes", frozenset())
    if mesh is None:
        return False
    manual = manual | set(getattr(mesh, "manual_axes", ()))
    # Where all axes are Manual, each device has its own shard, and the compiler divides
    # no program.
    return mesh.size > 1 and manual != frozenset(mesh.axis_names)


def _batched(axis, arrays, axes, *, forms, shapes, **params):
    # JAX hides the Explicit axis of a batch where all axes count as Auto.
    mesh_axis = getattr(axis, "_ema", None)
    mapped = tuple(
        (name, _Mapped(form, tuple(axes), mesh_axis)) for name, form in forms
    )
    shapes = tuple(((axis.size, *shape), dtype) for shape, dtype in shapes)
    found = _choice.bind(*arrays, forms=mapped, shapes=shapes, **params)
    return found, [0] * len(found)


batching.fancy_primitive_batchers[_choice] = _batched


def _tangent(primals, tangents, *, forms, no_derivative, **_):
    if no_derivative is not None:
        raise ValueError(no_derivative)
    # The default form computes the same result by operations that all have derivatives.
    form = dict(forms)["default"]
    # `jax.jvp` takes no tangents in the dtype of integers, so only moving arguments are
    # differentiated.
    moves = [not isinstance(tangent, ad.Zero) for tangent in tangents]
    pick = lambda entries: [x for x, m in zip(entries, moves, strict=True) if m]

    def of_moving(*moving):
        rest = iter(moving)
        return form(
            *(next(rest) if m else x for x, m in zip(primals, moves, strict=True))
        )

    return jax.jvp(of_moving, pick(primals), pick(tangents))


ad.primitive_jvps[_choice] = _tangent
