"""Embeddings as modules of PyTorch, and conversions of their parameters."""

import functools
import operator
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import nn, Tensor

from ..._attention import reach_of, Window
from ..._bias import AbstractBias
from ..._bundle import PositionalEmbedding
from ..._checks import check_choice
from ..._encoding import AbstractEncoding
from ..._rotary import AbstractProducts, AbstractRotary
from ..._score import AbstractScore
from ._angles import as_positions, check_tensor
from ._operator import leaves_of, name_of, to_array
from ._parts import TorchExtension, TorchPart, TorchRotary, TorchTerm


_Module = TypeVar("_Module", bound=eqx.Module)


def as_torch(
    module: eqx.Module, *, rotation: Literal["torch", "jax"] = "torch"
) -> TorchPart:
    """Turns an embedding into a `torch.nn.Module` with the same methods on tensors.

    Its arrays become parameters, with the paths of the leaves as their names:
    `bias.weight`, `rotary.parts.0.generator`. It computes in at least float32. Batch
    axes come first. A whole [`eqx_posemb.PositionalEmbedding`][] has `embed`, `logits`
    and `attend`, and its parts in `encoding`, `rotary`, `bias` and `score`.

    Rotations use PyTorch operations with exact angles. Attention without a bias or a
    score uses `scaled_dot_product_attention`. `torch.compile(fullgraph=True)` fuses
    both. Everything else runs in JAX, as one opaque operator, which JAX compiles for
    each new shape. It supports autograd of any order and `torch.vmap`, but not
    `torch.func.grad`. Contiguous tensors share their memory with JAX.

    !!! Example

        ```python
        import jax
        import torch
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import as_torch

        at, q = torch.arange(10), torch.randn(2, 8, 10, 64)  # [batch, heads, seq, dim]
        q = as_torch(pe.rope(64))(at).queries(q)
        bias = as_torch(pe.T5Bias(8, key=jax.random.key(0)))
        bias(at, at).sum().backward()
        ```

    **Arguments:**

    - `module`: An encoding, rotary embedding, bias or score, or a whole
        [`eqx_posemb.PositionalEmbedding`][].
    - `rotation`: `"torch"`, or `"jax"` to run rotations in JAX as well. Rotary
        embeddings beyond a plain rotation, such as xPos and LieRE, always run in JAX.

    **Returns:** a `torch.nn.Module` with its own parameters, which
    [`eqx_posemb.interop.torch.from_torch`][] converts back.

    **Raises:** a `ValueError` if `module` has another type, or `rotation` is unknown.
    """
    check_choice("rotation", rotation, ("torch", "jax"))
    if isinstance(module, PositionalEmbedding):
        return TorchEmbedding(module, rotation)
    if isinstance(module, AbstractRotary):
        return TorchRotary(module, rotation)
    if isinstance(module, AbstractProducts):
        return TorchExtension(module)
    if isinstance(module, AbstractEncoding | AbstractBias | AbstractScore):
        return TorchTerm(module)
    raise ValueError(
        "`module` must be an encoding, a rotary embedding, a bias, a score or a "
        f"PositionalEmbedding, but got {type(module).__name__}."
    )


def from_torch(module: _Module, state: Mapping[str, Any] | nn.Module) -> _Module:
    """Copies a state dict, or the parameters of a `torch.nn.Module`, into `module`.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import as_torch, from_torch

        bias = pe.KERPLE(4, key=jax.random.key(0))
        bias = from_torch(bias, as_torch(bias))
        ```

    **Returns:** a module with its own arrays, in the dtypes of the arrays in `module`.

    **Raises:** a `ValueError` if a name is missing or unknown, or if a tensor has
    another shape or a dtype that does not fit.
    """
    if isinstance(state, nn.Module):
        state = state.state_dict()
    wanted = leaves_of(module)
    if wanted.keys() != state.keys():
        raise ValueError(
            f"`state` must have the names {', '.join(sorted(wanted)) or 'none'}, but "
            f"got {', '.join(sorted(state)) or 'none'}."
        )
    arrays = {name: _fitting(name, leaf, state[name]) for name, leaf in wanted.items()}
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: arrays.get(name_of(path), leaf), module
    )


def _fitting(name, leaf, tensor):
    shape, there = tuple(tensor.shape), getattr(torch, leaf.dtype.name)
    if shape != leaf.shape:
        raise ValueError(f"`{name}` must have shape {leaf.shape}, but got {shape}.")
    # A tensor on the meta device has a shape and no memory to read.
    if tensor.is_meta:
        raise ValueError(
            f"`{name}` must have values, but got a tensor on the meta device. Use "
            "`to_empty` and `load_state_dict` before."
        )
    # A cast to a narrower dtype would silently round weights.
    if torch.promote_types(tensor.dtype, there) != there:
        raise ValueError(
            f"`{name}` must fit into {leaf.dtype}, but got {tensor.dtype}. Round it "
            f"with `.to({there})`."
        )
    # A copy is needed, since PyTorch's optimizer goes on writing into the tensor.
    return jnp.array(to_array(tensor), dtype=leaf.dtype, copy=True)


class TorchEmbedding(TorchPart):
    """A `PositionalEmbedding` for tensors of PyTorch, whose slots are its parts or
    `None`. Positions, masks and segments may lack the batch, which comes first."""

    rotary: TorchPart | None
    encoding: TorchPart | None

    def __init__(self, module: PositionalEmbedding, rotation: Literal["torch", "jax"]):
        super().__init__(module)
        for name in "encoding", "rotary", "bias", "score":
            part = getattr(module, name)
            made = None if part is None else as_torch(part, rotation=rotation)
            setattr(self, name, made)
        self._scale = module.scale
        native = isinstance(self.rotary, TorchRotary) and self.rotary.exact
        # Biases and scores run in JAX, so PyTorch's attention serves rotations alone.
        self._native = native and module.bias is module.score is None

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Adds the encoding of positions [seq, *axes], with or without the batch, to
        tokens [*batch, seq, dim], in their dtype."""
        if self.encoding is None:
            return x
        return self._run("embed", x=x, positions=positions)[0]

    def logits(
        self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor, **others
    ) -> Tensor:
        """[`eqx_posemb.PositionalEmbedding.logits`][] after the batch, [*batch, heads,
        q, k], in the dtype of `q`."""
        at = dict(q_positions=q_positions, k_positions=k_positions)
        return self._run("logits", q=q, k=k, **at, **others)[0]

    def attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        q_positions: Tensor,
        k_positions: Tensor,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        window: Window | None = None,
        q_segments: Tensor | None = None,
        k_segments: Tensor | None = None,
        length: int | Tensor | None = None,
        implementation: str = "auto",
        **others: Any,
    ) -> Tensor:
        """Softmax attention over the finished logits, [*batch, heads, q, dim_v], in the
        dtype of `v`. A fully masked query has zeros.

        **Arguments:** as in [`eqx_posemb.PositionalEmbedding.attend`][], after the
        batch, except for:

        - `mask`: [q, k], or [*batch, heads, q, k], where heads may be 1.
        - `implementation`: With `"auto"`, a plain rotation uses PyTorch's
            `scaled_dot_product_attention`, which has no second derivatives. All other
            embeddings run in JAX. `"dense"` and `"blockwise"` always run in JAX.
        """
        for name, x in ("q", q), ("k", k), ("v", v):
            check_tensor(name, x)
        at = dict(q_positions=q_positions, k_positions=k_positions)
        rules = dict(mask=mask, causal=bool(causal), window=window)
        rules |= dict(q_segments=q_segments, k_segments=k_segments)
        plain = implementation == "auto" and all(x is None for x in others.values())
        # PyTorch's attention requires one dtype, and attention in JAX promotes dtypes.
        plain = plain and q.dtype == k.dtype == v.dtype and q.ndim > 2
        if self.rotary is not None and self._native and plain:
            # Exact angles are the same for every length.
            return torch.nn.functional.scaled_dot_product_attention(
                self.rotary(q_positions).queries(q),
                self.rotary(k_positions).keys(k),
                v,
                attn_mask=_seen(q.ndim - 3, **at, **rules),
                scale=self._scale,
                enable_gqa=q.shape[-3] != k.shape[-3],
            )
        if mask is not None and mask.ndim > 2:
            # PyTorch's masks may have one head for all, and JAX's attention takes all
            # heads.
            heads = (*mask.shape[:-3], q.shape[-3], *mask.shape[-2:])
            rules["mask"] = mask.expand(heads)
        others |= dict(at, **rules, length=length, implementation=implementation)
        return self._run("attend", q=q, k=k, v=v, **others)[0]

    forward = attend


def _seen(
    batch, q_positions, k_positions, mask, causal, window, q_segments, k_segments
) -> Tensor | None:
    """The conjunction of all rules, to be broadcast to [*batch, heads, q, k]; `None` if
    there is no rule."""
    seen = []
    if causal or window is not None:
        if q_positions.ndim > 1 + batch:
            raise ValueError(
                "`causal` and `window` compare positions of shape [*batch, seq], but "
                f"got {tuple(q_positions.shape)}, which has no order. Use `mask`."
            )
        q_positions = as_positions(q_positions, "q_positions")
        k_positions = as_positions(k_positions, "k_positions")
        delta = k_positions[..., None, :] - q_positions[..., None]
        if causal:
            seen.append(delta <= 0)
        if window is not None:
            back, ahead = reach_of(window)
            seen.append((-back <= delta) & (delta <= ahead))
    if (q_segments is None) != (k_segments is None):
        raise ValueError(
            "`q_segments` and `k_segments` go together, but got only one. In "
            "self-attention both are the same tensor."
        )
    if q_segments is not None:
        seen.append(q_segments[..., None] == k_segments[..., None, :])
    # A rule with a batch needs an axis for heads, over which it broadcasts.
    seen = [each.unsqueeze(-3) if each.ndim > 2 else each for each in seen]
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(
                "`mask` must be boolean, True where a query attends to a key, but got "
                f"{mask.dtype}. Add numbers to logits by a bias."
            )
        seen.append(mask)
    return functools.reduce(operator.and_, seen) if seen else None
