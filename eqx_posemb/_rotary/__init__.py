"""Rotary embeddings, which multiply queries and keys."""

from ._abstract import (
    AbstractRotary as AbstractRotary,
    AbstractRotation as AbstractRotation,
    each_head as each_head,
)
from ._axes import (
    AbstractAxes as AbstractAxes,
    Assigned as Assigned,
    Axial as Axial,
    Mixed as Mixed,
    Sections as Sections,
)
from ._chain import Chain as Chain
from ._decay import log_zeta as log_zeta, XPosDecay as XPosDecay
from ._each_token import in_lengths as in_lengths
from ._extension import AbstractExtension as AbstractExtension
from ._nope import NoPE as NoPE
from ._pairing import Pairing as Pairing
from ._products import AbstractProducts as AbstractProducts
from ._recipes._by_parts import (
    long_magnitude as long_magnitude,
    magnitude as magnitude,
    yarn as yarn,
)
from ._recipes._rope import rope as rope, xpos as xpos
from ._recipes._scaling import linear_rope as linear_rope, ntk_rope as ntk_rope
from ._rotary import Rotary as Rotary
from ._rotation import Rotation as Rotation
from ._temperature import ScalableSoftmax as ScalableSoftmax, Temperature as Temperature
