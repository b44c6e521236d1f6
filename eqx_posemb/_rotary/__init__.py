"""The second place: multiplied into queries and keys."""

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
from ._extension import (
    AbstractExtension as AbstractExtension,
    DualChunk as DualChunk,
    ReRoPE as ReRoPE,
    SelfExtend as SelfExtend,
)
from ._fope import FoPE as FoPE
from ._lie import Cayley as Cayley, LieRE as LieRE
from ._nope import NoPE as NoPE
from ._pairing import Pairing as Pairing
from ._pope import PoPE as PoPE
from ._recipes import (
    axial_rope as axial_rope,
    dynamic_ntk_rope as dynamic_ntk_rope,
    linear_rope as linear_rope,
    llama3_rope as llama3_rope,
    longrope as longrope,
    magnitude as magnitude,
    mixed_rope as mixed_rope,
    mrope as mrope,
    ntk_rope as ntk_rope,
    proportional_rope as proportional_rope,
    rope as rope,
    string_rope as string_rope,
    xpos as xpos,
    yarn as yarn,
)
from ._rotary import Rotary as Rotary
from ._rotation import Rotation as Rotation
from ._temperature import ScalableSoftmax as ScalableSoftmax, Temperature as Temperature
