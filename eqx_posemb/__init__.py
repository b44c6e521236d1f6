"""Every positional embedding a transformer can have, for JAX and Equinox."""

from ._bias import (
    AbstractBias as AbstractBias,
    AbstractRelativeBias as AbstractRelativeBias,
    ALiBi as ALiBi,
    KERPLE as KERPLE,
    T5Bias as T5Bias,
)
from ._bundle import PositionalEmbedding as PositionalEmbedding
from ._encoding import (
    AbstractEncoding as AbstractEncoding,
    Learned as Learned,
    LearnedGrid as LearnedGrid,
    Sinusoidal as Sinusoidal,
    SinusoidalGrid as SinusoidalGrid,
)
from ._frequencies import (
    AbstractFrequencies as AbstractFrequencies,
    AbstractStaticFrequencies as AbstractStaticFrequencies,
    Concatenated as Concatenated,
    Divided as Divided,
    DynamicNTK as DynamicNTK,
    Geometric as Geometric,
    LearnedFrequencies as LearnedFrequencies,
    Linear as Linear,
    Listed as Listed,
    LongRoPEFrequencies as LongRoPEFrequencies,
    NTK as NTK,
    NTKByParts as NTKByParts,
    NTKMixed as NTKMixed,
    Scaled as Scaled,
    Tabulated as Tabulated,
    Truncated as Truncated,
    YaRNFrequencies as YaRNFrequencies,
)
from ._phase import Turns as Turns
from ._positions import (
    centred_positions as centred_positions,
    detr_positions as detr_positions,
    distance as distance,
    grid_positions as grid_positions,
    left_padded_positions as left_padded_positions,
    merged_patch_positions as merged_patch_positions,
    mrope_positions as mrope_positions,
    normalised_positions as normalised_positions,
    prefixed as prefixed,
    segment_positions as segment_positions,
    with_prefix as with_prefix,
    zigzag as zigzag,
    zigzag_inverse as zigzag_inverse,
)
from ._registry import make as make, variants as variants
from ._rotary import (
    AbstractAxes as AbstractAxes,
    AbstractRotary as AbstractRotary,
    AbstractRotation as AbstractRotation,
    Assigned as Assigned,
    Axial as Axial,
    axial_rope as axial_rope,
    Chain as Chain,
    dynamic_ntk_rope as dynamic_ntk_rope,
    linear_rope as linear_rope,
    llama3_rope as llama3_rope,
    longrope as longrope,
    Mixed as Mixed,
    mixed_rope as mixed_rope,
    mrope as mrope,
    NoPE as NoPE,
    ntk_rope as ntk_rope,
    Pairing as Pairing,
    proportional_rope as proportional_rope,
    rope as rope,
    Rotary as Rotary,
    Rotation as Rotation,
    ScalableSoftmax as ScalableSoftmax,
    Sections as Sections,
    Temperature as Temperature,
    xpos as xpos,
    XPosDecay as XPosDecay,
    yarn as yarn,
)
from ._score import (
    AbstractScore as AbstractScore,
    Enformer as Enformer,
    TransformerXL as TransformerXL,
)
