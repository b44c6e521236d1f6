"""The parts that rotary embeddings are made of."""

from ._rotary._chain import Chain as Chain
from ._rotary._decay import XPosDecay as XPosDecay
from ._rotary._lie import Cayley as Cayley
from ._rotary._pairing import Pairing as Pairing
from ._rotary._rotation import Rotation as Rotation
