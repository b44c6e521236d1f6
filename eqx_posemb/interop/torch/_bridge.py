"""Any embedding of ours as a module of PyTorch, and its parameters both ways."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import torch
from torch import nn, Tensor

from ..._bias import AbstractBias
from ..._bundle import PositionalEmbedding
from ..._checks import check_choice
from ..._encoding import AbstractEncoding
from ..._rotary import AbstractExtension, AbstractRotary
from ..._score import AbstractScore
from ._embedding import TorchEmbedding
from ._memory import copy_of, to_array
from ._parts import leaves_of, TorchExtension, TorchPart, TorchTerm
from ._programs import name_of
from ._rotations import TorchRotary


_Module = TypeVar("_Module", bound=eqx.Module)


def as_torch(
    module: eqx.Module, *, rotation: Literal["torch", "jax"] = "torch"
) -> TorchPart:
    """Turns an embedding into a `torch.nn.Module` that does the same on tensors.

    Its arrays become parameters, with the paths of the leaves as their names:
    `bias.weight`, `rotary.parts.0.generator`. There are no buffers; and computed is in
    at least float32, whatever parameters are stored as. Its methods are those of the
    JAX module, with leading batch axes where PyTorch has them. A whole
    [`eqx_posemb.PositionalEmbedding`][] has `embed`, `logits` and `attend`, and its
    parts in `encoding`, `rotary`, `bias` and `score`.

    Rotations are made of PyTorch's own operations, with our exact angles, and attention
    that needs no more than them is `scaled_dot_product_attention`: so
    `torch.compile(fullgraph=True)` fuses them. All else runs in JAX, as one operator
    that the compiler takes as it is, with derivatives of any order by PyTorch's
    autograd, and with `torch.vmap` (not `torch.func.grad`). Memory is shared, not
    copied, where tensors are contiguous. Each new shape is compiled by JAX anew.

    !!! Example

        ```python
        import jax
        import torch
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import as_torch

        rope = as_torch(pe.rope(64))
        rotation = rope(torch.arange(10))
        q = rotation.queries(torch.randn(2, 8, 10, 64))  # [batch, heads, seq, dim]

        bias = as_torch(pe.T5Bias(8, key=jax.random.key(0)))
        positions = torch.arange(10)
        bias(positions, positions).sum().backward()
        assert bias.weight.grad.shape == (32, 8)
        ```

    On a GPU both libraries want its memory: set `XLA_PYTHON_CLIENT_PREALLOCATE=false`
    before the first import of JAX.

    **Arguments:**

    - `module`: An encoding, rotary embedding, bias or score, or a whole
        [`eqx_posemb.PositionalEmbedding`][].
    - `rotation`: `"torch"`, or `"jax"` to have rotations run there, too, for
        comparison. Rotary embeddings that are more than a rotation, such as xPos, PoPE
        and LieRE, do so anyway.

    **Returns:** a `torch.nn.Module` of its own: what is trained in it does not change
    `module`. [`eqx_posemb.interop.torch.from_torch`][] brings it back.

    **Raises:** a `ValueError` if `module` is none of those, or `rotation` is unknown.
    """
    check_choice("rotation", rotation, ("torch", "jax"))
    if isinstance(module, PositionalEmbedding):
        slots = {
            name: as_torch(part, rotation=rotation)
            for name in ("encoding", "rotary", "bias", "score")
            if (part := getattr(module, name)) is not None
        }
        return TorchEmbedding(module, slots)
    if isinstance(module, AbstractRotary):
        return TorchRotary(module, rotation)
    if isinstance(module, AbstractExtension):
        return TorchExtension(module)
    at = "q_positions", "k_positions"
    for kind, names in (
        (AbstractEncoding, ("positions",)),
        (AbstractBias, at),
        (AbstractScore, ("q", "k", *at)),
    ):
        if isinstance(module, kind):
            return TorchTerm(module, names)
    raise ValueError(
        "`module` must be an encoding, a rotary embedding, a bias, a score or a "
        f"PositionalEmbedding, but got {type(module).__name__}."
    )


def to_torch(module: eqx.Module) -> dict[str, Tensor]:
    """The parameters of a module, as a state dict of PyTorch.

    !!! Example

        ```python
        import jax
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import as_torch, to_torch

        learned = pe.Learned(8, 4, key=jax.random.key(0))
        state = to_torch(learned)
        assert list(state) == ["weight"]
        as_torch(learned).load_state_dict(state)
        ```

    **Returns:** a tensor, with memory of its own, for each array; named by the path of
    the leaf in dots, as in [`eqx_posemb.interop.torch.as_torch`][].
    """
    return {name: copy_of(leaf) for name, leaf in leaves_of(module).items()}


def from_torch(module: _Module, state: Mapping[str, Any] | nn.Module) -> _Module:
    """The module with the parameters of a state dict of PyTorch.

    !!! Example

        ```python
        import jax
        import torch
        import eqx_posemb as pe
        from eqx_posemb.interop.torch import as_torch, from_torch

        bias = pe.KERPLE(4, key=jax.random.key(0))
        trained = as_torch(bias)
        torch.nn.init.ones_(trained.raw_a)
        assert (from_torch(bias, trained).raw_a == 1).all()
        ```

    `state` has a tensor for each parameter, by its name, or is a `torch.nn.Module` that
    has them, such as that of [`eqx_posemb.interop.torch.as_torch`][].

    **Returns:** a module with arrays of its own, in the dtypes of those in `module`.

    **Raises:** a `ValueError` if a name is missing or unknown, or a tensor has another
    shape, or a dtype that does not fit into that of the array.
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
    if tuple(tensor.shape) != leaf.shape:
        raise ValueError(
            f"`{name}` must have shape {leaf.shape}, but got {tuple(tensor.shape)}."
        )
    if tensor.is_meta:
        raise ValueError(
            f"`{name}` must have values, but got a tensor on the meta device. Use "
            "`to_empty` and `load_state_dict` before."
        )
    there = getattr(torch, leaf.dtype.name)
    if torch.promote_types(tensor.dtype, there) != there:
        raise ValueError(
            f"`{name}` must fit into {leaf.dtype}, but got {tensor.dtype}. Round it "
            f"with `.to({there})`."
        )
    # A copy: the optimiser of PyTorch goes on writing into the tensor.
    return jnp.array(to_array(tensor), dtype=leaf.dtype, copy=True)
