"""Compiles embeddings of all kinds, and what is written in PyTorch, each with
`fullgraph=True`."""

import jax
import torch

import eqx_posemb as pe
from eqx_posemb.interop.torch import as_torch
from tests.torch import in_one_graph
from tests.torch.in_one_graph import check


def main():
    p = torch.arange(9)
    q = torch.randn(2, 4, 9, 16, requires_grad=True)
    k = torch.randn(2, 2, 9, 16)
    rope = as_torch(pe.rope(16))
    check(lambda q, p: rope(p).queries(q), q, p)
    check(lambda q, p: rope(p).queries(q), q, torch.stack([p, p + 1]))
    permuted = as_torch(
        pe.rope(16, pairing=pe.rotations.Pairing.adjacent_to_halves(16))
    )
    check(lambda q, p: permuted(p).queries(q), q, p)
    bundle = as_torch(pe.PositionalEmbedding(rotary=pe.rope(16)))
    check(lambda q, k, p: bundle(q, k, k, p, p, causal=True), q, k, p)
    # The operator that runs in JAX, alone and with a gradient.
    decaying = as_torch(pe.xpos(16))
    check(lambda q, p: decaying(p, length=7).queries(q), q, p)
    bias = as_torch(pe.T5Bias(4, key=jax.random.key(0)))
    compiled = torch.compile(bias, fullgraph=True, backend="aot_eager")
    compiled(p, p).sum().backward()
    # Every pair of positions looks up one row.
    assert bias.weight.grad.sum() == 4 * 9 * 9


if __name__ == "__main__":
    # In one process, as it takes as long to start the compiler as to compile.
    in_one_graph.main()
    main()
