"""Modules under the names that other libraries have."""

import inspect

from torch import nn


class Named(nn.Module):
    """A module that prints the arguments that it was made with, and loads the state
    dicts of the other library."""

    _derived: tuple[str, ...] = ()
    """Buffers of the other library, which follow from the settings here."""

    def __new__(cls, *args, **kwargs):
        """Keeps the arguments. A copy is made without any, and gets those kept."""
        made = super().__new__(cls)
        given = inspect.signature(cls).bind_partial(*args, **kwargs).arguments
        made.__dict__["_arguments"] = given
        return made

    def _load_from_state_dict(self, state_dict, prefix, *args, **kwargs):
        for name in self._derived:
            # Settings determine these buffers, and a strict load would report them as
            # unexpected.
            state_dict.pop(prefix + name, None)
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def extra_repr(self) -> str:
        """The settings."""
        given = self.__dict__["_arguments"]
        return ", ".join(f"{name}={value!r}" for name, value in given.items())
