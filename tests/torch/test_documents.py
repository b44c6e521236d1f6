"""The usage examples of the libraries whose names we have, as their documents print
them: after the line of the import, with a line mended that the text broke, and on the
device that there is."""

import pytest
import torch


DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
XPOS = """
import torch
from zeta.nn import XPOS

# Create an XPOS instance
xpos = XPOS(head_dim=256, scale_base=512)

# Apply positional embeddings to an input tensor
input_tensor = torch.rand(16, 32, 256)  # Example input tensor
output = xpos(input_tensor, offset=0, downscale=False)
"""
FUNCTIONS = """
import torch
from zeta.nn import (
    apply_rotary_pos_emb,
    duplicate_interleave,
    fixed_pos_embedding,
    rotate_every_two,
)

# Generate fixed positional embeddings
input_tensor = torch.rand(32, 512)  # Example input tensor
sin, cos = fixed_pos_embedding(input_tensor)

# Rotate every two elements in a tensor
input_tensor = torch.rand(16, 64, 256)  # Example input tensor
output_tensor = rotate_every_two(input_tensor)

# Duplicate and interleave a matrix
input_matrix = torch.rand(8, 8)  # Example input matrix
duplicated_matrix = duplicate_interleave(input_matrix)
"""
CONTRADICTION = """
# Apply rotary positional embeddings
input_tensor = torch.rand(16, 32, 256)  # Example input tensor
output_tensor = apply_rotary_pos_emb(input_tensor, sin, cos, scale=1)
"""
ROTARY = """
import torch
from torch import nn
from zeta.nn import RotaryEmbedding
# Initialize the RotaryEmbedding module
rotary_embedding = RotaryEmbedding({settings})
# Compute the embeddings for a sequence of length 10
seq_len = 10
device = torch.device("cuda")
freqs, scale = rotary_embedding(seq_len, device)
print(freqs)
print(scale)
"""
YARN = """
import torch

from zeta.nn import YarnEmbedding

# Create an instance of YarnEmbedding
yarn_embedding = YarnEmbedding(dim=256, max_position_embeddings=2048)

# Apply positional embeddings to an input tensor
input_tensor = torch.rand(16, 32, 256)  # Example input tensor
output = yarn_embedding(input_tensor, seq_len=32)
"""
HELPERS = """
from zeta.nn import find_correction_dim, find_correction_range, linear_ramp_mask, get_mscale
import torch

# Calculate correction dimension
correction_dim = find_correction_dim(num_rotations=8, dim=256, base=10000, max_position_embeddings=2048)

# Calculate correction range
low, high = find_correction_range(low_rot=16, high_rot=32, dim=256, base=10000, max_position_embeddings=2048)

# Generate linear ramp mask
ramp_mask = linear_ramp_mask(min=0.2, max=0.8, dim=128)

# Calculate mscale
mscale = get_mscale(scale=2.0)
"""  # noqa: E501


def run(example):
    code = example.replace("zeta.nn", "eqx_posemb.interop.torch")
    names = {}
    exec(code.replace('device("cuda")', f'device("{DEVICE}")'), names)
    return names


def test_xpos():
    names = run(XPOS)
    assert names["output"].shape == names["input_tensor"].shape


def test_the_functions_of_xpos():
    names = run(FUNCTIONS)
    assert names["sin"].shape == names["cos"].shape == (32, 512)
    assert names["output_tensor"].shape == (16, 64, 256)
    assert names["duplicated_matrix"].shape == (8, 16)


def test_an_example_with_tables_of_another_width_says_which_to_give():
    with pytest.raises(
        ValueError,
        match=r"column for each pair.*\[32, 128\].*each channel, \[32, 256\], but got "
        r"\[32, 512\].*`fixed_pos_embedding` makes a column for each pair",
    ):
        run(FUNCTIONS + CONTRADICTION)


@pytest.mark.parametrize(
    "settings, grows",
    [
        ("dim=64, use_xpos=True", True),
        ("dim=64, use_xpos=True, scale_base=1024", True),
        ("dim=64, use_xpos=False", False),
    ],
)
def test_rotary_embedding(settings, grows):
    names = run(ROTARY.format(settings=settings))
    assert names["freqs"].shape == (10, 64)
    assert names["freqs"].device.type == DEVICE
    if grows:
        assert names["scale"].shape == (10, 64)
        assert names["scale"].device.type == DEVICE
    else:
        assert names["scale"] == 1.0


def test_yarn_embedding():
    names = run(YARN)
    assert names["output"].shape == names["input_tensor"].shape
    assert not torch.equal(names["output"], names["input_tensor"])


def test_the_helpers_of_yarn():
    names = run(HELPERS)
    assert names["low"] < names["correction_dim"] < 52
    assert names["low"] < names["high"]
    assert names["ramp_mask"].tolist() == [0.0] + [1.0] * 127
    assert names["mscale"] > 1
