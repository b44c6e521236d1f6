"""The parts of an embedding as modules of PyTorch."""

import contextlib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch
from torch import nn, Tensor

from ..._rotary import AbstractRotary, Pairing, Rotary
from ._angles import Angles, as_positions, check_tensor, computing_dtype, Layout, rotate
from ._operator import call, frame_of, leaves_of


def to_torch(module: eqx.Module) -> dict[str, Tensor]:
    """A state dict of the parameters, as of [`eqx_posemb.interop.torch.as_torch`][].

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import to_torch

        assert list(to_torch(pe.Learned(8, 4, key=jax.random.key(0)))) == ["weight"]
        ```
    """
    # Optimizers write into parameters, and arrays never change.
    copied = lambda leaf: torch.from_dlpack(jnp.asarray(leaf)).clone()
    return {name: copied(leaf) for name, leaf in leaves_of(module).items()}


class TorchPart(nn.Module):
    """A module whose arrays are parameters of PyTorch, and whose methods run in JAX as
    one operator. No setting is in a buffer, where `half` could change it."""

    def __init__(self, module: eqx.Module):
        super().__init__()
        self._frame = frame_of(module)
        for name, tensor in to_torch(module).items():
            # PyTorch allows no dots in the name of a parameter, so groups become
            # submodules.
            *groups, last = name.split(".")
            holder: Any = self
            for group in groups:
                holder = holder._modules.setdefault(group, nn.Module())
            holder.register_parameter(last, nn.Parameter(tensor))

    def __repr__(self) -> str:
        """The settings, and the shapes of the parameters."""
        settings = eqx.tree_pformat(self._frame.shell, struct_as_array=True)
        return f"{type(self).__name__}({settings})"

    def _run(self, method, rank=None, **inputs):
        """Calls a method on the inputs that are there. The axes of positions before the
        last `rank` are batch; by default the queries or tokens have the batch."""
        tensors, settings = {}, {}
        for name, x in inputs.items():
            if name.endswith("positions"):
                x = as_positions(x, name)
            elif x is None:
                continue
            elif name == "length" and not isinstance(x, Tensor):
                # A length in a tensor is data, so another length needs no other
                # program.
                device = inputs["q_positions"].device
                x = torch.full((), x, dtype=torch.int32, device=device)
            elif name in _OWN:
                check_tensor(name, x)
            (tensors if isinstance(x, Tensor) else settings)[name] = x
        called = (method, _depths_of(tensors, rank), settings)
        # `functional_call`, replicas and parametrizations have plain tensors here.
        get = lambda name: functools.reduce(getattr, name.split("."), self)
        parameters = map(get, self._frame.names)
        return call(
            f"{self._frame.digest}|{called!r}", [*parameters, *tensors.values()]
        )


class TorchTerm(TorchPart):
    """An encoding, a bias or a score, with the call that it has in JAX after the batch.
    Positions may come without the batch."""

    def __init__(self, module: Any):
        super().__init__(module)
        given = inspect.signature(module.__call__).parameters.values()
        self._names = [each.name for each in given if each.kind != each.KEYWORD_ONLY]
        of_data = "q" in self._names
        self._rank = None if of_data else rank_of_positions(module, len(self._names))

    def forward(self, *inputs: Tensor, **named: Any) -> Tensor:
        if len(inputs) > len(self._names):
            raise ValueError(
                f"This part must be called with {', '.join(self._names)}, but got "
                f"{len(inputs)} tensors."
            )
        named |= dict(zip(self._names, inputs, strict=False))
        return self._run("__call__", self._rank, **named)[0]


class TorchExtension(TorchPart):
    """A part that gives each pair of a query and a key a product of its own."""

    def products(
        self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor, **others
    ) -> Tensor:
        """The unscaled products [*batch, heads, q, k]. Positions may come without the
        batch. Some parts read `length` or `k_state`, [*batch, seq, dim]."""
        at = dict(q_positions=q_positions, k_positions=k_positions)
        return self._run("products", q=q, k=k, **at, **others)[0]


class TorchRotation(NamedTuple):
    """Functions that rotate queries and keys [*batch, heads, seq, dim] of given
    positions, in their dtype, computed in at least float32."""

    queries: Callable[[Tensor], Tensor]
    keys: Callable[[Tensor], Tensor]


class TorchRotary(TorchPart):
    """A map from positions to rotations of queries and keys."""

    def __init__(self, module: AbstractRotary, rotation: Literal["torch", "jax"]):
        super().__init__(module)
        self._angles = self._axis = None
        self._coordinates, self.native = (), False
        # Only plain rotations have a form in PyTorch, and all others run in JAX.
        if not isinstance(module, Rotary) or module.decay is not None:
            return
        self.native = rotation == "torch"
        self._dim, self._scale, rows = module.dim, module.scale, module.pairing
        self._layout: Layout = rows
        if isinstance(rows, Pairing):
            self._layout = (rows.source, rows.partner, rows.pair, rows.sign)
        turns: Any = module.frequencies.turns()
        if module.axes is not None:
            count = module.frequencies.pairs
            self._coordinates = (module.axes.coordinates,)
            self._axis = module.axes.axis(count).tolist()
            frequency = module.axes.frequency(count)
            turns = jax.tree.map(lambda word: word[..., frequency], turns)
        # Frequencies in JAX arrays may change, so only static schedules have fixed
        # angles.
        static = all(isinstance(word, np.ndarray) for word in jax.tree.leaves(turns))
        if static and not module.dynamic and module.arithmetic == "exact":
            self._angles = Angles(turns)

    @property
    def exact(self) -> bool:
        """Whether all of it is PyTorch's own, and the same for every length."""
        return self._angles is not None

    def forward(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> TorchRotation:
        """The rotation at positions [seq, *axes], with or without a batch before.
        Compute it once for all layers.

        Schedules that depend on the context length read `length`, by default one more
        than the largest position of each example.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        if self.native:
            cos, sin = self.tables(positions, length=length)
            # Batched tables without heads broadcast over the heads of queries and keys.
            depth = positions.ndim - 1 - len(self._coordinates)
            if depth and cos.ndim == depth + 2:
                cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
            turn = functools.partial(self._rotated, cos, sin)
        else:
            turn = lambda method, x: self._run(
                method, q=x, q_positions=positions, length=length
            )[0]
        both = (functools.partial(turn, method) for method in ("queries", "keys"))
        return TorchRotation(*both)

    def tables(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The cosine and the sine of each angle, [*batch, *heads, seq, pairs], times
        the scale; of a [`eqx_posemb.Rotary`][] without decay only. They are float32, or
        float64 where that is PyTorch's default."""
        check_tensor("positions", positions)
        rank, shape = 1 + len(self._coordinates), tuple(positions.shape)
        if len(shape) < rank or shape[len(shape) - rank + 1 :] != self._coordinates:
            wanted = ", ".join(["*batch", "seq", *map(str, self._coordinates)])
            raise ValueError(
                f"`positions` must be of shape [{wanted}], but got {shape}."
            )
        if self._angles is None:
            cos, sin = self._run("tables", rank, q_positions=positions, length=length)
            return cos, sin
        if self._axis is not None:
            positions = positions[..., self._axis]
        dtype = computing_dtype(torch.get_default_dtype())
        cos, sin = self._angles(positions, dtype)
        return cos * self._scale, sin * self._scale

    def _rotated(self, cos, sin, method, x):
        check_tensor(method[0], x)
        seq = cos.shape[-2]
        fits = x.ndim >= max(2, cos.ndim) and x.shape[-2:] == (seq, self._dim)
        if not (fits and x.is_floating_point()):
            raise ValueError(
                f"`{method[0]}` must be floating point of shape [*batch, heads, seq, "
                f"dim] with seq={seq} and dim={self._dim}, as the positions and the "
                f"rotary embedding have, but got {x.dtype} of shape {tuple(x.shape)}."
            )
        return rotate(x, cos, sin, self._layout)


def rank_of_positions(module: Callable[..., Any], count: int) -> int:
    """1 if a position is a number for this module, and 2 if it has coordinates."""
    for dtype in jnp.int32, jnp.float32:
        # A wrong shape or dtype raises these errors, also in a part that a user
        # defines.
        with contextlib.suppress(IndexError, TypeError, ValueError):
            jax.eval_shape(module, *[jax.ShapeDtypeStruct((4,), dtype)] * count)
            return 1
    return 2


# The most axes of one example. The tokens determine the axes of positions.
_OWN = dict(q=3, k=3, v=3, mask=3, x=2, q_state=2, k_state=2)
_OWN |= dict(q_segments=1, k_segments=1, q_order=1, k_order=1, sinks=1, length=0)


def _depths_of(inputs: Mapping[str, Tensor], rank: int | None) -> dict[str, int]:
    """How many axes of each input are batch: all before the last `rank`, or as many as
    queries or tokens have."""
    own = _OWN if rank is None else dict.fromkeys(inputs, rank)
    depths = {
        name: max(inputs[name].ndim - own[name], 0) for name in inputs if name in own
    }
    for name in inputs.keys() - own.keys():
        first = "q" if "q" in inputs else "x"
        count = inputs["k" if name == "k_positions" else first].shape[-2]
        wanted = (*inputs[first].shape[: depths[first]], count)
        there = tuple(inputs[name].shape[: len(wanted)]) == wanted
        depths[name] = depths[first] if there else 0
    return {name: depths[name] for name in inputs}
