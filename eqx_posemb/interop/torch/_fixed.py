"""Numbers that follow from settings alone, where a module has them."""

import numpy as np
import torch
from jaxtyping import Shaped
from torch import nn, Tensor


class Fixed(nn.Module):
    """Holds numbers on the device of a module, and out of its parameters and state.

    They keep their dtype under `.half()` and `.double()`, and have their values again
    after `to_empty`, which brings a module from the meta device and leaves rubbish.
    """

    values: Shaped[Tensor, "..."]

    def __init__(self, values: Shaped[np.ndarray, "..."]):
        super().__init__()
        self._host = values
        self.register_buffer("values", torch.tensor(values), persistent=False)

    def _apply(self, fn, recurse=True):
        super()._apply(fn, recurse)
        self.values = torch.tensor(self._host, device=self.values.device)
        return self

    def forward(self) -> Shaped[Tensor, "..."]:
        return self.values
