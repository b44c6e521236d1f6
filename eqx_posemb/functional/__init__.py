"""The pure functions under the modules, by the names that other libraries have.

For whoever keeps settings and parameters in arrays of their own. They are the modules'
own code, called on explicit positions, with nothing cached: a `jax.jit`, `jax.vmap` or
`jax.grad` around them is all that they need.
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
