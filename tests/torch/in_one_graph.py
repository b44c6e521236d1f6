"""Compiles everything that is written in PyTorch, each with `fullgraph=True`."""

import torch

import eqx_posemb as pe
from eqx_posemb.interop.torch._angles import Angles
from eqx_posemb.interop.torch._rotate import rotate


def main():
    angles = Angles(pe.Geometric(8).turns())
    x = torch.randn(2, 7, 8)
    positions = torch.tensor([0, 1, -1, 131_072, 10**6, 2**31 - 1, -(2**31)])

    def turned(x, positions):
        cos, sin = angles(positions)
        return rotate(x, cos, sin, "halves"), rotate(x, cos, sin, "adjacent")

    check(turned, x, positions)


def check(function, *args):
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    # Angles that differ by a rounding or two, in channels of up to 4 and in pairs.
    torch.testing.assert_close(compiled(*args), function(*args), atol=2e-6, rtol=0)


if __name__ == "__main__":
    main()
