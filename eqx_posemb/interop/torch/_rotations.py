"""Rotary embeddings as modules of PyTorch: exact angles, and a rotation to be fused."""

from typing import Any, Literal

import jax
import numpy as np
import torch
from torch import Tensor

from ..._rotary import AbstractRotary, Pairing, Rotary
from ._angles import Angles, computing_dtype
from ._parts import depths_of, scalar, TorchPart
from ._rotate import Layout, rotate


class TorchRotary(TorchPart):
    """A map from positions to what they do to queries and keys."""

    def __init__(self, module: AbstractRotary, rotation: Literal["torch", "jax"]):
        super().__init__(module)
        self._angles: Angles | None = None
        self._axis = self._coordinates = None
        self.native = (
            rotation == "torch" and isinstance(module, Rotary) and module.decay is None
        )
        if not isinstance(module, Rotary) or not self.native:
            return
        self._dim, self._scale = module.dim, module.scale
        self._layout: Any = module.pairing
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
        if is_static(module):
            self._angles = Angles(turns)

    @property
    def exact(self) -> bool:
        """Whether all of it is PyTorch's own, and the same for every length."""
        return self._angles is not None

    def forward(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> "TorchRotation | TorchTurn":
        """**Arguments:**

        - `positions`: [seq, *axes], with or without a batch before it.
        - `length`: what schedules that depend on the context length read; by default
            one more than the largest position of each example.

        **Returns:**

        What to apply to queries and keys, by its methods `queries` and `keys`. The
        tables are float32, or float64 where that is PyTorch's default.

        **Raises:** a `ValueError` if `positions` has another shape.
        """
        if not self.native:
            return TorchTurn(self, positions, length)
        cos, sin = self.tables(positions, length=length)
        depth = positions.ndim - (1 if self._axis is None else 2)
        if depth and cos.ndim == depth + 2:
            cos, sin = cos.unsqueeze(-3), sin.unsqueeze(-3)
        return TorchRotation(cos, sin, self._dim, self._layout)

    def tables(
        self, positions: Tensor, *, length: int | Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The cosine and the sine of each angle, [*batch, *heads, seq, pairs], times
        the scale; of a [`eqx_posemb.Rotary`][] without decay only.

        **Arguments:** as `forward`.

        **Raises:** as `forward`.
        """
        self._check(positions)
        if self._angles is None:
            depths = dict(positions=positions.ndim - (1 if self._axis is None else 2))
            inputs = dict(positions=positions, length=scalar(length, positions))
            cos, sin = self._run("tables", inputs, depths)
            return cos, sin
        if self._axis is not None:
            positions = positions[..., self._axis]
        dtype = computing_dtype(torch.get_default_dtype())
        cos, sin = self._angles(positions, dtype)
        if self._scale != 1:
            cos, sin = cos * self._scale, sin * self._scale
        return cos, sin

    def _check(self, positions):
        if self._coordinates is None:
            wanted, fits = "[*batch, seq]", positions.ndim >= 1
        else:
            wanted = f"[*batch, seq, {self._coordinates}]"
            fits = positions.ndim >= 2 and positions.shape[-1] == self._coordinates
        if not fits:
            raise ValueError(
                f"`positions` must be of shape {wanted}, but got "
                f"{tuple(positions.shape)}."
            )


class TorchRotation:
    """The rotation of some positions, as a value: worth making once for all layers."""

    def __init__(self, cos: Tensor, sin: Tensor, dim: int, layout: Layout | tuple):
        self.cos = cos
        self.sin = sin
        self.dim = dim
        self.layout: Any = layout

    def queries(self, q: Tensor) -> Tensor:
        """**Arguments:**

        - `q`: queries, [*batch, heads, seq, dim].

        **Returns:**

        The rotated queries, in the dtype of `q`; computed in at least float32.

        **Raises:** a `ValueError` if the shape does not fit the positions.
        """
        return self._turn(q, "q")

    def keys(self, k: Tensor) -> Tensor:
        """**Arguments:**

        - `k`: keys, [*batch, heads, seq, dim].

        **Returns:**

        The rotated keys, in the dtype of `k`; computed in at least float32.

        **Raises:** as `queries`.
        """
        return self._turn(k, "k")

    def _turn(self, x, name):
        seq = self.cos.shape[-2]
        fits = x.ndim >= max(2, self.cos.ndim) and x.shape[-2:] == (seq, self.dim)
        if not (fits and x.is_floating_point()):
            raise ValueError(
                f"`{name}` must be floating point of shape [*batch, heads, seq, dim] "
                f"with seq={seq} and dim={self.dim}, as the positions and the rotary "
                f"embedding have, but got {x.dtype} of shape {tuple(x.shape)}."
            )
        if isinstance(self.layout, tuple):
            return _apply(self.layout, x, self.cos, self.sin)
        return rotate(x, self.cos, self.sin, self.layout)


class TorchTurn:
    """The same in JAX, where queries and keys are given."""

    def __init__(
        self, rotary: TorchPart, positions: Tensor, length: int | Tensor | None
    ):
        self.rotary = rotary
        self.positions = positions
        self.length = length

    def queries(self, q: Tensor) -> Tensor:
        """**Arguments:**

        - `q`: queries, [*batch, heads, seq, dim].

        **Returns:**

        What to multiply keys by, in the dtype of `q`.
        """
        return self._turn("queries", q)

    def keys(self, k: Tensor) -> Tensor:
        """**Arguments:**

        - `k`: keys, [*batch, heads, seq, dim].

        **Returns:**

        What to multiply queries by, in the dtype of `k`.
        """
        return self._turn("keys", k)

    def _turn(self, method, x):
        depths = depths_of(dict(q=x, q_positions=self.positions))
        inputs = dict(x=x, positions=self.positions, length=scalar(self.length, x))
        depths = dict(x=depths["q"], positions=depths["q_positions"])
        return self.rotary._run(method, inputs, depths)[0]


def is_static(module: Rotary) -> bool:
    """Whether its angles are exact, and the same for every length."""
    words = jax.tree.leaves(module.frequencies.turns())
    static = all(isinstance(word, np.ndarray) for word in words)
    return static and not module.dynamic and module.arithmetic == "exact"


def _apply(layout, x, cos, sin):
    # A select and not a product with one: channels that pass through keep even the
    # sign of their zeros.
    dtype = computing_dtype(x.dtype)
    wide, cos, sin = x.to(dtype), cos.to(dtype), sin.to(dtype)
    source, partner, pair, sign = (torch.tensor(row, device=x.device) for row in layout)
    turned = wide[..., source] * cos[..., pair]
    turned = turned + sign * wide[..., partner] * sin[..., pair]
    return torch.where(sign == 0, wide[..., source], turned).to(x.dtype)
