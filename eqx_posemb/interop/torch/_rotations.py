"""Rotary embeddings as modules of PyTorch: exact angles, and a rotation to be fused."""

from typing import Any, Literal

import jax
import numpy as np
import torch
from torch import Tensor

from ..._rotary import AbstractRotary, Pairing, Rotary
from ._angles import Angles, computing_dtype
from ._parts import TorchPart
from ._rotate import Layout, rotate


class TorchRotary(TorchPart):
    """A map from positions to what they do to queries and keys."""

    def __init__(self, module: AbstractRotary, rotation: Literal["torch", "jax"]):
        super().__init__(module)
        self._angles = self._axis = None
        self.native = (
            rotation == "torch" and isinstance(module, Rotary) and module.decay is None
        )
        if not isinstance(module, Rotary) or not self.native:
            return
        self._dim, self._scale = module.dim, module.scale
        self._layout: Layout = module.pairing
        if isinstance(module.pairing, Pairing):
            rows = module.pairing
            self._layout = (rows.source, rows.partner, rows.pair, rows.sign)
        turns: Any = module.frequencies.turns()
        if module.axes is not None:
            count = module.frequencies.pairs
            self._coordinates = module.axes.coordinates
            self._axis = module.axes.axis(count).tolist()
            frequency = module.axes.frequency(count)
            turns = jax.tree.map(lambda word: word[..., frequency], turns)
        static = all(isinstance(word, np.ndarray) for word in jax.tree.leaves(turns))
        if static and not module.dynamic and module.arithmetic == "exact":
            self._angles = Angles(turns)

    @property
    def exact(self) -> bool:
        """Whether all of it is PyTorch's own, and the same for every length."""
        return self._angles is not None

    def forward(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> "TorchTurn":
        """**Arguments:**

        - `positions`: [seq, *axes], with or without a batch before it.
        - `length`: what schedules that depend on the context length read; by default
            one more than the largest position of each example.

        **Returns:**

        What to apply to queries and keys, by its methods `queries` and `keys`: worth
        making once for all layers. Its tables are float32, or float64 where that is
        PyTorch's default.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        if not self.native:
            return TorchTurn(self, positions, length)
        cos, sin = self.tables(positions, length=length)
        depth = self._depth(positions)
        if depth and cos.ndim == depth + 2:
            cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
        return TorchRotation(cos, sin, self._dim, self._layout)

    def tables(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The cosine and the sine of each angle, [*batch, *heads, seq, pairs], times
        the scale; of a [`eqx_posemb.Rotary`][] without decay only.

        **Arguments and errors:** as `forward`.
        """
        depth = self._depth(positions)
        if self._angles is None:
            inputs = dict(positions=positions, length=length)
            cos, sin = self._run("tables", dict(positions=depth), **inputs)
            return cos, sin
        if self._axis is not None:
            positions = positions[..., self._axis]
        dtype = computing_dtype(torch.get_default_dtype())
        cos, sin = self._angles(positions, dtype)
        return cos * self._scale, sin * self._scale

    def _depth(self, positions):
        """How many axes of positions are batch."""
        own = 1 if self._axis is None else 2
        wanted = "[*batch, seq]" if own == 1 else f"[*batch, seq, {self._coordinates}]"
        fits = positions.ndim >= own
        if not fits or (own == 2 and positions.shape[-1] != self._coordinates):
            raise ValueError(
                f"`positions` must be of shape {wanted}, but got "
                f"{tuple(positions.shape)}."
            )
        return positions.ndim - own


class TorchTurn:
    """What some positions do to queries and keys, as a value; in JAX."""

    def __init__(
        self, rotary: TorchPart, positions: Tensor, length: int | Tensor | None
    ):
        self._rotary = rotary
        self._inputs = dict(q_positions=positions, length=length)

    def queries(self, q: Tensor) -> Tensor:
        """Queries [*batch, heads, seq, dim], turned; in their dtype, computed in at
        least float32.

        **Raises:** a `ValueError` if the shape does not fit the positions.
        """
        return self._turn("queries", q)

    def keys(self, k: Tensor) -> Tensor:
        """Keys, as `queries`."""
        return self._turn("keys", k)

    def _turn(self, method, x):
        return self._rotary._run(method, q=x, **self._inputs)[0]


class TorchRotation(TorchTurn):
    """The same in PyTorch's own operations."""

    def __init__(self, cos: Tensor, sin: Tensor, dim: int, layout: Layout):
        self.cos = cos
        self.sin = sin
        self.dim = dim
        self.layout = layout

    def _turn(self, method, x):
        seq = self.cos.shape[-2]
        fits = x.ndim >= max(2, self.cos.ndim) and x.shape[-2:] == (seq, self.dim)
        if not (fits and x.is_floating_point()):
            raise ValueError(
                f"`{method[0]}` must be floating point of shape [*batch, heads, seq, "
                f"dim] with seq={seq} and dim={self.dim}, as the positions and the "
                f"rotary embedding have, but got {x.dtype} of shape {tuple(x.shape)}."
            )
        return rotate(x, self.cos, self.sin, self.layout)
