"""How modules of PyTorch print their settings."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn


class Shown(nn.Module):
    """A module that prints the arguments that it was made with."""

    _arguments: Mapping[str, Any]

    def __new__(cls, *args, **kwargs):
        """Keeps the arguments. A copy is made without any, and gets those kept."""
        made = super().__new__(cls)
        given = inspect.signature(cls).bind_partial(*args, **kwargs).arguments
        made.__dict__["_arguments"] = given
        return made

    def extra_repr(self) -> str:
        """The settings."""
        return ", ".join(f"{name}={x!r}" for name, x in self._arguments.items())
