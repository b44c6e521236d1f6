"""State dicts of the libraries whose names we have."""

import functools

from torch import nn


def ignore(module: nn.Module, *names: str) -> None:
    """Lets a module load a state dict with buffers that follow from its settings, and
    that it does not have."""
    module.register_load_state_dict_pre_hook(functools.partial(_drop, names))


# Of the module, so that hooks can be pickled.
def _drop(names, module, state, prefix, *rest):
    for name in names:
        state.pop(prefix + name, None)
