"""Base classes of the parts of an embedding, for subclasses of users."""

from ._bias._abstract import (
    AbstractBias as AbstractBias,
    AbstractRelativeBias as AbstractRelativeBias,
)
from ._bias._window import AbstractWindowBias as AbstractWindowBias
from ._encoding._abstract import AbstractEncoding as AbstractEncoding
from ._rotary._abstract import (
    AbstractRotary as AbstractRotary,
    AbstractRotation as AbstractRotation,
)
from ._rotary._extension import AbstractExtension as AbstractExtension
from ._rotary._products import AbstractProducts as AbstractProducts
from ._score._abstract import AbstractScore as AbstractScore
