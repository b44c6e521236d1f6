"""What JAX computes for PyTorch: functions of lists of arrays, each known by a name.

Operators of PyTorch's compiler take tensors and strings. So a call of an embedding
consists of its tensors and a string, the program. The string starts with a digest of
the module without its parameters. It continues with the method, the names of the inputs
with their numbers of batch axes, and the settings. Transformations are appended: `vjp`
for a derivative, `vmap` for a batch. A derivative is a program, too, and has a
derivative.
"""

import ast
import functools
import hashlib
import pickle
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from ..._rotary import AbstractProducts, AbstractRotary, each_head


Function = Callable[[Sequence[jax.Array]], list[jax.Array]]


class Frame:
    """A module without its parameters, and the programs that are compiled for it."""

    def __init__(self, shell: eqx.Module, digest: str):
        self.shell, self.digest = shell, digest
        leaves = jax.tree_util.tree_leaves_with_path(shell)
        self.names = tuple(name_of(path) for path, leaf in leaves if _is_gap(leaf))
        # Each program is compiled once for its shapes and dtypes.
        self.compiled = functools.cache(lambda p: eqx.filter_jit(self.function(p)))

    def __reduce__(self):
        return frame_of, (self.shell,)

    def function(self, program: str) -> Function:
        """What the program computes."""
        _, method, inputs, settings, *transforms = program.split("|")
        depths = {name: int(n) for name, n in re.findall(r"(\w+):(\d+)", inputs)}
        # `literal_eval` accepts literals only, so no program string can run code.
        settings = ast.literal_eval(f"{{{settings}}}")
        function = functools.partial(self._run, method, depths, settings)
        for transform in transforms:
            name, marks = transform.split(":")
            function = _TRANSFORMS[name](function, [mark == "1" for mark in marks])
        return function

    def _run(self, method, depths, settings, arrays):
        # Half precision is for storage. Computations use at least float32.
        wide = (array.astype(jnp.result_type(float)) for array in arrays)
        fill = lambda leaf: next(wide) if _is_gap(leaf) else leaf
        module = jax.tree.map(fill, self.shell)
        call = lambda *inputs: _called(
            module, method, **dict(zip(depths, inputs, strict=True)), **settings
        )
        for _ in range(max(depths.values())):
            call = jax.vmap(call, [0 if n else None for n in depths.values()])
        return call(*arrays[len(self.names) :])


def _called(module: Any, method: str, **inputs: Any) -> list[jax.Array]:
    """What a method of the module returns, or a method of what a rotary embedding makes
    of positions."""
    if not isinstance(module, AbstractProducts | AbstractRotary):
        return [getattr(module, method)(**inputs)]
    if (length := inputs.pop("length", None)) is not None:
        module = module.for_length(length)
    if isinstance(module, AbstractProducts):
        return [module.products(**inputs)]
    rotation: Any = module(inputs["q_positions"])
    if method == "tables":
        return [rotation.cos, rotation.sin]
    q, turn = inputs["q"], getattr(rotation, method)
    alone = q.ndim == 2 and rotation.heads is None
    return [turn(q) if alone else each_head(turn, q, rotation.heads)]


# A frame and its compiled programs are freed together with its last module.
_FRAMES: weakref.WeakValueDictionary[str, Frame] = weakref.WeakValueDictionary()


def frame_of(module: eqx.Module) -> Frame:
    """The module without its arrays. Equal modules share it, and its compiled
    programs."""
    gap = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
    shell = jax.tree.map(lambda x: gap(x) if eqx.is_inexact_array(x) else x, module)
    # The digest depends on the content alone, since compiled graphs may outlive a
    # process.
    digest = hashlib.sha256(pickle.dumps(shell)).hexdigest()[:16]
    return _FRAMES.setdefault(digest, Frame(shell, digest))


def frame_with(program: str) -> Frame:
    """The frame that a program is of."""
    frame = _FRAMES.get(program.split("|")[0])
    if frame is None:
        raise ValueError(
            "`program` must be of a module that is there, but got one of a module that "
            f"is gone, {program!r}. Keep what `as_torch` gave, or make it again."
        )
    return frame


def name_of(path: tuple) -> str:
    """The path of a leaf, in dots: `parts.0.generator`."""
    return ".".join(re.findall(r"\w+", jax.tree_util.keystr(path)))


def _is_gap(leaf):
    return isinstance(leaf, jax.ShapeDtypeStruct)


def _vjp(function: Function, wanted: list[bool]) -> Function:
    """Takes the arguments and then the cotangents, and has the gradients wanted."""

    def back(arrays):
        primals, cotangents = arrays[: len(wanted)], arrays[len(wanted) :]
        pairs = list(zip(primals, wanted, strict=True))

        # JAX differentiates only the arguments whose gradients PyTorch needs.
        def of_chosen(chosen):
            given = iter(chosen)
            return function([next(given) if want else x for x, want in pairs])

        _, pull = jax.vjp(of_chosen, [x for x, want in pairs if want])
        return pull(list(cotangents))[0]

    return back


def _vmap(function: Function, mapped: list[bool]) -> Function:
    axes = [0 if one else None for one in mapped]
    return lambda arrays: jax.vmap(lambda *each: function(each), axes)(*arrays)


_TRANSFORMS = {"vjp": _vjp, "vmap": _vmap}
