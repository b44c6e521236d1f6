"""Our rotary embeddings in models of transformers, and theirs back again."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ._patch_biases import patch_alibi, patch_t5
from ._patch_rotations import patch_rotation, PatchedRotation


class Patch:
    """What [`eqx_posemb.interop.torch.patch_rotary`][] did, and how to undo it.

    As a context manager it undoes it at the end; `remove` does so at any time.

    !!! Example

        ```python
        from transformers import LlamaConfig, LlamaModel
        from eqx_posemb.interop.torch import patch_rotary

        sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2)
        patch = patch_rotary(LlamaModel(LlamaConfig(num_hidden_layers=1, **sizes)))
        assert patch.patched == ("rotary_emb",) and not patch.left
        patch.remove()
        ```
    """

    patched: tuple[str, ...]
    """The names of the modules that are ours now."""
    left: dict[str, str]
    """The names of those that are as they were, each with the reason."""

    def __init__(self, undo: dict[str, Callable[[], None]], left: dict[str, str]):
        self._undo = undo
        self.patched = tuple(undo)
        self.left = left

    def remove(self) -> None:
        """Puts back what was there. A second time does nothing."""
        while self._undo:
            self._undo.popitem()[1]()

    def __enter__(self) -> "Patch":
        return self

    def __exit__(self, *_: Any) -> None:
        self.remove()

    def __repr__(self) -> str:
        return f"Patch(patched={self.patched}, left={self.left})"


def patch_rotary(model: nn.Module) -> Patch:
    """Puts our embedding into a model of transformers, in place of its own.

    The tables of its rotary embeddings come from exact angles then: right to 2e-7 at
    every position, where those of transformers are off by up to 0.008 at position
    131,072 and 0.06 at a million. T5's and Bloom's biases are replaced as well. Weights
    and the state dict stay. [`eqx_posemb.interop.huggingface.load`][] reads the
    configuration of each module.

    A module is replaced where ours has the numbers of a fresh one of its class at short
    positions. Any other is left alone, and listed in `left` with the reason.

    !!! Example

        ```python
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM
        from eqx_posemb.interop.torch import patch_rotary

        sizes = dict(hidden_size=32, intermediate_size=32, num_attention_heads=2)
        config = LlamaConfig(vocab_size=50, num_hidden_layers=1, **sizes)
        model = LlamaForCausalLM(config)
        tokens = torch.arange(10)[None]
        before = model(tokens).logits
        with patch_rotary(model) as patch:
            assert patch.patched == ("model.rotary_emb",)
            torch.testing.assert_close(model(tokens).logits, before)
        ```

    **Returns:** a handle: `remove()` undoes it, and so does the end of a `with`.

    **Raises:** a `ValueError` if the model is patched already, or if nothing of it can
    be replaced.
    """
    modules = dict(model.named_modules())
    if any(isinstance(module, PatchedRotation) for module in modules.values()):
        raise ValueError(
            "`model` must be as transformers made it, but it is patched already. Call "
            "`remove` of the handle first."
        )
    undo, left = {}, {}
    for name, module in modules.items():
        for wanted, patch in _PATCHES:
            if not wanted(module):
                continue
            try:
                with torch.no_grad():
                    undo[name] = patch(model, name, module)
            except (ValueError, TypeError, AttributeError) as error:
                left[name] = str(error)
    if not undo:
        reasons = "; ".join(f"{name}: {why}" for name, why in left.items())
        raise ValueError(
            "`model` must have a rotary embedding, or T5's or Bloom's bias, that can "
            f"be replaced, but got {type(model).__name__} with {reasons or 'none'}."
        )
    return Patch(undo, left)


_PATCHES = (
    (lambda module: "Rotary" in type(module).__name__, patch_rotation),
    (lambda module: hasattr(module, "relative_attention_bias"), patch_t5),
    (lambda module: hasattr(module, "build_alibi_tensor"), patch_alibi),
)
