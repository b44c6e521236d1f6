"""The parts of an embedding as modules of PyTorch."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import nn, Tensor

from ._angles import as_positions
from ._memory import copy_of
from ._operator import call
from ._programs import frame_of, name_of


class TorchPart(nn.Module):
    """A module of ours whose arrays are parameters of PyTorch, and whose methods run in
    JAX as one operator.

    There are no buffers: what is no parameter is a setting, and nothing that `half`,
    `to`, the meta device or a state dict could change.
    """

    def __init__(self, module: eqx.Module):
        super().__init__()
        self._frame = frame_of(module)
        for name, leaf in leaves_of(module).items():
            self._place(name, nn.Parameter(copy_of(leaf)))

    def extra_repr(self) -> str:
        """The settings."""
        return str(self._frame.shell)

    def _place(self, name, parameter):
        *groups, last = name.split(".")
        holder = self
        for group in groups:
            if group not in holder._modules:
                holder.add_module(group, nn.Module())
            holder = holder.get_submodule(group)
        holder.register_parameter(last, parameter)

    def _run(self, method, depths=None, **inputs):
        """Calls a method on the inputs that are there, batched as deeply as `depths`
        says, or as the queries or tokens among them are."""
        given = {name: x for name, x in inputs.items() if x is not None}
        device = next(x.device for x in given.values() if isinstance(x, Tensor))
        if isinstance(length := given.get("length"), int):
            # As a tensor, so that another one needs no other program.
            given["length"] = torch.full((), length, dtype=torch.int32, device=device)
        tensors, options = {}, ""
        for name, x in given.items():
            if isinstance(x, Tensor):
                at = name.endswith("positions")
                tensors[name] = as_positions(x, name) if at else x
            else:
                options += f"{name}={x!r};"
        depths = _depths_of(tensors) if depths is None else depths
        names = ",".join([f"{name}:{depths.get(name, 0)}" for name in tensors])
        program = f"{self._frame.digest}|{method}|{names}|{options}"
        # `functional_call`, replicas and parametrizations have plain tensors here.
        parameters = [
            functools.reduce(getattr, name.split("."), self)
            for name in self._frame.names
        ]
        return call(program, [*parameters, *tensors.values()])


class TorchTerm(TorchPart):
    """An encoding, a bias or a score: called as it is in JAX, after the batch.

    An encoding takes positions [*batch, seq, *axes], a bias those of queries and of
    keys, and a score queries and keys [*batch, heads, seq, dim], both positions, and
    `q_state` and `k_state` [*batch, seq, dim] where it reads them. Positions may come
    without the batch. The result of the first two has JAX's default float dtype.
    """

    def __init__(self, module: Any, names: tuple[str, ...]):
        super().__init__(module)
        self._names = names
        self._rank = None if "q" in names else rank_of_positions(module, len(names))

    def forward(self, *inputs: Tensor, **named: Tensor | None) -> Tensor:
        given = dict(zip(self._names, inputs, strict=False)) | named
        depths = None
        if self._rank is not None:
            depths = {name: max(x.ndim - self._rank, 0) for name, x in given.items()}
        return self._run("__call__", depths, **given)[0]


class TorchExtension(TorchPart):
    """A rotary embedding that sees other positions where keys are far."""

    def products(
        self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor, **length
    ) -> Tensor:
        """From queries and keys [*batch, heads, seq, dim] before any rotation, and
        positions [seq] with or without the batch, to products that are not scaled,
        [*batch, heads, q, k]. Schedules that depend on it read `length`."""
        at = dict(q_positions=q_positions, k_positions=k_positions)
        return self._run("products", q=q, k=k, **at, **length)[0]


def leaves_of(module: eqx.Module) -> dict[str, jax.Array]:
    """The parameters by name: the path of the leaf, in dots."""
    arrays = eqx.filter(module, eqx.is_inexact_array)
    leaves = jax.tree_util.tree_leaves_with_path(arrays)
    return {name_of(path): leaf for path, leaf in leaves}


def rank_of_positions(module: Callable[..., Any], count: int) -> int:
    """1 if a position is a number for this module, and 2 if it has coordinates."""
    for dtype in jnp.int32, jnp.float32:
        try:
            jax.eval_shape(module, *[jax.ShapeDtypeStruct((4,), dtype)] * count)
        except (IndexError, TypeError, ValueError):
            # What a wrong shape or dtype raises, in a part of the user's own as well.
            continue
        return 1
    return 2


# The axes of one example; those of positions are told by their tokens.
_OWN = dict(q=3, k=3, v=3, x=2, q_state=2, k_state=2, q_segments=1, k_segments=1)


def _depths_of(inputs: Mapping[str, Tensor]) -> dict[str, int]:
    """How many axes of each input are batch, given queries or tokens that say it."""
    first = "q" if "q" in inputs else "x"
    x = inputs[first]
    batch = x.shape[: max(x.ndim - _OWN[first], 0)]
    depths = {}
    for name, value in inputs.items():
        if name in _OWN:
            depths[name] = max(value.ndim - _OWN[name], 0)
        elif name == "mask":
            depths[name] = len(batch) if value.ndim == len(batch) + 3 else 0
        elif name != "length":
            tokens = inputs["k"] if name == "k_positions" else x
            wanted = (*batch, tokens.shape[-2])
            there = tuple(value.shape[: len(wanted)]) == tuple(wanted)
            depths[name] = len(batch) if there else 0
    return depths
