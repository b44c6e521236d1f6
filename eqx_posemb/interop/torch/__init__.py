"""Positional embeddings for PyTorch: under names that are known, and any of ours."""

from ...functional import (
    find_correction_dim as find_correction_dim,
    find_correction_range as find_correction_range,
    get_mscale as get_mscale,
)
from ._bridge import (
    as_torch as as_torch,
    from_torch as from_torch,
)
from ._functions import (
    apply_rotary_pos_emb as apply_rotary_pos_emb,
    duplicate_interleave as duplicate_interleave,
    fixed_pos_embedding as fixed_pos_embedding,
    linear_ramp_mask as linear_ramp_mask,
    rotate_every_two as rotate_every_two,
)
from ._parts import to_torch as to_torch
from ._patch import Patch as Patch, patch_rotary as patch_rotary
from ._positional import (
    LearnedPositionalEmbedding as LearnedPositionalEmbedding,
    SinusoidalPositionalEmbedding as SinusoidalPositionalEmbedding,
)
from ._relative import (
    EnformerPositionalEmbedding as EnformerPositionalEmbedding,
    T5PositionalEmbedding as T5PositionalEmbedding,
    TransformerXLPositionalEmbedding as TransformerXLPositionalEmbedding,
    TUPE as TUPE,
)
from ._zeta import (
    RotaryEmbedding as RotaryEmbedding,
    XPOS as XPOS,
    YarnEmbedding as YarnEmbedding,
)


# The original package exports `TUPE`, and its documentation has this name.
UnifiedPositionalEmbedding = TUPE
