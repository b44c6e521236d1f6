"""Compiles everything that is written in PyTorch, each with `fullgraph=True`."""

import torch

import eqx_posemb as pe
from eqx_posemb.interop import torch as pt
from eqx_posemb.interop.torch._angles import Angles, rotate


def main():
    angles = Angles(pe.frequencies.Geometric(8).turns())
    x = torch.randn(2, 7, 8)
    positions = torch.tensor([0, 1, -1, 131_072, 10**6, 2**31 - 1, -(2**31)])

    def turned(x, positions):
        cos, sin = angles(positions)
        return rotate(x, cos, sin, "halves"), rotate(x, cos, sin, "adjacent")

    check(turned, x, positions)
    rotary = pt.RotaryEmbedding(8)
    for module in (
        pt.XPOS(8),
        pt.XPOS(),
        pt.YarnEmbedding(8),
        # Stretched by what the length needs.
        pt.YarnEmbedding(8, 4, original_max_position_embeddings=4),
        lambda x: rotary(x.shape[1], x.device)[0],
        lambda x: pt.fixed_pos_embedding(x[0]),
    ):
        check(module, x)
    q, at = torch.randn(1, 2, 5, 4), torch.arange(5)
    shape = dict(num_heads=2, head_dim=4)
    for module in (
        pt.SinusoidalPositionalEmbedding(embed_dim=8),
        pt.LearnedPositionalEmbedding(max_length=8, embed_dim=8),
        pt.TransformerXLPositionalEmbedding(embed_dim=8, clamp_len=2, **shape),
        pt.T5PositionalEmbedding(num_heads=2),
        pt.TUPE(embed_dim=8, num_heads=2, max_length=8, has_cls_token=True),
        pt.EnformerPositionalEmbedding(max_length=8, **shape),
    ):
        check(module.forward_attn, q, q, at, at)
        check(module.forward_input, torch.randn(1, 5, 8), at)


def check(function, *args):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    # Angles that differ by a rounding or two, in channels of up to 4 and in pairs.
    torch.testing.assert_close(compiled(*args), function(*args), atol=2e-6, rtol=0)
