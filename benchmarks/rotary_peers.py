"""Queries and keys rotated by others, each as its own documentation has it.

Arrays are `[batch, heads, seq, dim]`. What is not installed has no figure.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import torch

from benchmarks.report import Call, compiled


THETA = 10_000.0
Turn = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def transformers_eager(dim: int, seq: int) -> Turn:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import (
        apply_rotary_pos_emb,
        LlamaRotaryEmbedding,
    )

    rotary = LlamaRotaryEmbedding(
        LlamaConfig(
            hidden_size=dim,
            num_attention_heads=1,
            rope_parameters=dict(rope_type="default", rope_theta=THETA),
        )
    )
    positions = torch.arange(seq)[None]

    def turn(q, k):
        return apply_rotary_pos_emb(q, k, *rotary(q, positions))

    return turn


def transformers_compiled(dim: int, seq: int) -> Turn:
    return torch.compile(transformers_eager(dim, seq), dynamic=False)


def rotary_embedding_torch(dim: int, seq: int) -> Turn:
    from rotary_embedding_torch import (  # pyright: ignore[reportMissingImports]
        RotaryEmbedding,
    )

    rotary = RotaryEmbedding(dim=dim, cache_if_possible=False)
    turn = rotary.rotate_queries_or_keys
    return lambda q, k: (turn(q), turn(k))


def x_transformers(dim: int, seq: int) -> Turn:
    from x_transformers.x_transformers import (  # pyright: ignore[reportMissingImports]
        apply_rotary_pos_emb,
        RotaryEmbedding,
    )

    rotary = RotaryEmbedding(dim)

    def turn(q, k):
        angles, _ = rotary.forward_from_seq_len(seq)
        return apply_rotary_pos_emb(q, angles), apply_rotary_pos_emb(k, angles)

    return turn


HALVES = {
    "transformers eager": transformers_eager,
    "transformers compiled": transformers_compiled,
}
ADJACENT = {
    "rotary-embedding-torch": rotary_embedding_torch,
    "x-transformers": x_transformers,
}


def torch_calls(peers, shape, dtype: str, backward: bool) -> dict[str, Call]:
    calls = {}
    for name, make in peers.items():
        try:
            turn = make(shape[-1], shape[-2])
        except ImportError:
            continue
        calls[name] = _torch_call(turn, shape, getattr(torch, dtype), backward)
    return calls


def _torch_call(turn, shape, dtype, backward) -> Call:
    q, k, *gs = (torch.randn(shape).to(dtype) for _ in range(4))
    if not backward:

        def forward():
            with torch.no_grad():
                return turn(q, k)

        return forward
    q.requires_grad_()
    k.requires_grad_()
    return lambda: torch.autograd.grad(turn(q, k), (q, k), gs)


def equinox_call(x, backward: bool) -> Call:
    """Equinox has one layout, `[seq, dim]`, mapped over heads and batch."""
    module = eqx.nn.RotaryPositionalEmbedding(x.shape[-1], THETA)
    turn = lambda x: jax.vmap(jax.vmap(module))(x)

    def both(q, k):
        return turn(q), turn(k)

    def gradient(q, k, *gs):
        out, pull = jax.vjp(both, q, k)
        return out, pull(gs)

    other = jnp.flip(x, axis=-1)
    return (
        compiled(gradient, x, other, x + 1, x) if backward else compiled(both, x, other)
    )
