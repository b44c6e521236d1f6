"""The pure functions under the modules, by the names that other libraries have.

These functions serve users who keep settings and parameters in their own arrays. They
call the code of the modules on explicit positions, and cache nothing. `jax.jit`,
`jax.vmap` and `jax.grad` apply as to any function.
"""

from .._score._shaw import shaw_values as shaw_values
from ._equinox import (
    embedding as embedding,
    rotary_positional_embedding as rotary_positional_embedding,
)
from ._positional import (
    enformer as enformer,
    learned as learned,
    sinusoidal as sinusoidal,
    t5 as t5,
    transformer_xl as transformer_xl,
    tupe as tupe,
)
from ._xpos import (
    apply_rotary_pos_emb as apply_rotary_pos_emb,
    duplicate_interleave as duplicate_interleave,
    fixed_pos_embedding as fixed_pos_embedding,
    rotary_embedding as rotary_embedding,
    rotate_every_two as rotate_every_two,
    xpos as xpos,
)
from ._yarn import (
    find_correction_dim as find_correction_dim,
    find_correction_range as find_correction_range,
    get_mscale as get_mscale,
    linear_ramp_mask as linear_ramp_mask,
    yarn as yarn,
)
