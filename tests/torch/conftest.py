"""How tests of PyTorch run: on one thread."""

import torch


# Tensors are small here: more threads would wait for each other, which is work as well.
torch.set_num_threads(1)
